"""The loss: against hand computation, and untouched by padding."""

from math import exp, log

import pytest
import torch
from torch import Tensor

from seq2seq.data.batch import Batch
from seq2seq.model.loss import token_loss
from seq2seq.model.network import Network
from tests.builders import assert_close, batch_of, noisy_batch, tiny_network

LOGITS = ((0.5, -1.0, 2.0, 0.0), (3.0, 0.25, -0.5, 1.0))
EXPECTED = (2, 1)


def by_hand(logits: tuple[float, ...], expected: int, smoothing: float) -> float:
    total = sum(exp(logit) for logit in logits)
    logs = [log(exp(logit) / total) for logit in logits]
    return -(1 - smoothing) * logs[expected] - smoothing * sum(logs) / len(logs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_label_smoothing_spreads_over_the_whole_vocabulary(smoothing: float) -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    loss = token_loss(logits, torch.tensor(EXPECTED), smoothing=smoothing)
    each = [by_hand(row, token, smoothing) for row, token in zip(LOGITS, EXPECTED, strict=True)]
    assert loss.item() == pytest.approx(sum(each), abs=1e-12)  # a sum over tokens, no mean


def backward(network: Network, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    network.zero_grad()
    logits = network(batch.source, batch.source_lengths, batch.target_input, batch.target_rows)
    loss = token_loss(logits, batch.target_output, smoothing=0.1)
    loss.backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    return loss.detach(), [gradient.clone() for gradient in gradients if gradient is not None]


def test_padding_changes_neither_loss_nor_gradient() -> None:
    network = tiny_network()
    batch = batch_of(([4, 5, 6, 7], [8, 4]), ([5], [4, 6, 8, 7, 5]), ([8, 4], []))
    loss, gradients = backward(network, batch)
    assert len(gradients) == len(list(network.parameters()))
    for seed, extra in enumerate((0, 4)):
        noisy_loss, noisy_gradients = backward(network, noisy_batch(batch, extra=extra, seed=seed))
        assert_close(noisy_loss, loss)
        for noisy, gradient in zip(noisy_gradients, gradients, strict=True):
            assert_close(noisy, gradient)


def test_the_loss_of_a_batch_is_the_sum_of_its_sentences() -> None:
    network = tiny_network()
    pairs = [([4, 5, 6, 7], [8, 4]), ([5], [4, 6, 8, 7, 5]), ([8, 4], [])]
    loss, gradients = backward(network, batch_of(*pairs))
    alone = [backward(network, batch_of(pair)) for pair in pairs]
    assert_close(loss, torch.stack([part for part, _ in alone]).sum())
    sums = [torch.stack(parts).sum(dim=0) for parts in zip(*(g for _, g in alone), strict=True)]
    for gradient, total in zip(gradients, sums, strict=True):
        assert_close(gradient, total, 1e-11)
