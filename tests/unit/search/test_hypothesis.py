"""Scores, by hand."""

import math

import pytest
import torch

from seq2seq.search.hypothesis import Scoring, coverage


def test_a_mean_is_what_it_is_by_default() -> None:
    assert Scoring().score(-6.0, 4) == -1.5
    assert Scoring(0.0).score(-6.0, 4) == -6.0
    assert Scoring(2.0).score(-6.0, 4) == -6.0 / 16


def test_gnmts_normalisation() -> None:
    assert Scoring(1.0, "gnmt").score(-6.0, 7) == -3.0  # (5 + 7) / 6 = 2
    assert Scoring(0.5, "gnmt").score(-6.0, 19) == -3.0  # the root of (5 + 19) / 6 = 4


@pytest.mark.parametrize("normalisation", ["average", "gnmt"])
def test_a_translation_without_tokens_gains_nothing_by_division(normalisation: str) -> None:
    assert Scoring(1.0, normalisation).score(-4.0, 1) == -4.0


def test_source_positions_that_were_hardly_attended_to_cost() -> None:
    attended = torch.tensor([[0.5, 2.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    values = coverage(attended).tolist()
    assert values == pytest.approx([math.log(0.5), -20.0])  # and never without end
    assert Scoring(1.0, "average", 0.2).score(-6.0, 4, values[0]) == -1.5 + 0.2 * math.log(0.5)
