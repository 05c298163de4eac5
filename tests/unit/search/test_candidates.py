"""What a hypothesis may go on with, against distributions written down by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.search.candidates import Sampling, best, drawn

PROBABILITIES = [0.1, 0.4, 0.05, 0.25, 0.2]  # in order: 1, 3, 4, 0, 2
EACH = [(place + 0.5) / 1000 for place in range(1000)]


def shares(sampling: Sampling, probabilities: list[float] = PROBABILITIES) -> list[float]:
    """How often each token is drawn, when the numbers to draw with are spread evenly."""
    rows = torch.tensor([probabilities] * len(EACH), dtype=torch.float64).log()
    found = drawn(rows, torch.tensor(EACH, dtype=torch.float64), sampling)
    assert found.values.exp().flatten().tolist() == pytest.approx(
        [probabilities[token] for token in found.tokens.flatten().tolist()]
    )
    counts = torch.bincount(found.tokens.flatten(), minlength=len(probabilities))
    return [count / len(EACH) for count in counts.tolist()]


def test_the_likeliest_come_in_their_order() -> None:
    rows = torch.tensor([PROBABILITIES, PROBABILITIES[::-1]]).log()
    assert best(rows, 3).tokens.tolist() == [[1, 3, 4], [3, 1, 0]]
    assert best(rows, 9).tokens.shape == (2, 5)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0, 0, 1.0), PROBABILITIES),
        (Sampling(1.0, 2, 1.0), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        # 0.4 + 0.25 is less than 0.7, so the third is drawn as well.
        (Sampling(1.0, 0, 0.7), [0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85]),
        (Sampling(1.0, 0, 0.3), [0, 1, 0, 0, 0]),
        # Of the two likeliest, the first has 0.4 / 0.65 = 0.62 of the probability.
        (Sampling(1.0, 2, 0.6), [0, 1, 0, 0, 0]),
        (Sampling(1.0, 2, 0.63), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        (Sampling(0.5, 2, 1.0), [0, 0.16 / 0.2225, 0, 0.0625 / 0.2225, 0]),  # squares
    ],
)
def test_tokens_are_drawn_as_often_as_they_should_be(
    sampling: Sampling, expected: list[float]
) -> None:
    assert shares(sampling) == pytest.approx(expected, abs=0.0011)


def test_what_is_ruled_out_is_never_drawn() -> None:
    assert shares(Sampling(3.0, 0, 1.0), [0.0, 0.5, 0.0, 0.5, 0.0]) == [0, 0.5, 0, 0.5, 0]


@given(st.floats(0, 1, exclude_max=True, width=32), st.sampled_from([0, 1, 3]))
def test_any_number_draws_something(number: float, top_k: int) -> None:
    rows = torch.tensor([[0.0, 0.3, 0.7, 0.0]]).log()
    found = drawn(rows, torch.tensor([number]), Sampling(1.0, top_k, 1.0))
    assert found.tokens.tolist() in ([[1]], [[2]])
