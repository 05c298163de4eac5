"""How often the parts of a mix come."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config import DataConfig
from seq2seq.data.mix import weights

sizes = st.lists(st.integers(0, 10**9), min_size=1, max_size=6).filter(any)
temperatures = st.floats(0.1, 100.0)


def mix(number: int, *, temperature: float | None = None, weight: float = 1.0) -> DataConfig:
    part: dict[str, Any] = {"corpus": {"kind": "sample"}, "weight": weight}
    parts = {f"part-{place}": part for place in range(number)}
    corpus = {"kind": "mix", "parts": parts, "temperature": temperature}
    return DataConfig.model_validate({"corpus": corpus})


def test_weights_by_hand():
    # Shares by the square root: 100 to 10, though the sizes are 10,000 to 100.
    assert weights(mix(2, temperature=2), [10_000, 100]) == pytest.approx([1.0, 10.0])
    assert weights(mix(3, temperature=1), [5, 0, 70]) == [1.0, 1.0, 1.0]
    assert weights(mix(2, weight=2.5), [5, 70]) == [2.5, 2.5]
    assert weights(DataConfig(), [5]) == [1.0]


@given(sizes, temperatures)
def test_shares_grow_with_the_power_that_the_temperature_sets(sizes: list[int], temperature: float):
    found = weights(mix(len(sizes), temperature=temperature), sizes)
    assert all(weight > 0 for weight in found)
    largest = max(sizes)
    assert found[sizes.index(largest)] == 1.0
    for size, weight in zip(sizes, found, strict=True):
        share = (size / largest) ** (1 / temperature)
        assert weight * size == pytest.approx(share * largest, rel=1e-9)


@given(sizes, st.floats(1.0, 100.0), st.floats(1.0, 100.0))
def test_a_higher_temperature_brings_small_corpora_more_often(
    sizes: list[int], one: float, other: float
):
    low, high = (
        weights(mix(len(sizes), temperature=temperature), sizes)
        for temperature in sorted((one, other))
    )
    for less, more, size in zip(low, high, sizes, strict=True):
        assert 1.0 <= less <= more * (1 + 1e-12)
        assert more * size <= max(sizes) * (1 + 1e-9)
