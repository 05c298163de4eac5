"""Attention: weights and contexts against values worked out by hand."""

from math import exp, sqrt, tanh

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from seq2seq.model.attention import (
    AdditiveAttention,
    Attention,
    Memory,
    MultiHeadAttention,
    ProductAttention,
)
from tests.builders import assert_close

# Keys are the values times this matrix: [1, 0], [1, 2] and [3, 2].
KEY_WEIGHTS = [[1.0, 1.0], [0.0, 2.0]]
VALUES = [[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]
QUERIES = [[1.0, 0.0], [0.0, 1.0]]


def double(rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def look_up(attention: nn.Module, mask: list[bool]) -> tuple[Tensor, Tensor]:
    """Look up QUERIES in VALUES."""
    assert isinstance(attention, Attention)
    keys, values = attention.project(double([VALUES]))
    memory = Memory(keys, values, torch.tensor([mask]), torch.zeros(1, 1, 1))
    contexts, weights = attention(double([QUERIES]), memory)
    return contexts.detach()[0], weights.detach()[0]


def softmax(scores: list[float]) -> list[float]:
    return [exp(score) / sum(map(exp, scores)) for score in scores]


def contexts_of(weights: list[list[float]]) -> Tensor:
    return double(weights) @ double(VALUES)


def general(*, scaled: bool = True) -> ProductAttention:
    attention = ProductAttention(2, 2, learnt=True, scaled=scaled).double()
    attention.key.weight.data = double(KEY_WEIGHTS)
    return attention


@pytest.mark.parametrize("scaled", [True, False])
def test_general_products(scaled: bool) -> None:
    root = sqrt(2) if scaled else 1.0
    contexts, weights = look_up(general(scaled=scaled), [True, True, True])
    scores = ([1, 1, 3], [0, 2, 2])
    expected = [softmax([score / root for score in row]) for row in scores]
    assert_close(weights, double(expected))
    assert_close(contexts, contexts_of(expected))


@pytest.mark.parametrize("scaled", [True, False])
def test_products_of_the_states_themselves(scaled: bool) -> None:
    root = sqrt(2) if scaled else 1.0
    attention = ProductAttention(2, 2, learnt=False, scaled=scaled)
    assert not list(attention.parameters())
    contexts, weights = look_up(attention, [True, True, True])
    expected = [softmax([score / root for score in row]) for row in ([1, 0, 2], [0, 1, 1])]
    assert_close(weights, double(expected))
    assert_close(contexts, contexts_of(expected))


@pytest.mark.parametrize("normalised", [False, True])
def test_a_small_network_scores_the_pairs(normalised: bool) -> None:
    attention = AdditiveAttention(2, 2, size=2, normalised=normalised).double()
    attention.key.weight.data = double(KEY_WEIGHTS)
    attention.query.weight.data = double([[0.5, -1.0], [2.0, 0.25]])
    attention.score.weight.data = double([[3.0, -4.0]])
    shift, factor = (0.0, 0.0), 1.0
    if normalised:
        shift, factor = (0.1, -0.2), 0.7 / 5  # 5 is the length of (3, -4)
        attention.query.bias.data = double(shift)
        assert attention.length is not None
        attention.length.data = double(0.7)
    contexts, weights = look_up(attention, [True, True, True])
    expected: list[list[float]] = []
    for query in ((0.5, 2.0), (-1.0, 0.25)):  # what the matrix makes of QUERIES
        scores: list[float] = []
        for key in ((1, 0), (1, 2), (3, 2)):
            hidden = [tanh(q + k + b) for q, k, b in zip(query, key, shift, strict=True)]
            scores.append(factor * (3 * hidden[0] - 4 * hidden[1]))
        expected.append(softmax(scores))
    assert_close(weights, double(expected))
    assert_close(contexts, contexts_of(expected))


def test_several_heads_are_torchs_own() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(6, 6, heads=3).double()
    queries, states = torch.randn(2, 4, 6).double(), torch.randn(2, 5, 6).double()
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    memory = Memory(*attention.project(states), mask, torch.zeros(2, 1, 1))
    contexts, weights = attention(queries, memory)
    parts = (attention.query, attention.key, attention.value)
    expected, heads = functional.multi_head_attention_forward(
        queries.transpose(0, 1),
        states.transpose(0, 1),
        states.transpose(0, 1),
        embed_dim_to_check=6,
        num_heads=3,
        in_proj_weight=torch.cat([part.weight for part in parts]),
        in_proj_bias=None,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=attention.output.weight,
        out_proj_bias=torch.zeros(6).double(),
        key_padding_mask=~mask,
    )
    assert_close(contexts, expected.transpose(0, 1))
    assert heads is not None
    assert_close(weights, heads)


def test_padding_gets_nothing() -> None:
    contexts, weights = look_up(general(), [True, True, False])
    zero, two = 1.0, exp(2 / sqrt(2))
    second = [zero / (zero + two), two / (zero + two)]
    assert_close(weights, double([[0.5, 0.5, 0.0], [*second, 0.0]]))
    assert_close(contexts, double([[0.5, 0.5], second]))
