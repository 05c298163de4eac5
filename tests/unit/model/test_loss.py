"""The loss: against hand computation, and untouched by padding."""

import copy
import subprocess
import sys
from math import exp, log
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from seq2seq.data.batch import Batch
from seq2seq.model.loss import token_loss
from seq2seq.model.network import Network
from tests.builders import assert_close, batch_of, noisy_batch, tiny_network

ROWS = ((0.5, -1.0, 2.0, 0.0), (3.0, 0.25, -0.5, 1.0))
EXPECTED = (2, 1)


def by_hand(logits: tuple[float, ...], expected: int, smoothing: float) -> float:
    total = sum(exp(logit) for logit in logits)
    logs = [log(exp(logit) / total) for logit in logits]
    return -(1 - smoothing) * logs[expected] - smoothing * sum(logs) / len(logs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_label_smoothing_spreads_over_the_whole_vocabulary(smoothing: float) -> None:
    as_it_is = nn.Linear(4, 4).double()
    as_it_is.weight.data, as_it_is.bias.data = torch.eye(4).double(), torch.zeros(4).double()
    features = torch.tensor(ROWS, dtype=torch.float64)
    loss = token_loss(features, as_it_is, torch.tensor(EXPECTED), smoothing=smoothing)
    each = [by_hand(row, token, smoothing) for row, token in zip(ROWS, EXPECTED, strict=True)]
    assert loss.item() == pytest.approx(sum(each), abs=1e-12)  # a sum over tokens, no mean


def loss_and_gradients(
    loss: Tensor, features: Tensor, output: nn.Linear
) -> tuple[Tensor, tuple[Tensor, ...]]:
    wanted = [part for part in (features, *output.parameters()) if part.requires_grad]
    return loss.detach(), torch.autograd.grad(0.3 * loss, wanted)


@given(
    st.integers(1, 40), st.integers(2, 30), st.sampled_from([0.0, 0.1, 0.9]), st.integers(1, 2000)
)
@settings(deadline=None, max_examples=40)
def test_it_is_torchs_loss_however_many_rows_are_scored_at_once(
    tokens: int, size: int, smoothing: float, at_once: int
) -> None:
    torch.manual_seed(tokens)
    output = nn.Linear(5, size).double()
    features = torch.randn(tokens, 5, dtype=torch.float64, requires_grad=True)
    expected = torch.randint(size, (tokens,))
    plain = functional.cross_entropy(
        output(features), expected, label_smoothing=smoothing, reduction="sum"
    )
    with patch("seq2seq.model.loss.BYTES_AT_ONCE", at_once):
        ours = token_loss(features, output, expected, smoothing=smoothing)
    loss, gradients = loss_and_gradients(ours, features, output)
    wanted_loss, wanted = loss_and_gradients(plain, features, output)
    assert_close(loss, wanted_loss, 1e-10)
    for gradient, other in zip(gradients, wanted, strict=True):
        assert_close(gradient, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_kernel_of_a_gpu_does_what_torch_does(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    output = nn.Linear(64, 5003).double()
    features = torch.randn(300, 64, dtype=torch.float64)
    expected = torch.randint(5003, (300,))
    there = copy.deepcopy(output).float().cuda()
    rounded = features.cuda().to(kind)
    narrow = copy.deepcopy(there).to(kind).double().cpu() if kind is torch.bfloat16 else output
    found: list[list[Tensor]] = []
    for layer, inputs, place in ((narrow, rounded.double().cpu(), "cpu"), (there, rounded, "cuda")):
        inputs.requires_grad_()
        with torch.autocast("cuda", dtype=kind, enabled=kind is not torch.float32):
            loss = token_loss(inputs, layer, expected.to(place), smoothing=0.1)
        _, gradients = loss_and_gradients(loss, inputs, layer)
        found.append([loss.detach().double().cpu(), *(part.double().cpu() for part in gradients)])
    for one, other in zip(*found, strict=True):
        rough = (one - other).norm() / one.norm()
        assert rough < (1e-2 if kind is torch.bfloat16 else 1e-5)


def test_a_table_that_stays_as_it_is_gets_no_gradient() -> None:
    output, features = nn.Linear(5, 7).double(), torch.randn(6, 5).double().requires_grad_()
    output.weight.requires_grad_(False)
    expected = torch.tensor([0, 1, 2, 3, 4, 5])
    token_loss(features, output, expected, smoothing=0.1).backward()
    assert output.weight.grad is None
    assert output.bias.grad is not None
    plain = functional.cross_entropy(
        output(features), expected, label_smoothing=0.1, reduction="sum"
    )
    assert features.grad is not None
    assert_close(features.grad, torch.autograd.grad(plain, features)[0])


class Largest(TorchDispatchMode):
    """Notes how many elements the largest tensor has that is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor):
                self.elements = max(self.elements, part.numel())
        return result


def test_the_scores_of_all_tokens_are_never_there_at_once() -> None:
    output, features = nn.Linear(4, 100), torch.randn(1000, 4, requires_grad=True)
    with patch("seq2seq.model.loss.BYTES_AT_ONCE", 4 * 100 * 30), Largest() as largest:
        token_loss(features, output, torch.zeros(1000).long(), smoothing=0.1).backward()
    assert largest.elements == max(30 * 100, features.numel())


MEASURED = """
import resource, sys, torch
from torch.nn import Linear, functional
from seq2seq.model.loss import token_loss
output, features = Linear(512, 32000), torch.randn(8192, 512, requires_grad=True)
expected = torch.randint(32000, (8192,))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.argv[1] == "plain":
    loss = functional.cross_entropy(
        output(features), expected, label_smoothing=0.1, reduction="sum")
else:
    loss = token_loss(features, output, expected, smoothing=0.1)
loss.backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.long
def test_a_quarter_of_the_memory_is_enough() -> None:
    plain, ours = (
        int(subprocess.check_output([sys.executable, "-c", MEASURED, name], text=True))
        for name in ("plain", "ours")
    )
    print(f"plain {plain / 1024:.0f} MiB, ours {ours / 1024:.0f} MiB: {ours / plain:.1%}")
    assert ours < 0.25 * plain


def backward(network: Network, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    network.zero_grad()
    features = network(batch.source, batch.source_lengths, batch.target_input, batch.target_rows)
    loss = token_loss(features, network.output, batch.target_output, smoothing=0.1)
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
