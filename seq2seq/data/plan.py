"""The batch plan: which examples make up each optimizer step, as a pure function.

It depends on the lengths, the weights, the seed and the epoch alone, so every run and every process
that knows them agrees on it. Padding never enters the plan: it depends on how a batch is cut for a
device.
"""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import numpy.lib.format
import numpy.typing

from seq2seq.data.shuffling import Draws, Numbers, Shuffle
from seq2seq.data.weights import Entries, Share

Indices = numpy.typing.NDArray[numpy.int64]
Integers = numpy.typing.NDArray[numpy.integer[Any]]

_PIECE = 2**20  # examples that are looked at at once
_POOL = 2.5  # batches whose examples are mixed
_ORDER, _BATCHES = "order.npy", "batches.npy"
BATCH = numpy.dtype(
    [(name, numpy.int64) for name in ("start", "size", "source", "target", "target_tokens")]
)


class Lengths(NamedTuple):
    """Numbers of pieces of each example, the target's end of sentence counted.

    Any type of integer does: of a hundred million examples they are best of the smallest.
    """

    source: Integers
    target: Integers


class Plan:
    """The global batches of an epoch, each one optimizer step."""

    def __init__(self, order: Integers, batches: numpy.typing.NDArray[Any]):
        """Hold what `plan_epoch` has made.

        Args:
            order: the examples of all batches, one batch after the other.
            batches: for each batch where it starts there, how many examples it has, its longest
                source and target, and the number of its target tokens.
        """
        self._order, self.batches = order, batches

    @staticmethod
    def load(folder: Path) -> "Plan":
        """Map a plan's files; only what is asked for is read.

        Raises:
            OSError: they aren't there.
        """
        order, batches = (numpy.load(folder / name, mmap_mode="r") for name in (_ORDER, _BATCHES))
        return Plan(order, batches)

    @property
    def target_tokens(self) -> int:
        """The number of real target tokens of the epoch."""
        return int(self.batches["target_tokens"].sum())

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Indices:
        start, size = self.batches[number]["start"], self.batches[number]["size"]
        return self._order[start : start + size].astype(numpy.int64)


def plan_epoch(
    lengths: Lengths,
    *,
    seed: int,
    epoch: int,
    tokens_per_step: int,
    parts: Sequence[Share] = (),
    folder: Path | None = None,
) -> Plan:
    """Divide the examples of one epoch into global batches.

    Examples of like length come together: those of about the same length on one side are sorted by
    the other side, up and down by turns, and each stretch that makes two batches and a half is
    shuffled. Which side is first changes from epoch to epoch, where stretches begin is drawn, and
    so the same examples seldom meet again. The batches are shuffled.

    Args:
        lengths: of all examples; no target may be longer than `tokens_per_step`.
        seed: of the run.
        epoch: counted from 0.
        tokens_per_step: most target tokens in a batch.
        parts: parts of the examples with weights; all of them once if not given.
        folder: where the plan is written, to be mapped; else it is in memory.

    Returns:
        The batches, each in no order. An example whose weight is *w* comes ⌊w⌋ or ⌈w⌉ times.
    """
    assert lengths.target.max(initial=0) <= tokens_per_step, "the config sees to it"
    parts = parts or [Share(len(lengths.target))]
    assert sum(part.examples for part in parts) == len(lengths.target)
    draws = Draws(seed, epoch)
    entries = Entries(parts, draws)
    pool = int(_POOL * tokens_per_step)
    order = _new_order(folder, len(entries), len(lengths.target))
    start = 0
    for examples in _mixed(_by_length(entries, lengths, epoch, pool, draws), lengths, pool, draws):
        order[start : start + len(examples)] = examples
        start += len(examples)
    starts = _starts(order, lengths.target, tokens_per_step)
    batches = _described(starts, order, lengths)
    batches = batches[Shuffle(len(batches), draws).order(len(batches))]
    if folder is not None:
        numpy.save(folder / _BATCHES, batches)
    return Plan(order, batches)


def _new_order(folder: Path | None, entries: int, examples: int) -> Integers:
    kind = numpy.uint32 if examples <= 2**32 else numpy.uint64
    if folder is None:
        return numpy.empty(entries, kind)
    path = folder / _ORDER
    order = numpy.lib.format.open_memmap(path, "w+", kind, (entries,))
    with path.open("rb+") as file:  # a full disk is an error here, and would be a crash later
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return order


