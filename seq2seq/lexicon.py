"""Which pieces become which, learnt from pairs of sentences: IBM model 1."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy
import numpy.typing

Integers = numpy.typing.NDArray[numpy.integer[Any]]
Numbers = numpy.typing.NDArray[numpy.float64]

ITERATIONS = 5
_CELLS = 1 << 22  # pairs of pieces that are looked at together: about 200 MB


class Column(NamedTuple):
    """One side of pairs of sentences."""

    ids: Integers
    """Of all sentences, one after another."""
    lengths: Integers
    """Number of ids of each sentence."""


class Likeliest(NamedTuple):
    """The likeliest target pieces of source pieces."""

    source: Integers
    target: Integers
    rank: Integers
    """0 for a source piece's likeliest target piece, 1 for the next …"""


class Lexicon(NamedTuple):
    """Source and target pieces that are in a pair of sentences together, in order of the target."""

    source: Integers
    target: Integers
    probability: Numbers
    """That the source piece becomes this target piece."""

    def likeliest(self, number: int) -> Likeliest:
        """Choose `number` target pieces at most for each source piece."""
        order = numpy.lexsort((-self.probability, self.source))
        source = self.source[order]
        rank = numpy.arange(len(order)) - numpy.searchsorted(source, source)
        kept = rank < number
        return Likeliest(source[kept], self.target[order[kept]], rank[kept])


class _Block(NamedTuple):
    """All places of some target pieces, and what stands across from them."""

    first: int
    """The first of the pieces."""
    pieces: Integers
    """Which piece is at each place, counted from the first."""
    begins: Integers
    """Where its sentence's source begins."""
    heights: Integers
    """How long that is."""

    def cells(self, source: Integers, width: int) -> tuple[Integers, Integers]:
        """Put each place beside each source piece of its sentence.

        Returns:
            Which two pieces these are (target × `width` + source), and which place this is.
        """
        places = numpy.repeat(numpy.arange(len(self.pieces)), self.heights)
        before = numpy.cumsum(self.heights) - self.heights
        rows = numpy.arange(len(places)) + (self.begins - before)[places]
        return self.pieces[places] * width + source[rows], places


def learn_lexicon(
    source: Column,
    target: Column,
    *,
    iterations: int = ITERATIONS,
    advance: Callable[[int], None] = lambda pieces: None,
) -> Lexicon:
    """Learn how likely source pieces become target pieces.

    Brown et al., "The Mathematics of Statistical Machine Translation" (1993), section 4.1: model 1
    by expectation maximisation, without the empty word that explains what no source piece does.
    What a place adds to the counts depends on what is known of its target piece alone, so the
    text is gone through piece by piece, with a whole table for some of them at a time.

    Args:
        source: of at least one sentence, none of them empty.
        target: the translations, none of them empty.
        iterations: of expectation maximisation.
        advance: is told the number of target pieces gone through; `iterations` + 1 times all.
    """
    width = int(source.ids.max()) + 1
    blocks = _blocks(source, target, width)
    known: list[Integers] = []
    for block in blocks:
        known.append(numpy.unique(block.cells(source.ids, width)[0]))
        advance(len(block.pieces))
    probability = [numpy.ones(len(codes)) for codes in known]  # whatever is the same for all
    for _ in range(iterations):
        counts: list[Numbers] = []
        for block, codes, likely in zip(blocks, known, probability, strict=True):
            counts.append(_expected(block.cells(source.ids, width), codes, likely))
            advance(len(block.pieces))
        total = numpy.zeros(width)
        for codes, count in zip(known, counts, strict=True):
            total += numpy.bincount(codes % width, count, minlength=width)
        probability = [
            count / total[codes % width] for codes, count in zip(known, counts, strict=True)
        ]
    of_target = [block.first + codes // width for block, codes in zip(blocks, known, strict=True)]
    return Lexicon(
        numpy.concatenate(known) % width,
        numpy.concatenate(of_target),
        numpy.concatenate(probability),
    )


def _blocks(source: Column, target: Column, width: int) -> list[_Block]:
    """Put together the places of as many target pieces as can be looked at together."""
    order = numpy.argsort(target.ids, kind="stable")
    pieces = target.ids[order].astype(numpy.int64)
    sentences = numpy.repeat(numpy.arange(len(target.lengths)), target.lengths)[order]
    heights = source.lengths[sentences]
    begins = (numpy.cumsum(source.lengths) - source.lengths)[sentences]
    size = numpy.cumsum(numpy.bincount(pieces, heights) + width)  # cells, and a row of the table
    ends = numpy.flatnonzero(numpy.diff(size // _CELLS)) + 1
    firsts = [0, *ends.tolist(), len(size)]
    bounds = numpy.searchsorted(pieces, firsts)
    return [
        _Block(first, pieces[start:end] - first, begins[start:end], heights[start:end])
        for first, (start, end) in zip(firsts, pairwise(bounds), strict=False)
        if start < end
    ]


def _expected(cells: tuple[Integers, Integers], codes: Integers, likely: Numbers) -> Numbers:
    """Count how often each known pair of pieces is to be expected (equation 17)."""
    found, places = cells
    table = numpy.zeros(int(codes[-1]) + 1)
    table[codes] = likely
    shares = table[found]
    shares /= numpy.bincount(places, shares)[places]
    counts: Any = numpy.bincount(found, shares)  # Any, since numpy types it as without weights
    return counts[codes]
