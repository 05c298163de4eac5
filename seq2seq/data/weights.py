"""How often each example comes in an epoch."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy
import numpy.typing

from seq2seq.data.shuffling import Draws, Numbers, Shuffle

Chosen = slice | numpy.typing.NDArray[numpy.integer[Any]]
"""Examples, as numpy takes them out of an array."""


class Share(NamedTuple):
    """Examples that follow one another, and how often each of them comes in an epoch."""

    examples: int
    weight: float = 1.0


class _Run(NamedTuple):
    """Entries that follow one another: all examples of a share once, or some of them."""

    first: int
    """Of the entries."""
    entries: int
    start: int
    """The first example of the share."""
    examples: int
    """How many the share has."""
    shuffle: Shuffle | None
    """Says which of them, where it isn't all."""

    def chosen(self, start: int, end: int) -> Chosen:
        """Say which examples some entries are, counted from the run's first."""
        if self.shuffle is None:
            return slice(self.start + start, self.start + end)
        return self.examples_of(numpy.arange(start, end, dtype=numpy.uint64))

    def examples_of(self, entries: Numbers) -> Numbers:
        """Say which examples entries are; the array is overwritten."""
        if self.shuffle is not None:
            entries = self.shuffle.numbers_below(self.examples, entries)
        entries += numpy.uint64(self.start)
        return entries


class Entries:
    """What an epoch consists of: each example as often as it comes.

    Nothing is listed: which example an entry is gets computed. Of a share with weight *w* each
    example is there ⌊w⌋ times, and as many of them once more as make up the rest, but one at least
    where ⌊w⌋ is 0.
    """

    def __init__(self, parts: Sequence[Share], draws: Draws):
        """Draw which examples come once more.

        Args:
            parts: of all examples, in their order.
            draws: what to draw from.
        """
        self._runs: list[_Run] = []
        first = start = 0
        for examples, weight in parts:
            times = math.floor(weight)
            more = math.floor(examples * (weight - times) + 0.5)
            more = min(examples, more if times else max(1, more))
            for number in [examples] * times + [more]:
                shuffle = Shuffle(examples, draws) if number < examples else None
                self._runs.append(_Run(first, number, start, examples, shuffle))
                first += number
            start += examples
        self._runs = [run for run in self._runs if run.entries]
        self._number = first

    def __len__(self) -> int:
        return self._number

    def pieces(self, size: int) -> Iterator[tuple[slice, Chosen]]:
        """Go through all entries, `size` at once at most: which they are, and which examples."""
        for run in self._runs:
            for start in range(0, run.entries, size):
                end = min(start + size, run.entries)
                yield slice(run.first + start, run.first + end), run.chosen(start, end)

    def examples(self, entries: Numbers) -> Numbers:
        """Say which examples entries are; the array is overwritten."""
        if len(self._runs) == 1:
            return self._runs[0].examples_of(entries)
        runs = numpy.searchsorted([run.first for run in self._runs], entries, side="right") - 1
        for number, run in enumerate(self._runs):
            those = runs == number
            entries[those] = run.examples_of(entries[those] - numpy.uint64(run.first))
        return entries
