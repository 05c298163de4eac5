"""How much of a batch is padding, and who meets again: this plan's batches and those of others."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy

from seq2seq.data.cutting import cut_share, padded_positions
from seq2seq.data.plan import Indices, Lengths, Plan, plan_epoch

_BUCKET = 262_144  # examples that OpenNMT-py sorts at once by default


class Batching(NamedTuple):
    """The batches of an epoch, and what becomes of them in the next one."""

    global_batches: int
    micro_batches: int
    padding: float
    """1 - real positions / computed ones, source and target."""
    meet_again: float
    """Of the pairs of examples in a global batch, the share that are in one in the next epoch."""
    meet_again_micro: float
    """The same, of micro-batches."""


def our_batching(lengths: Lengths, *, seed: int, tokens_per_step: int, positions: int) -> Batching:
    """Plan two epochs, and cut them as one process does.

    Args:
        lengths: of all examples.
        seed: of the run.
        tokens_per_step: most target tokens in a global batch.
        positions: most padded positions in a micro-batch.
    """
    plans = [
        plan_epoch(lengths, seed=seed, epoch=epoch, tokens_per_step=tokens_per_step)
        for epoch in (0, 1)
    ]
    whole = [_batches(plan) for plan in plans]
    cut = [
        [part for batch in epoch for part in cut_share(batch, lengths, positions)]
        for epoch in whole
    ]
    return _described(whole, cut, lengths)


def _batches(plan: Plan) -> list[Indices]:
    return [plan[number] for number in range(len(plan))]


def _described(whole: list[list[Indices]], cut: list[list[Indices]], lengths: Lengths) -> Batching:
    number = len(lengths.target)
    return Batching(
        len(whole[0]),
        len(cut[0]),
        padding(cut[0], lengths),
        meet_again(whole[0], whole[1], number),
        meet_again(cut[0], cut[1], number),
    )


def their_batching(
    rule: Callable[[Lengths, int, int], Iterator[Indices]], lengths: Lengths, *, positions: int
) -> Batching:
    """Divide two epochs as another toolkit does; its batches are global ones and micro-batches.

    Args:
        rule: gives the batches of an epoch, of so many positions a side.
        lengths: of all examples.
        positions: source and target; the others count the longer side alone, and get half of it.
    """
    epochs = [list(rule(lengths, positions // 2, epoch)) for epoch in (0, 1)]
    return _described(epochs, epochs, lengths)


def opennmt_rule(lengths: Lengths, tokens: int, epoch: int) -> Iterator[Indices]:
    """Batches of OpenNMT-py 3.5 (`DynamicDatasetIter`, `batch_type: tokens`).

    Stretches of the corpus, in its order, are sorted by source and target length and cut. An epoch
    smaller than a bucket is sorted by itself, where OpenNMT-py would read it several times.
    """
    for start in range(0, len(lengths.target), _BUCKET):
        bucket = numpy.arange(start, min(start + _BUCKET, len(lengths.target)))
        order = numpy.lexsort((lengths.target[bucket], lengths.source[bucket]))
        yield from _filled(bucket[order], lengths, tokens, overfull=False)


def joeynmt_rule(lengths: Lengths, tokens: int, epoch: int) -> Iterator[Indices]:
    """Batches of JoeyNMT 2.3 (`TokenBatchSampler`): examples at random until it is enough."""
    order = numpy.random.default_rng(epoch).permutation(len(lengths.target))
    return _filled(order, lengths, tokens, overfull=True)


def _filled(order: Indices, lengths: Lengths, tokens: int, *, overfull: bool) -> Iterator[Indices]:
    """Fill batches one after the other; the last example may be too much for one, or not."""
    longer = numpy.maximum(*(side[order] for side in lengths)).tolist()
    start = longest = 0
    for place, length in enumerate(longer):
        longest = max(longest, length)
        size = (place + 1 - start) * longest
        if overfull and size >= tokens:
            yield order[start : place + 1]
            start, longest = place + 1, 0
        elif not overfull and size > tokens and place > start:
            yield order[start:place]
            start, longest = place, length
    if start < len(order):
        yield order[start:]


def padding(batches: list[Indices], lengths: Lengths) -> float:
    """Say which share of the source and target positions is padding."""
    computed = sum(padded_positions(batch, lengths) for batch in batches)
    real = sum(int(side.sum(dtype=numpy.int64)) for side in lengths)
    return 1 - real / computed


def meet_again(first: list[Indices], second: list[Indices], number: int) -> float:
    """Say which share of the pairs that are in a batch are in one of another epoch, too.

    Args:
        first: batches of `number` examples, each in one of them.
        second: other batches of the same.
        number: of examples.
    """
    one, other = (_numbered(batches, number) for batches in (first, second))
    together = _pairs(one * len(second) + other)
    return together / max(1, _pairs(one))


def _numbered(batches: list[Indices], number: int) -> Indices:
    """Say which batch each example is in."""
    found = numpy.empty(number, numpy.int64)
    for place, batch in enumerate(batches):
        found[batch] = place
    return found


def _pairs(groups: Indices) -> int:
    """Count the pairs of examples that are in the same group."""
    sizes = numpy.unique(groups, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())
