"""What a request says in words, in the tokens of the target vocabulary."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from seq2seq.search.constraints import Avoided, Required, contains, is_boundary
from seq2seq.vocabulary import UNK, Vocabulary, blank, normalize, unbroken, whole_text

_KEPT = {
    "url": re.compile(r"(?:https?://|ftp://|www\.)[^\s<>\"]*[^\s<>\"'.,;:!?()\[\]{}»”]"),
    "tag": re.compile(r"</?[A-Za-z][^<>]*>|\{\{?\w+\}?\}|%\w\b"),
    "number": re.compile(r"\d+(?:[.,:/]\d+)*"),
}


def kept(text: str, kinds: Collection[str]) -> list[str]:
    """Find what a translation has to take over from its source, each once.

    What is within something longer that is kept is no thing of its own.

    Args:
        text: the source.
        kinds: any of `url`, `tag` and `number`.
    """
    spans = [match.span() for kind in kinds for match in _KEPT[kind].finditer(text)]
    found: list[str] = []
    reached = 0
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if end > reached:
            found.append(text[start:end])
            reached = end
    return list(dict.fromkeys(found))


class Asked(NamedTuple):
    """What a translation must heed, in texts and in tokens."""

    prefix: str
    prefix_tokens: list[int]
    required_texts: list[str]
    required: Required | None
    avoided_texts: list[str]
    avoided: Avoided | None

    def less(self) -> "Asked":
        """Ask for less: without what is required; of what requires nothing, without all else."""
        if self.required is not None:
            return self._replace(required=None)
        return self._replace(prefix_tokens=[], avoided=None)

    def spans(self, tokens: Sequence[int]) -> dict[tuple[int, int], str]:
        """Say which tokens stand for the prefix and what is required: the first, one past the last.

        What is required and goes beyond the prefix in which it begins leaves no span for that.
        """
        required = self.required.spans(tokens) if self.required is not None else {}
        found = {place: self.required_texts[number] for number, place in required.items()}
        end = len(self.prefix_tokens)
        if list(tokens[:end]) != self.prefix_tokens or any(a < end < b for a, b in found):
            return found
        after = {place: text for place, text in found.items() if place[0] >= end}
        return {(0, end): self.prefix, **after} if end else after

    def unmet(self, text: str) -> list[str]:
        """Name what a translation lacks, or has and should not."""
        unmet = [each for each in self.required_texts if not contains(text, each)]
        unmet += [each for each in self.avoided_texts if contains(normalize(text), each)]
        if not text.startswith(self.prefix):
            unmet.append(self.prefix)
        return unmet


class TargetWords:
    """Makes tokens of words, for search to heed."""

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._avoided = lru_cache(self._find_avoided)

    def asked(self, prefix: str, required: Sequence[str], avoided: Sequence[str]) -> Asked:
        """Say in tokens what is asked for; what has nothing to see asks for nothing."""
        prefix, required = "".join(_visible([prefix])), _visible(required)
        avoided = sorted({normalize(text) for text in _visible(avoided)})
        asks = prefix or required  # most requests ask for nothing
        sequences = self._vocabulary.encode([prefix, *required]) if asks else [[]]
        endings = [self._continuing(text) for text in required]
        return Asked(
            prefix,
            sequences[0],
            required,
            Required(sequences[1:], endings) if required else None,
            avoided,
            self._avoided(tuple(avoided)) if avoided else None,
        )

    def _find_avoided(self, texts: tuple[str, ...]) -> Avoided:
        return Avoided(texts, self._vocabulary.surfaces)

    def _continuing(self, text: str) -> frozenset[int]:
        """Find the tokens that would go on with a text's last word."""
        return self._continuing_letters if not is_boundary(text[-1], "a") else frozenset()

    @cached_property
    def _continuing_letters(self) -> frozenset[int]:
        """What begins with a letter or a digit, and what is unknown, which may well be one."""
        surfaces = self._vocabulary.surfaces
        letters = (n for n, each in enumerate(surfaces) if not is_boundary("a", each[:1]))
        return frozenset({UNK, *letters})

    def text(self, tokens: Sequence[int], spans: Mapping[tuple[int, int], str]) -> str:
        """Write tokens as text, with other texts in the place of some.

        Args:
            tokens: without special ones but the unknown one.
            spans: texts by the places of the tokens that they stand for: first, one past the last.
        """
        if not spans:
            return self._vocabulary.decode([tokens])[0]
        surfaces = self._vocabulary.surfaces
        parts: list[str] = []
        place = 0
        for (start, end), text in sorted(spans.items()):
            parts += [surfaces[token] for token in tokens[place:start]]
            begins_word = surfaces[tokens[start]].startswith(" ")
            parts.append(f" {text}" if begins_word else text)
            place = end
        parts += [surfaces[token] for token in tokens[place:]]
        return whole_text("".join(parts)).removeprefix(" ")


def _visible(texts: Sequence[str]) -> list[str]:
    """Take each text once, without what would break a line or surrounds it."""
    return list(dict.fromkeys(unbroken(text).strip() for text in texts if not blank(text)))
