"""Rules that training pairs must pass: what each removes, and how long it takes.

A rule is a function of the two texts that says whether the pair is unfit. Rules are called for a
whole chunk, one after the other, so that measuring them costs nothing.
"""

import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import compress
from typing import NamedTuple

import numpy
import numpy.typing

from seq2seq.config import CleaningConfig
from seq2seq.vocabulary import blank

Pair = tuple[str, str]
Rule = Callable[[str, str], bool]

RULES = {
    "characters": "a side has more characters than data.cleaning.characters",
    "empty": "a side has nothing to see, or the vocabulary makes nothing of it",
    "ratio": "a side has more than data.cleaning.ratio times the characters of the other, and 20",
    "identical": "both sides are the same text of data.cleaning.identical words or more",
    "repeats": "a character comes more than data.cleaning.repeats times in a row",
    "broken": "a side has signs that stand for lost ones, or of private use",
    "markup": "one side has other HTML or XML tags and entities than the other",
    "scripts": "fewer of a side's letters than data.cleaning.scripts are in its language's scripts",
    "too_long": "a side has more pieces than data.max_length",
    "overlap": "the pair is in the validation or the test set, too, or nearly",
    "duplicates": "the pair has come before (data.cleaning.duplicates)",
}
"""What each says of a pair that it leaves out, in the order in which they are asked."""

_EXAMPLES = 100  # of each rule that are kept
_MOST_SHOWN = 200  # characters of a side of an example
_SLACK = 20  # characters that no ratio counts: short texts differ more

