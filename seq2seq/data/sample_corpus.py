"""A bilingual corpus made offline from the Unicode CLDR, for any two of its languages.

Sentences are drawn kind by kind in turn until the splits are full. A sentence belongs to the
training side or to the held-out side by a checksum of its source's letters and digits, so what is
held out isn't in training but for punctuation or case, and the kinds with few sentences are divided
like those with many.
"""

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy
from babel import Locale, UnknownLocaleError

from seq2seq.data.cldr_forms import Forms
from seq2seq.data.cldr_phrases import MISSING, Locales, Phrase
from seq2seq.data.repetition import near
from seq2seq.data.sample_sentences import Draw, Sentences
from seq2seq.errors import DataError

# A larger corpus would only repeat the same few patterns.
LARGEST = 1_000_000
# One of so many sentences is held out; the others are for training.
_HELD_OUT_SHARE = 6
# One training pair of so many, at most, is a single name.
_NAME_SHARE = 5
# A kind is exhausted when this many drawn in a row are unfit.
_PATIENCE = 300


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str
    kind: str
    """What it is: `date`, `rate`, `country` and so on."""


class SampleSplits(NamedTuple):
    """The corpus, divided; no source and no target text is in two splits."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]


def sample_corpus(
    source: str, target: str, *, pairs: int, held_out: int, seed: int
) -> SampleSplits:
    """Make the corpus for two locales of the CLDR.

    The same arguments give the same corpus in any process and place, with the same Babel. Each
    source has one target: what occurs with another is left out, and so are pairs with identical
    sides. Every name and unit of validation and test is in training, in other sentences; single
    names are in training only. Numbers in words are there where num2words knows both languages.

    Args:
        source: Locale to translate from, such as `en` or `pt_BR`.
        target: Locale to translate into.
        pairs: Number of training pairs.
        held_out: Number of validation pairs, and of test pairs.
        seed: Where the randomness comes from.

    Raises:
        DataError: A locale is unknown, both are the same, or they can't supply so many pairs.
    """
    locales = _locales(source, target)
    if pairs + 2 * held_out > LARGEST:
        raise DataError(
            f"`data.corpus.pairs` + 2 × `data.corpus.held_out` must be at most {LARGEST},"
            f" but is {pairs + 2 * held_out}"
        )
    generator = random.Random(f"{locales.source} {locales.target} {seed}")
    forms = _forms(locales)
    collection = _Collection(Sentences(forms, generator).kinds)
    names = [_Entry(kind, phrase) for kind, group in forms.names.items() for phrase in group]
    train = collection.train(generator.sample(names, len(names)), pairs)
    # Halving each kind by itself keeps both mixed alike.
    held = sorted(collection.hold_out(train, 2 * held_out), key=lambda entry: entry.kind)
    splits = (train, held[::2], held[1::2])
    return SampleSplits(*(_pairs(split, generator) for split in splits))


def lookup_baseline(
    train_sources: Sequence[str], train_targets: Sequence[str], sources: Sequence[str]
) -> list[str]:
    """Translate each source by the target of the most similar training source.

    Similar is what shares many groups of three characters (Dice's coefficient); of equals the first
    is taken. A model that doesn't score clearly higher has learned nothing but its training set.
    """
    groups = [_character_groups(text) for text in train_sources]
    sizes = numpy.array([len(group) for group in groups])
    occurrences: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        for characters in group:
            occurrences.setdefault(characters, []).append(place)
    places = {characters: numpy.array(found) for characters, found in occurrences.items()}
    translations: list[str] = []
    for text in sources:
        wanted = _character_groups(text)
        shared = numpy.zeros(len(sizes), dtype=numpy.int64)
        for characters in wanted & places.keys():
            shared[places[characters]] += 1
        translations.append(train_targets[int(numpy.argmax(shared / (sizes + len(wanted))))])
    return translations


class _Entry(NamedTuple):
    """A phrase with its kind, while the corpus is being made."""

    kind: str
    phrase: Phrase


class _Collection:
    """Draws sentences, and remembers what came up so that nothing is ambiguous or repeated."""

    def __init__(self, kinds: Mapping[str, Draw]) -> None:
        self._kinds = kinds
        self._translations: dict[str, str] = {}
        self._ambiguous: set[str] = set()
        self._targets: set[str] = set()

    def train(self, names: Sequence[_Entry], count: int) -> list[_Entry]:
        """Collect the training pairs: single names, then sentences."""
        chosen: dict[str, _Entry] = {}
        for entry in names:
            if len(chosen) < count // _NAME_SHARE:
                self._add(chosen, entry, lambda _: True)
        num_names = len(chosen)
        self._fill(chosen, count, lambda phrase: not _is_held_out(phrase))
        if len(chosen) < count:
            sentences = len(chosen) - num_names
            # With that many pairs, the share of names lets in so many names.
            largest = sentences + min(num_names, sentences // (_NAME_SHARE - 1))
            raise DataError(
                f"`data.corpus.pairs` must be at most {largest} for these languages, but is {count}"
            )
        return list(chosen.values())

    def hold_out(self, train: Sequence[_Entry], count: int) -> list[_Entry]:
        """Collect sentences whose names and units are in training."""
        known = frozenset[str]().union(*(entry.phrase.names for entry in train))
        chosen: dict[str, _Entry] = {}
        self._fill(chosen, count, lambda phrase: _is_held_out(phrase) and phrase.names <= known)
        if len(chosen) < count:
            raise DataError(
                f"`data.corpus.held_out` must be at most {len(chosen) // 2} for these languages"
                f" and {len(train)} training pairs, but is {count // 2}"
            )
        return list(chosen.values())

    def _fill(self, chosen: dict[str, _Entry], count: int, fits: Callable[[Phrase], bool]) -> None:
        """Draw from all kinds in turn until there are enough, or no kind has anything new."""
        failures = dict.fromkeys(self._kinds, 0)
        while failures and len(chosen) < count:
            for kind in list(failures)[: count - len(chosen)]:
                if self._draw(chosen, kind, fits):
                    failures[kind] = 0
                else:
                    failures[kind] += 1
                if failures[kind] == _PATIENCE:
                    del failures[kind]

    def _draw(self, chosen: dict[str, _Entry], kind: str, fits: Callable[[Phrase], bool]) -> bool:
        try:
            phrase = self._kinds[kind]()
        except MISSING:  # some patterns are needed for few values only
            return False
        return self._add(chosen, _Entry(kind, phrase), fits)

    def _add(
        self, chosen: dict[str, _Entry], entry: _Entry, fits: Callable[[Phrase], bool]
    ) -> bool:
        source, target, _ = entry.phrase
        if self._translations.setdefault(source, target) != target:
            self._ambiguous.add(source)
            chosen.pop(source, None)
        if (
            source in self._ambiguous
            or source == target
            or source in chosen
            or target in self._targets
            or not fits(entry.phrase)
        ):
            return False
        chosen[source] = entry
        self._targets.add(target)
        return True


def _locales(source: str, target: str) -> Locales:
    locales = Locales(_locale(source), _locale(target))
    if locales.source == locales.target:
        raise DataError(
            f"`data.source` and `data.target` must be different locales, such as 'en' and 'de',"
            f" but both are {source!r}"
        )
    return locales


def _locale(name: str) -> Locale:
    try:
        return Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        raise DataError(
            f"the sample corpus needs locales of the Unicode CLDR, such as 'de' or 'pt_BR',"
            f" but {name!r} isn't one"
        ) from None


@lru_cache(maxsize=8)  # choosing them takes most of the time of a small corpus
def _forms(locales: Locales) -> Forms:
    return Forms(locales)


def _is_held_out(phrase: Phrase) -> bool:
    return zlib.crc32(near(phrase.source).encode()) % _HELD_OUT_SHARE == 0


def _pairs(entries: Sequence[_Entry], generator: random.Random) -> list[Pair]:
    pairs = [Pair(phrase.source, phrase.target, kind) for kind, phrase in entries]
    generator.shuffle(pairs)
    return pairs


def _character_groups(text: str) -> set[str]:
    padded = f"  {text}  "
    return {padded[place : place + 3] for place in range(len(padded) - 2)}
