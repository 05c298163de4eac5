"""How much a step computes, and how fast the machine could at best."""

import time
from typing import NamedTuple

import torch

from seq2seq.data.batch import Step
from seq2seq.model.network import Network
from seq2seq.parallel.device import finish

_SIZES = {"cpu": (1024, 2048), "mps": (2048, 4096), "cuda": (4096, 8192)}
_CALLS = {"cpu": 1, "mps": 5, "cuda": 5}  # in a row, where a call takes less time than waiting
_SECONDS = 0.3  # for each size


class Weights(NamedTuple):
    """Numbers of weights that are multiplied with something, once for each of what they are for."""

    source: int
    """For each position of the source: the encoder, and the attention's keys and values."""
    target: int
    """For each position of the target: the decoder's layers, and the attention's queries."""
    readout: int
    """For each real token of the target: the readout and the output."""

    @staticmethod
    def of(network: Network) -> "Weights":
        """Count those of a network; a table that is looked up isn't multiplied."""
        counts = {"source": 0, "target": 0, "readout": 0}
        for name, parameter in network.named_parameters(remove_duplicate=False):
            if parameter.dim() == 2 and (part := _part(name)):
                counts[part] += parameter.numel()
        return Weights(**counts)

    def operations(self, source: int, target: int, tokens: int) -> int:
        """Count the floating-point operations of training on positions and real target tokens.

        A multiplication and an addition for each weight, forward, for the gradient of the input,
        and for that of the weight. Attention's scores are left out: they take a thousandth.
        """
        return 6 * (self.source * source + self.target * target + self.readout * tokens)


def _part(name: str) -> str:
    """Say what a matrix is used for, by its name; nothing for what is small or looked up."""
    if name.startswith(("decoder.attention.key", "decoder.attention.value", "encoder.")):
        return "source"
    if name.startswith(("decoder.readout", "output.")):
        return "readout"
    return "target" if name.startswith("decoder.") else ""


class Work(NamedTuple):
    """What steps have in them, over all processes or in one."""

    steps: int = 0
    source_tokens: int = 0
    """Real ones, over all processes."""
    target_tokens: int = 0
    """Real ones, over all processes."""
    source_positions: int = 0
    """Padding counted, in this process."""
    target_positions: int = 0
    """Padding counted, in this process."""
    scored_tokens: int = 0
    """Real target tokens in this process."""

    def with_step(self, step: Step) -> "Work":
        """Add a step."""
        return Work(
            self.steps + 1,
            self.source_tokens + step.source_tokens,
            self.target_tokens + step.target_tokens,
            self.source_positions + sum(batch.source.numel() for batch in step.batches),
            self.target_positions + sum(batch.target_input.numel() for batch in step.batches),
            self.scored_tokens + sum(len(batch.target_output) for batch in step.batches),
        )


def best_products(device: torch.device, kind: torch.dtype) -> float:
    """Measure the most operations a second that square matrix products reach.

    Args:
        device: to compute on.
        kind: of the numbers.
    """
    return max(_products(size, device, kind) for size in _SIZES[device.type])


def _products(size: int, device: torch.device, kind: torch.dtype) -> float:
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    torch.mm(left, right)
    finish(device)
    calls = _CALLS[device.type]
    best, until = 0.0, time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        for _ in range(calls):
            torch.mm(left, right)
        finish(device)
        best = max(best, calls * 2 * size**3 / (time.perf_counter() - began))
    return best
