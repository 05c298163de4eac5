"""The vocabulary of a base model on text that it wasn't learnt from."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from seq2seq.config import Config
from seq2seq.model_description import ModelDescription
from seq2seq.terminal import say
from seq2seq.vocabulary import Vocabularies, Vocabulary, normalize

_MOST_SHOWN = 20


def base_vocabularies(config: Config) -> Vocabularies | None:
    """Read the vocabularies of the base, where a config uses them.

    Raises:
        ModelError: one is missing or damaged, or doesn't belong there.
    """
    if config.base is None or config.base.vocabulary == "own":
        return None
    base = config.base.model
    return Vocabularies.load(base, ModelDescription.load(base).vocabularies)


def say_what_is_unknown(
    vocabularies: Vocabularies, source: Sequence[str], target: Sequence[str]
) -> None:
    """Tell which letters of the training text a base's vocabulary can't write, and their share."""
    if vocabularies.joint:
        say(_unknown(vocabularies.source, [*source, *target], "training text"))
        return
    say(_unknown(vocabularies.source, source, "source text"))
    say(_unknown(vocabularies.target, target, "target text"))


def _unknown(vocabulary: Vocabulary, lines: Iterable[str], name: str) -> str:
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(normalize(line))
    unknown = {letter: counts[letter] for letter in counts if not vocabulary.knows(letter)}
    if not unknown:
        return f"the base's vocabulary knows every letter of the {name}"
    commonest = sorted(unknown, key=lambda letter: (-unknown[letter], letter))
    shown = [_shown(letter) for letter in commonest[:_MOST_SHOWN]]
    if len(unknown) > _MOST_SHOWN:
        shown.append("…")
    number = f"{len(unknown):,} letter{'s' if len(unknown) > 1 else ''}"
    share = sum(unknown.values()) / counts.total()
    return (
        f"the base's vocabulary doesn't know {number} of the {name} ({' '.join(shown)}):"
        f" {_percent(share)} of its characters"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


def _shown(letter: str) -> str:
    """Give a letter itself, or its number where it can't be seen alone."""
    seen = letter.isprintable() and not letter.isspace() and not unicodedata.combining(letter)
    return letter if seen else f"U+{ord(letter):04X}"
