"""What may follow, with rows of probabilities written down by hand."""

from math import inf, log

import pytest
import torch

from seq2seq.search.rules import Rules, Wishes
from seq2seq.vocabulary import BOS, EOS
from tests.search_builders import SIZE, SYMBOLS, A, B, C

EVEN = log(1 / SIZE)


def after(
    *tokens: int, wishes: Wishes, block_ngrams: int = 0, repetition_penalty: float = 1.0
) -> list[float]:
    """What may follow these tokens, when a network finds all alike."""
    rules = Rules(
        [wishes],
        SYMBOLS,
        block_ngrams=block_ngrams,
        repetition_penalty=repetition_penalty,
        device=torch.device("cpu"),
    )
    rows = torch.full((1, SIZE), EVEN, dtype=torch.float64)
    history = torch.tensor([[BOS, *tokens]])
    return rules.apply(rows, torch.tensor([0]), history)[0].tolist()


def allowed(row: list[float]) -> set[int]:
    return {token for token, value in enumerate(row) if value > -inf}


ANY = {EOS, *range(A, SIZE)}


@pytest.mark.parametrize(
    ("number", "expected"), [(0, ANY - {EOS}), (1, ANY - {EOS}), (2, ANY), (3, ANY), (4, {EOS})]
)
def test_the_end_comes_neither_too_early_nor_too_late(number: int, expected: set[int]) -> None:
    assert allowed(after(*[A] * number, wishes=Wishes(2, 4))) == expected


def test_no_sequence_of_tokens_comes_twice() -> None:
    wishes = Wishes(0, 9)
    history = (A, B, C, A, B)
    assert allowed(after(*history, wishes=wishes, block_ngrams=3)) == ANY - {C}
    assert allowed(after(*history, wishes=wishes, block_ngrams=2)) == ANY - {C}
    assert allowed(after(*history, wishes=wishes, block_ngrams=1)) == ANY - {A, B, C}
    assert allowed(after(*history, A, wishes=wishes, block_ngrams=2)) == ANY - {B}
    assert allowed(after(A, wishes=wishes, block_ngrams=3)) == ANY


def test_what_came_before_loses_by_the_penalty_once() -> None:
    row = after(A, B, A, wishes=Wishes(0, 9), repetition_penalty=1.5)
    assert row[A] == row[B] == pytest.approx(1.5 * EVEN)
    assert row[C] == row[EOS] == EVEN


def test_a_prefix_is_taken_whatever_it_is() -> None:
    wishes = Wishes(0, 9, prefix=[B, 3])
    assert allowed(after(wishes=wishes)) == {B}
    assert allowed(after(B, wishes=wishes)) == {3}  # the unknown token, which never comes else
    assert allowed(after(B, 3, wishes=wishes)) == ANY
