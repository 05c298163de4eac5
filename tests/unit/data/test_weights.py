"""How often each example comes in an epoch."""

from collections import Counter

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data.shuffling import Draws
from seq2seq.data.weights import Entries, Share

parts = st.lists(
    st.builds(Share, st.integers(1, 30), st.one_of(st.just(1.0), st.floats(0.01, 4))),
    min_size=1,
    max_size=4,
)


def listed(entries: Entries, size: int) -> list[int]:
    """The example of each entry, read piece by piece."""
    number = 10**6
    found: list[int] = []
    for piece, examples in entries.pieces(size):
        assert piece.start == len(found)
        assert piece.stop - piece.start <= size
        found += numpy.arange(number)[examples].tolist()
        assert piece.stop == len(found)
    return found


@settings(deadline=None, max_examples=40)
@given(parts=parts, seed=st.integers(0, 2**63), size=st.integers(5, 40))
def test_entries_are_the_same_however_they_are_read(parts: list[Share], seed: int, size: int):
    entries = Entries(parts, Draws(seed, 1))
    examples = listed(entries, size)
    assert len(entries) == len(examples) == len(listed(entries, 100))
    some = numpy.arange(len(entries), dtype=numpy.uint64)[::-1].copy()
    assert entries.examples(some).tolist() == examples[::-1]


@pytest.mark.parametrize(
    ("weight", "times"),
    [(1.0, [1] * 10), (2.0, [2] * 10), (0.3, [0] * 7 + [1] * 3), (1.24, [1] * 8 + [2] * 2)],
)
def test_a_weight_by_hand(weight: float, times: list[int]):
    counts = Counter(listed(Entries([Share(10, weight)], Draws(1, 1)), 100))
    assert sorted(counts[example] for example in range(10)) == times


def test_no_corpus_is_left_out_of_an_epoch():
    examples = listed(Entries([Share(5, 1.0), Share(3, 0.001)], Draws(1, 1)), 100)
    assert examples[:5] == [0, 1, 2, 3, 4]
    assert len(examples) == 6
    assert examples[5] in (5, 6, 7)
