"""What a vocabulary can't write: which characters of a text, and their share of it."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from seq2seq.vocabulary import Vocabulary, normalize

_MOST_SHOWN = 20


class Characters(NamedTuple):
    """The characters of a text."""

    number: int = 0
    unknown: Mapping[str, int] = {}
    """How often those come that a vocabulary doesn't know."""

    def with_more(self, other: "Characters") -> "Characters":
        """Add those of another text."""
        unknown = Counter(self.unknown) + Counter(other.unknown)
        return Characters(self.number + other.number, unknown)

    @property
    def share(self) -> float:
        """The share that is unknown."""
        return sum(self.unknown.values()) / max(1, self.number)


def unknown_in(vocabulary: Vocabulary, texts: Iterable[str]) -> dict[str, int]:
    """Count the characters of texts that a vocabulary doesn't know."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalize(text))
    return {letter: counts[letter] for letter in counts if not vocabulary.knows(letter)}


def told(source: Characters, target: Characters) -> Iterator[str]:
    """Tell of each side which characters are unknown, and their share."""
    if not source.unknown and not target.unknown:
        yield "the vocabulary knows every character of the text"
    for name, side in (("source", source), ("target", target)):
        if side.unknown:
            commonest = sorted(side.unknown, key=lambda letter: (-side.unknown[letter], letter))
            shown = [_shown(letter) for letter in commonest[:_MOST_SHOWN]]
            if len(commonest) > _MOST_SHOWN:
                shown.append("…")
            number = f"{len(commonest):,} character{'s' if len(commonest) > 1 else ''}"
            share = f"{_percent(side.share)} of the {name} text"
            yield f"unknown to the vocabulary: {' '.join(shown)} ({number}, {share})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


def _shown(letter: str) -> str:
    """Give a letter itself, or its number where it can't be seen alone."""
    seen = letter.isprintable() and not letter.isspace() and not unicodedata.combining(letter)
    return letter if seen else f"U+{ord(letter):04X}"