def _by_length(
    entries: Entries, lengths: Lengths, epoch: int, pool: int, draws: Draws
) -> Iterator[Numbers]:
    """Sort the entries of an epoch by length, in two dimensions; give their examples."""
    first, second = lengths if epoch % 2 else reversed(lengths)
    stripes = _stripes(entries, first, int(lengths.target.sum(dtype=numpy.int64)) / pool, draws)
    longest = numpy.uint64(second.max(initial=0))
    width, shuffle = int(longest).bit_length(), Shuffle(len(entries), draws)
    assert int(stripes.max(initial=0)).bit_length() + width + shuffle.bits <= 64
    keys = numpy.empty(len(entries), numpy.uint64)
    for piece, examples in entries.pieces(_PIECE):
        stripe, length = stripes[first[examples]], second[examples].astype(numpy.uint64)
        key = stripe << numpy.uint64(width)
        key |= numpy.where(stripe % 2, longest - length, length)
        key <<= numpy.uint64(shuffle.bits)
        key |= shuffle.places(numpy.arange(piece.start, piece.stop, dtype=numpy.uint64))
        keys[piece] = key
    keys.sort()  # of which no two are the same: every way of sorting gives this order
    for start in range(0, len(keys), _PIECE):
        yield entries.examples(shuffle.numbers(keys[start : start + _PIECE]))


def _stripes(entries: Entries, lengths: Integers, pools: float, draws: Draws) -> Numbers:
    """Give each length its stripe, all of about as many examples; where they begin is drawn.

    There are four times as many stripes as pools in each. Measured on Multi30k: with fewer the same
    examples meet more often where batches are large, with more there is more padding.
    """
    counts = numpy.zeros(int(lengths.max(initial=0)) + 1, numpy.int64)
    for _, examples in entries.pieces(_PIECE):
        counts += numpy.bincount(lengths[examples], minlength=len(counts))
    middles = (numpy.cumsum(counts) - counts / 2) / max(1, len(entries))
    number = 2 * math.sqrt(max(1.0, pools))
    return (middles * number + draws.fraction()).astype(numpy.uint64)


def _mixed(
    pieces: Iterator[Numbers], lengths: Lengths, pool: int, draws: Draws
) -> Iterator[Numbers]:
    """Shuffle each stretch of examples that has `pool` target tokens; where they begin is drawn."""
    shuffle = Shuffle(_PIECE, draws)
    tokens = draws.below(pool)
    for examples in pieces:
        ends = tokens + numpy.cumsum(lengths.target[examples], dtype=numpy.int64)
        tokens = int(ends[-1]) % pool
        keys = (ends // pool).astype(numpy.uint64) << numpy.uint64(shuffle.bits)
        keys |= shuffle.places(numpy.arange(len(examples), dtype=numpy.uint64))
        keys.sort()
        yield examples[shuffle.numbers(keys)]


def _starts(order: Integers, target: Integers, tokens_per_step: int) -> Indices:
    """Find where batches start, each as large as may be, and where the last one ends."""
    starts = [0]
    before = begun = 0  # tokens before the piece, and before the batch
    for start in range(0, len(order), _PIECE):
        ends = before + numpy.cumsum(target[order[start : start + _PIECE]], dtype=numpy.int64)
        while begun + tokens_per_step < ends[-1]:
            index = int(numpy.searchsorted(ends, begun + tokens_per_step, side="right"))
            begun = int(ends[index - 1]) if index else before
            starts.append(start + index)
        before = int(ends[-1])
    return numpy.array([*starts, len(order)] if len(order) else starts)


def _described(starts: Indices, order: Integers, lengths: Lengths) -> numpy.typing.NDArray[Any]:
    """Describe the batches, given where they start and where the last one ends."""
    batches = numpy.zeros(len(starts) - 1, BATCH)
    batches["start"], batches["size"] = starts[:-1], numpy.diff(starts)
    at_once = max(1, _PIECE * len(batches) // max(1, len(order)))
    for first in range(0, len(batches), at_once):
        some = batches[first : first + at_once]
        begin = some["start"][0]
        examples = order[begin : begin + some["size"].sum()]
        source, target = (side[examples].astype(numpy.int64) for side in lengths)
        places = some["start"] - begin
        some["source"] = numpy.maximum.reduceat(source, places)
        some["target"] = numpy.maximum.reduceat(target, places)
        some["target_tokens"] = numpy.add.reduceat(target, places)
    return batches


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
