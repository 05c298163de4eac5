"""What a vocabulary can't write: which characters of a text, and their share of it."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from seq2seq.terminal import say
from seq2seq.vocabulary import Vocabularies, Vocabulary, normalize

_MOST_SHOWN = 20


def say_what_is_unknown(
    vocabularies: Vocabularies, source: Iterable[str], target: Iterable[str]
) -> None:
    """Tell of each side of the training text which characters are unknown, and their share."""
    unknown = [
        *_unknown(vocabularies.source, source, "source"),
        *_unknown(vocabularies.target, target, "target"),
    ]
    for line in unknown or ["the vocabulary knows every character of the text"]:
        say(line)


def _unknown(vocabulary: Vocabulary, lines: Iterable[str], name: str) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(normalize(line))
    unknown = {letter: counts[letter] for letter in counts if not vocabulary.knows(letter)}
    if not unknown:
        return
    commonest = sorted(unknown, key=lambda letter: (-unknown[letter], letter))
    shown = [_shown(letter) for letter in commonest[:_MOST_SHOWN]]
    if len(unknown) > _MOST_SHOWN:
        shown.append("…")
    number = f"{len(unknown):,} character{'s' if len(unknown) > 1 else ''}"
    share = _percent(sum(unknown.values()) / counts.total())
    yield f"unknown to the vocabulary: {' '.join(shown)} ({number}, {share} of the {name} text)"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


def _shown(letter: str) -> str:
    """Give a letter itself, or its number where it can't be seen alone."""
    seen = letter.isprintable() and not letter.isspace() and not unicodedata.combining(letter)
    return letter if seen else f"U+{ord(letter):04X}"
