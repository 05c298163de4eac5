"""Pairs of the validation and the test set that are in the training text, too."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy
import numpy.typing

from seq2seq.data.cleaning import Pair
from seq2seq.data.corpus import Split
from seq2seq.data.repetition import Digests, near_digests


class Found(NamedTuple):
    """Which held-out pairs are in some training text, by their numbers."""

    exact: tuple[int, ...] = ()
    """As they are."""
    near: tuple[int, ...] = ()
    """With the same letters and digits, these as they are among them."""
    source: tuple[int, ...] = ()
    """With such a source, whatever the target."""

    def with_more(self, other: "Found") -> "Found":
        """Add what is in a later piece of text."""
        return Found(*(tuple(sorted({*a, *b})) for a, b in zip(self, other, strict=True)))


class Overlap(NamedTuple):
    """How many pairs of a held-out set are in the training text."""

    split: Split
    pairs: int
    exact: int
    near: int
    """These as they are not counted."""
    source: int
    """Of which the source alone is there."""
    example: Pair | None

    @property
    def number(self) -> int:
        """Of pairs that are there, as they are or nearly."""
        return self.exact + self.near

    def told(self) -> str:
        """Say so."""
        parts = [
            f"{self.number:,} of {self.pairs:,} {self.split} pairs are in the training text"
            f" ({self.exact:,} as they are, {self.near:,} but for case, spaces, Unicode form or"
            " punctuation)"
        ]
        if self.example is not None:
            parts.append(f"such as '{self.example[0]}'")
        if self.source:
            parts.append(f"and of {self.source:,} the source alone is")
        return ", ".join(parts)


class HeldOut:
    """The pairs of the validation and the test set, to be looked for in the training text."""

    def __init__(self, sets: Mapping[Split, Sequence[Pair]]):
        """Digest them."""
        self._sets = sets
        self._pairs = [pair for pairs in sets.values() for pair in pairs]
        # Blank ones are like each other, and like any training pair without a letter.
        self._near = near_digests(self._pairs)
        self._exact: dict[Pair, list[int]] = {pair: [] for pair in self._pairs}
        for number, pair in enumerate(self._pairs):
            self._exact[pair].append(number)

    def find(
        self, near: Digests, pairs: Sequence[Pair]
    ) -> tuple[numpy.typing.NDArray[numpy.bool_], Found]:
        """Say which training pairs are held out, and which held-out pairs these are.

        Args:
            near: of the training pairs, as `near_digests` gives them.
            pairs: as they were before they were cleaned.
        """
        is_held_out = numpy.isin(near[:, 1], self._near[:, 1])
        sources = numpy.flatnonzero(numpy.isin(self._near[:, 0], near[:, 0]))
        exact: list[int] = []
        for place in numpy.flatnonzero(is_held_out).tolist():
            exact += self._exact.get(pairs[place], [])
        found = numpy.flatnonzero(numpy.isin(self._near[:, 1], near[:, 1]))
        return is_held_out, Found(tuple(exact), tuple(found.tolist()), tuple(sources.tolist()))

    def overlaps(self, found: Found) -> list[Overlap]:
        """Count what was found of each set."""
        overlaps: list[Overlap] = []
        start = 0
        for split, pairs in self._sets.items():
            own = range(start, start + len(pairs))
            exact, near, source = ({each for each in part if each in own} for part in found)
            example = self._pairs[min(near)] if near else None
            counts = (len(exact), len(near - exact), len(source - near))
            overlaps.append(Overlap(split, len(pairs), *counts, example))
            start = own.stop
        return overlaps
