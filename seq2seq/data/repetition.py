"""Pairs that come again: among themselves, and those of the validation and the test set."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy
import numpy.typing

Digests = numpy.typing.NDArray[numpy.uint64]

_NOT_LETTERS = re.compile(r"[\W_]+")
_NOT_LETTERS_IN_ASCII = bytes(code for code in range(128) if not chr(code).isalnum())
_GROWTH = 8


def near(text: str) -> str:
    """Leave of a text its letters and digits, case folded: what near duplicates have in common."""
    folded = unicodedata.normalize("NFKC", text).casefold().encode()
    letters = folded.translate(None, _NOT_LETTERS_IN_ASCII).decode()  # quicker than a pattern
    return letters if letters.isalnum() else _NOT_LETTERS.sub("", letters)


def digests(texts: Iterable[str]) -> Digests:
    """Digest texts to 64 bits.

    Of 100 million texts, any two that differ have the same one in 1 of 3,000 corpora.
    """
    content = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return numpy.frombuffer(content, dtype=numpy.uint64)


class Seen:
    """Digests that have come before, 8 bytes each.

    They are kept in sorted arrays, each several times as long as the next: a new one is merged with
    those that it has outgrown, so each digest is sorted a few times only.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._levels: list[Digests] = []

    def add(self, new: Digests) -> numpy.typing.NDArray[numpy.bool_]:
        """Say which of some digests have come before, also among themselves; and add them."""
        unique, first = numpy.unique(new, return_index=True)
        again = numpy.ones(len(new), dtype=bool)
        again[first] = False
        for level in self._levels:
            places = numpy.searchsorted(level, new)
            again |= level[numpy.minimum(places, len(level) - 1)] == new
        while self._levels and len(self._levels[-1]) < _GROWTH * len(unique):
            unique = numpy.union1d(self._levels.pop(), unique)
        if len(unique):
            self._levels.append(unique)
        return again


def pair_digests(pairs: Sequence[tuple[str, str]]) -> Digests:
    """Digest pairs as they are."""
    return digests(f"{source}\n{target}" for source, target in pairs)


def near_digests(pairs: Sequence[tuple[str, str]]) -> Digests:
    """Digest pairs by what near duplicates have in common: a row of source and pair for each."""
    sides = [(near(source), near(target)) for source, target in pairs]
    sources = digests(source for source, _ in sides)
    return numpy.stack(
        (sources, digests(f"{source}\n{target}" for source, target in sides)), axis=1
    )
