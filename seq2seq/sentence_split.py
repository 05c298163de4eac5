"""A text that is too long for one sentence, cut into parts that can be translated by themselves.

It is cut at ends of sentences; a sentence that is too long, after its clauses; a clause, between
words; a word, anywhere. Neighbours share a part as long as there is room.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

# Closing quotes and brackets belong to what they follow. Scripts with wide signs need no space.
_CLOSING = r"""["'”’»›)\]}」』】）》〉]*"""
_CUTS = (
    re.compile(rf"[.!?…؟۔।॥։።។။]{_CLOSING}\s+|[。！？｡]+{_CLOSING}\s*"),
    re.compile(rf"[,;:—–،؛、፣]{_CLOSING}\s+|[、，；：]+{_CLOSING}\s*"),
    re.compile(r"\s+"),
)
# `J. Smith`, `z. B.`, `3. Mai`: one sign or two digits before the dot.
_ABBREVIATION = re.compile(r"(^|\W)(\w|\d\d)\.$")

Count = Callable[[str], int]


class Part(NamedTuple):
    """Some of a text."""

    text: str
    """Has no white space around it where it isn't all; is empty where a text begins with such."""
    space: str
    """The white space after it."""


def split_long(text: str, count: Count, limit: int) -> list[Part]:
    """Cut a text into parts that have no more pieces than they may.

    The parts, each with its space, make up the text.

    Args:
        text: one line.
        count: says how many pieces a text has. It is asked for each word a few times at most, and
            for longer texts as little.
        limit: most pieces of a part, at least 1; a single character that has more stays whole.
    """
    if count(text) <= limit:
        return [Part(text, "")]
    body = text.lstrip()
    start = len(text) - len(body)
    parts = _cut_to_fit(body, count, limit, 0)
    cut = [Part(part.rstrip(), part[len(part.rstrip()) :]) for part in parts]
    return [Part("", text[:start]), *cut] if start else cut


def _fits(text: str, pieces: int, limit: int) -> bool:
    return pieces <= limit or len(text.rstrip()) < 2


def _cut_to_fit(text: str, count: Count, limit: int, level: int) -> Iterator[str]:
    """Cut a text where that level says, and what is still too long where the next one does."""
    units, size = list[str](), 0
    for unit in _cut(text, level):
        pieces = count(unit.rstrip())
        if units and size + pieces > limit:
            yield from _packed(units, count, limit)
            units, size = [], 0
        if _fits(unit, pieces, limit):
            units.append(unit)
            size += pieces
        else:
            yield from _cut_to_fit(unit, count, limit, level + 1)
    if units:
        yield from _packed(units, count, limit)


def _cut(text: str, level: int) -> list[str]:
    if level < len(_CUTS):
        found = _CUTS[level].finditer(text)
        ends = [sign.end() for sign in found if not _abbreviates(text, sign.start())]
    else:
        ends = [len(text.rstrip()) // 2]
    places = [0, *ends, len(text)]
    return [text[start:end] for start, end in pairwise(places) if start < end]


def _abbreviates(text: str, place: int) -> bool:
    """Say whether the sign there is an abbreviation's dot."""
    return bool(_ABBREVIATION.search(text[max(0, place - 3) : place + 1]))


def _packed(units: Sequence[str], count: Count, limit: int) -> Iterator[str]:
    """Give units as one part; as more where they have more pieces together than one by one."""
    together = "".join(units)
    if len(units) == 1 or count(together.rstrip()) <= limit:
        yield together
        return
    middle = len(units) // 2
    yield from _packed(units[:middle], count, limit)
    yield from _packed(units[middle:], count, limit)
