"""Batches: examples as padded tensors, in the order that LSTMs like best (time first)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy
import torch
from jaxtyping import Int
from torch import Tensor

from seq2seq.data.plan import Indices
from seq2seq.data.prepared import FlatIds, Ids
from seq2seq.vocabulary import BOS, EOS, PAD


class Batch(NamedTuple):
    """Pairs of sentences that are computed at once.

    `target_rows` are the real positions of `target_input` when its two axes are flattened, and
    `target_output` the tokens to be predicted there: no position of padding is ever scored.
    """

    source: Int[Tensor, "source_len batch"]
    source_lengths: Int[Tensor, " batch"]
    target_input: Int[Tensor, "target_len batch"]
    target_rows: Int[Tensor, " tokens"]
    target_output: Int[Tensor, " tokens"]
    examples: Int[Tensor, " batch"]
    weight: float
    """1, or 0 for a batch that only keeps this process in step with others."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Go from a loader's worker to its process as bytes.

        torch would share the memory, which takes a file and a connection for each tensor: that is
        ten times as slow, and containers have little of it.
        """
        return _rebuilt, tuple(part.numpy() if isinstance(part, Tensor) else part for part in self)


def _rebuilt(*parts: Any) -> Batch:
    """Make a batch of its parts again, tensors of which are arrays."""
    tensors: list[Any] = [
        torch.from_numpy(part) if isinstance(part, numpy.ndarray) else part for part in parts
    ]
    return Batch(*tensors)


class Step(NamedTuple):
    """What one process computes in one optimizer step, and what the whole step counts."""

    batches: tuple[Batch, ...]
    target_tokens: int
    """Real target tokens of the step, over all processes."""
    source_tokens: int
    """Real source tokens of the step, over all processes."""
    epoch: int


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to where it is computed."""
    tensors = {name: part for name, part in batch._asdict().items() if isinstance(part, Tensor)}
    return batch._replace(**{name: part.to(device) for name, part in tensors.items()})


def padded_size(batch: Batch) -> int:
    """Count the source and target positions of a batch, padding included."""
    return batch.source.numel() + batch.target_input.numel()


def pad(sentences: Sequence[Ids]) -> Int[Tensor, "length batch"]:
    """Put sentences side by side as columns, filled up with `PAD`."""
    flat = FlatIds.of(sentences)
    columns, places = _columns(flat, rows=int(flat.lengths.max()))
    columns.ravel()[places] = flat.ids
    return torch.from_numpy(columns)


def make_batch(
    source: FlatIds, target: FlatIds, examples: Indices, *, weight: float = 1.0
) -> Batch:
    """Make a batch of pairs of ids.

    Args:
        source: ids of each source sentence, at least one each.
        target: ids of each target sentence, without special ones.
        examples: which examples these are.
        weight: what the loss is multiplied with.
    """
    number, longest = len(examples), int(target.lengths.max())
    sources, places = _columns(source, rows=int(source.lengths.max()))
    sources.ravel()[places] = source.ids
    outputs, places = _columns(target, rows=longest + 1)
    inputs = outputs.copy()
    inputs[0] = BOS
    inputs.ravel()[places + number] = target.ids  # a row below
    outputs.ravel()[places] = target.ids
    outputs[target.lengths, numpy.arange(number)] = EOS
    rows = numpy.flatnonzero(numpy.arange(longest + 1)[:, None] <= target.lengths)
    return Batch(
        source=torch.from_numpy(sources),
        source_lengths=torch.from_numpy(source.lengths),
        target_input=torch.from_numpy(inputs),
        target_rows=torch.from_numpy(rows),
        target_output=torch.from_numpy(outputs.ravel()[rows]),
        examples=torch.from_numpy(examples),
        weight=weight,
    )


def _columns(flat: FlatIds, rows: int) -> tuple[Indices, Indices]:
    """Make a matrix of padding, and say where in it, flattened, the ids get to."""
    number = len(flat.lengths)
    starts = numpy.cumsum(flat.lengths) - flat.lengths
    # The id that is the i-th of its sentence gets to row i, in the sentence's column.
    places = numpy.arange(len(flat.ids)) * number
    places += numpy.repeat(numpy.arange(number) - starts * number, flat.lengths)
    return numpy.full((rows, number), PAD, dtype=numpy.int64), places
