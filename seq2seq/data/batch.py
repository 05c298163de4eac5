"""Batches: examples as padded tensors, in the order that LSTMs like best (time first)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy
import torch
from jaxtyping import Int
from torch import Tensor

from seq2seq.data.prepared import Ids
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
    longest = max(len(sentence) for sentence in sentences)
    columns = numpy.full((longest, len(sentences)), PAD, dtype=numpy.int64)
    for column, sentence in enumerate(sentences):
        columns[: len(sentence), column] = sentence
    return torch.from_numpy(columns)


def make_batch(
    source: Sequence[Ids], target: Sequence[Ids], examples: Sequence[int], *, weight: float = 1.0
) -> Batch:
    """Make a batch of pairs of ids.

    Args:
        source: ids of each source sentence, at least one each.
        target: ids of each target sentence, without special ones.
        examples: which examples these are.
        weight: what the loss is multiplied with.
    """
    target_input = pad([numpy.concatenate(([BOS], sentence)) for sentence in target])
    outputs = pad([numpy.concatenate((sentence, [EOS])) for sentence in target])
    steps = torch.arange(len(target_input))[:, None]
    real = steps <= torch.tensor([len(sentence) for sentence in target])
    rows = real.flatten().nonzero().squeeze(1)
    return Batch(
        source=pad(source),
        source_lengths=torch.tensor([len(sentence) for sentence in source]),
        target_input=target_input,
        target_rows=rows,
        target_output=outputs.flatten()[rows],
        examples=torch.tensor(examples),
        weight=weight,
    )
