"""Chunks of text → ids that are fit for training, on all CPUs, in order."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing.connection import wait
from typing import Any, NamedTuple, TypeVar

import numpy
import numpy.typing

from seq2seq.data.cleaning import Cleaner, Pair
from seq2seq.data.prepared import FlatIds
from seq2seq.data.repetition import Digests, near_digests, pair_digests
from seq2seq.unknown_characters import Characters, unknown_in
from seq2seq.vocabulary import UNK, Vocabularies, Vocabulary, tagged

_ALONE = 4  # chunks; to start workers takes as long
_AHEAD = 8  # chunks for each worker, so that they have work while a block is written

Chunk = Sequence[Pair]
Result = TypeVar("Result")
Numbers = numpy.typing.NDArray[numpy.integer[Any]]


def as_ids(vocabulary: Vocabulary, sentences: Sequence[Sequence[int]]) -> FlatIds:
    """Put a vocabulary's ids into one array, of the smallest type that holds all of them."""
    lengths = numpy.fromiter(map(len, sentences), numpy.int64, len(sentences))
    flat = chain.from_iterable(sentences)
    return FlatIds(
        numpy.fromiter(flat, numpy.min_scalar_type(len(vocabulary) - 1), int(lengths.sum())),
        lengths,
    )


class Encoded(NamedTuple):
    """What has become of a chunk of training pairs; what is unfit is not in the ids."""

    numbers: Numbers
    """Which pairs of the chunk these are."""
    source: FlatIds
    target: FlatIds
    removed: dict[str, list[Pair]]
    """By rule."""
    seconds: dict[str, float]
    """Of each rule, and of what is looked for."""
    characters: tuple[Characters, Characters]
    """Of source and target."""
    digests: Digests | None
    """Of each pair, where duplicates are looked for."""
    near: Digests | None
    """Of each pair's source and of the pair, as `near_digests` gives them."""


class Encoder:
    """Turns chunks of a part's training pairs into ids."""

    def __init__(
        self,
        cleaner: Cleaner,
        vocabularies: Vocabularies,
        *,
        tag: int | None,
        max_length: int,
        duplicates: str,
        looks_for_near: bool,
    ):
        """Say how.

        Args:
            cleaner: the rules on text.
            vocabularies: of both sides.
            tag: that source sentences begin with.
            max_length: most pieces of a side.
            duplicates: which are looked for: `keep`, `exact` or `near`.
            looks_for_near: whether near duplicates of other pairs are looked for.
        """
        self._cleaner, self._vocabularies, self._tag = cleaner, vocabularies, tag
        self._max_length, self._duplicates = max_length, duplicates
        self._looks_for_near = looks_for_near or duplicates == "near"

    def __call__(self, chunk: Chunk) -> Encoded:
        """Clean and encode."""
        numbers, pairs, removed, seconds = self._cleaner.clean(chunk)
        began = time.perf_counter()
        sources, targets = self._vocabularies.source, self._vocabularies.target
        source = as_ids(sources, tagged(sources.encode([pair[0] for pair in pairs]), self._tag))
        target = as_ids(targets, targets.encode([pair[1] for pair in pairs]))
        longest = numpy.maximum(source.lengths, target.lengths)
        full = numpy.minimum(source.lengths, target.lengths) > 0
        for rule, unfit in (("empty", ~full), ("too_long", full & (longest > self._max_length))):
            if unfit.any():
                found = [pairs[place] for place in numpy.flatnonzero(unfit)]
                removed[rule] = removed.get(rule, []) + found
        fit = full & (longest <= self._max_length)
        if not fit.all():
            pairs = [pairs[place] for place in numpy.flatnonzero(fit)]
            source, target, numbers = source.chosen(fit), target.chosen(fit), numbers[fit]
        characters = (
            _characters(sources, [pair[0] for pair in pairs], source),
            _characters(targets, [pair[1] for pair in pairs], target),
        )
        encoded = time.perf_counter()
        digests = pair_digests(pairs) if self._duplicates == "exact" else None
        found = time.perf_counter()
        near = near_digests(pairs) if self._looks_for_near else None
        if near is not None and self._duplicates == "near":
            digests = near[:, 1]
        seconds |= {"encoding": encoded - began, "duplicates": found - encoded}
        seconds["overlap"] = time.perf_counter() - found
        return Encoded(numbers, source, target, removed, seconds, characters, digests, near)


def _characters(vocabulary: Vocabulary, texts: Sequence[str], encoded: FlatIds) -> Characters:
    """Count the characters of texts, and those that are unknown."""
    ends = numpy.cumsum(encoded.lengths)
    rows = numpy.searchsorted(ends, numpy.flatnonzero(encoded.ids == UNK), side="right")
    unknown = unknown_in(vocabulary, map(texts.__getitem__, numpy.unique(rows).tolist()))
    return Characters(sum(map(len, texts)), unknown)


def in_order(
    work: Callable[[Chunk], Result], chunks: Iterable[Chunk], workers: int
) -> Iterator[tuple[Chunk, Result]]:
    """Work on chunks, some at a time, in as many processes; give each with its result, in order.

    Args:
        work: what is done with a chunk.
        chunks: are read no further ahead than keeps the workers busy.
        workers: processes; they end with this one, however it ends.
    """
    rest = iter(chunks)
    for chunk in islice(rest, None if workers < 2 else _ALONE):
        yield chunk, work(chunk)
    first = next(rest, None)
    if first is None:
        return
    # Threads, such as torch's, don't get through a fork.
    context = multiprocessing.get_context("spawn" if "torch" in sys.modules else "fork")
    pending: deque[tuple[Chunk, Future[Result]]] = deque()
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(work,)
    ) as pool:
        for chunk in chain([first], rest):
            pending.append((chunk, pool.submit(_work, chunk)))
            if len(pending) > _AHEAD * workers:
                chunk, future = pending.popleft()
                yield chunk, future.result()
        for chunk, future in pending:
            yield chunk, future.result()


_worker: Callable[[Chunk], Any]


def _begin(work: Callable[[Chunk], Any]) -> None:
    """Make a process a worker."""
    global _worker
    _worker = work
    gc.disable()  # nothing here makes cycles, and to look for them takes a twentieth of the time
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is for the one that reads and writes
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(chunk: Chunk) -> Any:
    return _worker(chunk)
