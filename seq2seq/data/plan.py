"""The batch plan: which examples make up each optimizer step, as a pure function.

It depends on the lengths, the seed and the epoch alone, so every run and every process that knows
them agrees on it. Padding never enters the plan: it depends on how a batch is cut for a device.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy
import numpy.typing

Indices = numpy.typing.NDArray[numpy.int64]


class Lengths(NamedTuple):
    """Numbers of pieces of each example, the target's end of sentence counted."""

    source: Indices
    target: Indices


def plan_epoch(lengths: Lengths, *, seed: int, epoch: int, tokens_per_step: int) -> list[Indices]:
    """Divide the examples of one epoch into global batches, each one optimizer step.

    Examples of like length come together, those of the same lengths in a new order each epoch, and
    the batches are shuffled.

    Args:
        lengths: of all examples; no target may be longer than `tokens_per_step`.
        seed: of the run.
        epoch: counted from 0.
        tokens_per_step: most target tokens in a batch.

    Returns:
        The batches: indices of examples in order of length. Every example is in exactly one.
    """
    assert lengths.target.max(initial=0) <= tokens_per_step, "the config sees to it"
    bits = numpy.random.Philox(key=[seed, epoch])
    shuffled = _shuffle(bits, len(lengths.target))
    order = shuffled[numpy.lexsort((lengths.source[shuffled], lengths.target[shuffled]))]
    ends = numpy.cumsum(lengths.target[order])
    starts = [0]
    while starts[-1] < len(order):
        before = ends[starts[-1] - 1] if starts[-1] else 0
        starts.append(int(numpy.searchsorted(ends, before + tokens_per_step, side="right")))
    batches = [order[start:end] for start, end in pairwise(starts)]
    return [batches[index] for index in _shuffle(bits, len(batches))]


def _shuffle(bits: numpy.random.Philox, number: int) -> Indices:
    """Put 0 … number - 1 in random order.

    numpy promises the bits of a generator for all its versions, but not what its `permutation`
    makes of them.
    """
    return numpy.argsort(bits.random_raw(number), kind="stable")


def cut(
    batch: Indices, lengths: Lengths, *, rank: int, world_size: int, tokens_per_device: int
) -> list[Indices]:
    """Cut one process's share of a global batch into micro-batches that fit its device.

    The process takes every `world_size`-th example in order of length. All processes get as many
    micro-batches as the one that needs most; those of a process that has run out are empty.

    Args:
        batch: a global batch of `plan_epoch`.
        lengths: of all examples.
        rank: of the process.
        world_size: number of processes.
        tokens_per_device: most padded source and target positions in a micro-batch; a single
            example may have more.

    Returns:
        Micro-batches: indices of examples, together the process's share.
    """
    shares = [
        cut_share(batch[other::world_size], lengths, tokens_per_device)
        for other in range(world_size)
    ]
    most = max(len(share) for share in shares)
    return shares[rank] + [batch[:0]] * (most - len(shares[rank]))


def padded_positions(examples: Indices, lengths: Lengths) -> int:
    """Count the source and target positions of a batch of examples, padding included."""
    longest = lengths.source[examples].max(initial=0) + lengths.target[examples].max(initial=0)
    return len(examples) * int(longest)


def padded_pairs(examples: Indices, lengths: Lengths) -> int:
    """Count the pairs of a source and a target position of one example, padding included."""
    source, target = (side[examples].max(initial=0) for side in lengths)
    return len(examples) * int(source) * int(target)


def cut_share(share: Indices, lengths: Lengths, tokens_per_device: int) -> list[Indices]:
    """Cut examples into micro-batches, none of which is empty."""
    pieces: list[Indices] = []
    start, longest_source, longest_target = 0, 0, 0
    for end, example in enumerate(share):
        longest_source = max(longest_source, int(lengths.source[example]))
        longest_target = max(longest_target, int(lengths.target[example]))
        padded = (end + 1 - start) * (longest_source + longest_target)
        if padded > tokens_per_device and end > start:
            pieces.append(share[start:end])
            start = end
            longest_source = int(lengths.source[example])
            longest_target = int(lengths.target[example])
    return [*pieces, share[start:]] if len(share) else []


def by_length(lengths: Sequence[int] | Indices, positions: int) -> Iterator[list[int]]:
    """Divide sentences into batches of like length to translate, longest first.

    Args:
        lengths: of the sentences, at least 1.
        positions: most padded positions in a batch; a single sentence may have more.

    Yields:
        Numbers of sentences; those of the same length stay in order.
    """
    left = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    while left:
        size = max(1, positions // int(lengths[left[0]]))
        yield left[:size]
        left = left[size:]