# All controls but the tab and what `unbroken` makes a space of; and marks that only old files have.
_CONTROLS = dict.fromkeys([*range(9), *range(0xE, 0x1C), 0x1F, *range(0x7F, 0xA0), 0xAD, 0xFFFE])
_CONTROLS.pop(0x85)
_SUSPECTS = re.compile("[ÂÃÐÑâãäåæç][\u0080-\u00bf\u0152-\u2122]")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|&(?:[A-Za-z]+|#[0-9]+|#x[0-9A-Fa-f]+);")
_BROKEN = re.compile("[\ufffd\ue000-\uf8ff]")

_OTHER_SCRIPTS = {
    "CYRILLIC": "be bg kk ky mk mn ru sr tg uk",
    "GREEK": "el",
    "ARABIC": "ar fa ps ug ur",
    "HEBREW": "he yi",
    "DEVANAGARI": "hi mr ne sa",
    "BENGALI": "bn",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "HANGUL": "ko",
    "CJK": "zh ja",
    "HIRAGANA KATAKANA": "ja",
}
_LATIN = (
    "af az ca cs cy da de en es et eu fi fr ga gl hr hu id is it lt lv ms mt nb nl nn no pl pt ro"
    " sk sl sq sv sw tr uz vi"
)


class Examples(NamedTuple):
    """The pairs that a rule has removed: how many, and the first of them."""

    number: int = 0
    first: tuple[Pair, ...] = ()

    def with_more(self, other: "Examples") -> "Examples":
        """Add those of a later piece of text."""
        first = (*self.first, *other.first)[:_EXAMPLES]
        return Examples(self.number + other.number, first)

    @staticmethod
    def of(pairs: Sequence[Pair]) -> "Examples":
        """Count pairs and keep some."""
        return Examples(len(pairs), tuple(_cut_short(pair) for pair in pairs[:_EXAMPLES]))


def _cut_short(pair: Pair) -> Pair:
    source, target = (
        text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…" for text in pair
    )
    return source, target


class Cleaned(NamedTuple):
    """What the rules have made of some pairs."""

    numbers: numpy.typing.NDArray[numpy.int64]
    """Which of them are fit."""
    kept: list[Pair]
    """These, repaired."""
    removed: dict[str, list[Pair]]
    """By rule, as they were."""
    seconds: dict[str, float]
    """Of each rule."""


class Cleaner:
    """The rules of a config, for a pair of languages."""

    def __init__(self, config: CleaningConfig, source: str, target: str):
        """Choose the rules.

        Args:
            config: which rules, with their limits.
            source: code of the source language, for its script.
            target: code of the target language.
        """
        self._repairs = config.repair
        self._rules = dict(_rules(config, source, target))

    def clean(self, pairs: Sequence[Pair]) -> Cleaned:
        """Repair pairs, and sort out those that are unfit."""
        removed: dict[str, list[Pair]] = {}
        seconds: dict[str, float] = {}
        numbers, left = numpy.arange(len(pairs)), list(pairs)
        for name, rule in self._rules.items():
            began = time.perf_counter()
            unfit = [rule(*pair) for pair in left]
            if any(unfit):
                removed[name] = [*compress(left, unfit)]
                fit = [not is_unfit for is_unfit in unfit]
                left, numbers = [*compress(left, fit)], numbers[fit]
            seconds[name] = time.perf_counter() - began
            if name == "characters" and self._repairs:  # nothing endless is worth repairing
                left = [(repaired(source), repaired(target)) for source, target in left]
                seconds["repair"] = time.perf_counter() - began - seconds[name]
        return Cleaned(numbers, left, removed, seconds)


def _rules(config: CleaningConfig, source: str, target: str) -> Iterable[tuple[str, Rule]]:
    """Name the rules in the order in which they are asked; a pair counts for the first it fails."""
    yield "characters", partial(has_too_many_characters, most=config.characters)
    yield "empty", is_empty
    if config.ratio is not None:
        yield "ratio", partial(is_unbalanced, most=config.ratio)
    if config.identical is not None:
        yield "identical", partial(is_identical, words=config.identical)
    if config.repeats is not None:
        yield "repeats", partial(repeats, run=re.compile(rf"(\S)\1{{{config.repeats},}}"))
    if config.broken:
        yield "broken", is_broken
    if config.markup:
        yield "markup", has_markup_on_one_side
    scripts = (scripts_of(source), scripts_of(target))
    if config.scripts is not None and any(scripts):
        yield "scripts", partial(is_in_other_scripts, scripts=scripts, least=config.scripts)


def repaired(text: str) -> str:
    """Drop control characters, and undo UTF-8 that was read as Windows-1252."""
    if text.isascii() and text.isprintable():
        return text
    if not text.isprintable():
        text = text.translate(_CONTROLS)
    if _SUSPECTS.search(text):
        try:
            return text.encode("cp1252").decode("utf-8")
        except UnicodeError:
            pass
    return text


def has_too_many_characters(source: str, target: str, most: int) -> bool:
    """Whether a side has more characters than this."""
    return len(source) > most or len(target) > most


def is_empty(source: str, target: str) -> bool:
    """Whether there is nothing to see on a side."""
    # A letter to begin with tells most texts.
    return not (source[:1].isalnum() or not blank(source)) or not (
        target[:1].isalnum() or not blank(target)
    )


def is_unbalanced(source: str, target: str, most: float) -> bool:
    """Whether a side is longer than `most` times the other, and 20 characters more."""
    shorter, longer = sorted((len(source), len(target)))
    return longer > most * shorter + _SLACK


def is_identical(source: str, target: str, words: int) -> bool:
    """Whether both sides are the same text of at least so many words: it wasn't translated."""
    return source == target and len(source.split()) >= words


def repeats(source: str, target: str, run: re.Pattern[str]) -> bool:
    """Whether a character is repeated too often in a row."""
    return run.search(source) is not None or run.search(target) is not None


def is_broken(source: str, target: str) -> bool:
    """Whether a side has signs that stand for what was lost, or that have no meaning."""
    if source.isascii() and target.isascii():
        return False
    return _BROKEN.search(source) is not None or _BROKEN.search(target) is not None


def has_markup_on_one_side(source: str, target: str) -> bool:
    """Whether one side has other tags and entities than the other, of HTML or XML."""
    if not any(sign in text for text in (source, target) for sign in "<&"):
        return False
    return Counter(_MARKUP.findall(source)) != Counter(_MARKUP.findall(target))


def is_in_other_scripts(
    source: str, target: str, scripts: tuple[frozenset[str], frozenset[str]], least: float
) -> bool:
    """Whether less than this share of a side's letters are in its language's scripts."""
    return any(
        bool(expected) and _share(text, expected) < least
        for text, expected in zip((source, target), scripts, strict=True)
    )


def _share(text: str, scripts: frozenset[str]) -> float:
    found = [script for script in map(_script, text) if script]
    return sum(script in scripts for script in found) / len(found) if found else 1.0


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    """Name a letter's script by the first word of its Unicode name; nothing for other signs."""
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""


def scripts_of(language: str) -> frozenset[str]:
    """List the scripts that a language is written in; none where nobody has said."""
    code = re.split("[-_]", language.lower())[0]
    found = [name for name, codes in _OTHER_SCRIPTS.items() if code in codes.split()]
    if code in _LATIN.split():
        found.append("LATIN")
    return frozenset(" ".join(found).split())


def add_up(target: dict[str, Examples], removed: Mapping[str, Sequence[Pair]]) -> None:
    """Count what was removed."""
    for rule, pairs in removed.items():
        target[rule] = target.get(rule, Examples()).with_more(Examples.of(pairs))


def add_times(target: dict[str, float], seconds: Mapping[str, float]) -> None:
    """Add up what rules took."""
    for rule, taken in seconds.items():
        target[rule] = target.get(rule, 0.0) + taken
