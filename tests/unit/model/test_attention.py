"""Attention: weights and contexts against values worked out by hand."""

from math import exp, sqrt

import torch
from torch import Tensor

from seq2seq.model.attention import Attention
from tests.builders import assert_close

# Keys are the values times this matrix: [1, 0], [1, 2] and [3, 2].
KEY_WEIGHTS = [[1.0, 1.0], [0.0, 2.0]]
VALUES = [[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]
QUERIES = [[1.0, 0.0], [0.0, 1.0]]  # so the scores are 1, 1, 3 and 0, 2, 2, over the root of 2


def look_up(mask: list[bool]) -> tuple[Tensor, Tensor]:
    attention = Attention(2, 2).double()
    attention.key.weight.data = torch.tensor(KEY_WEIGHTS, dtype=torch.float64)
    values = torch.tensor([VALUES], dtype=torch.float64)
    memory = attention.remember(values, torch.tensor([mask]))
    contexts, weights = attention(torch.tensor([QUERIES], dtype=torch.float64), memory)
    return contexts.detach()[0], weights.detach()[0]


def test_two_queries_and_three_positions_by_hand() -> None:
    contexts, weights = look_up([True, True, True])
    zero, one, two, three = (exp(score / sqrt(2)) for score in (0, 1, 2, 3))
    first = [part / (one + one + three) for part in (one, one, three)]
    second = [part / (zero + two + two) for part in (zero, two, two)]
    assert_close(weights, torch.tensor([first, second], dtype=torch.float64))
    expected = [[a + 2 * c, b + c] for a, b, c in (first, second)]
    assert_close(contexts, torch.tensor(expected, dtype=torch.float64))


def test_padding_gets_nothing() -> None:
    contexts, weights = look_up([True, True, False])
    zero, two = 1.0, exp(2 / sqrt(2))
    second = [zero / (zero + two), two / (zero + two)]
    assert_close(weights, torch.tensor([[0.5, 0.5, 0.0], [*second, 0.0]], dtype=torch.float64))
    assert_close(contexts, torch.tensor([[0.5, 0.5], second], dtype=torch.float64))


def test_rows_sum_to_one_over_real_tokens() -> None:
    torch.manual_seed(0)
    attention = Attention(4, 3).double()
    values = 10 * torch.randn(5, 7, 3, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([1, 2, 4, 6, 7])[:, None]
    _, weights = attention(
        torch.randn(5, 2, 4, dtype=torch.float64), attention.remember(values, mask)
    )
    assert_close(weights.sum(dim=2), torch.ones(5, 2, dtype=torch.float64))
    assert not weights[~mask[:, None].expand_as(weights)].any()
