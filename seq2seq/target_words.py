"""What a request says in words, in the tokens of the target vocabulary."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from seq2seq.search.constraints import Avoided, Required, contains, is_boundary
from seq2seq.vocabulary import Vocabulary, normalize

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
    found: list[str] = []
    for kind in (kind for kind in _KEPT if kind in kinds):
        for match in _KEPT[kind].finditer(text):
            if not any(match[0] in other for other in found):
                found.append(match[0])
    return found


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
        """Say which tokens stand for what is required: the first, one past the last."""
        if self.required is None:
            return {}
        found = self.required.spans(tokens).items()
        return {place: self.required_texts[number] for number, place in found}

    def unmet(self, text: str) -> list[str]:
        """Name what a translation lacks, or has and should not."""
        unmet = [each for each in self.required_texts if each not in text]
        unmet += [each for each in self.avoided_texts if contains(text, each)]
        if not text.startswith(normalize(self.prefix).strip()):
            unmet.append(self.prefix)
        return unmet


class TargetWords:
    """Makes tokens of words, for search to heed."""

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._avoided = lru_cache(self._find_avoided)

    def asked(self, prefix: str, required: Sequence[str], avoided: Sequence[str]) -> Asked:
        """Say in tokens what is asked for."""
        required = list(dict.fromkeys(text.strip() for text in required if text.strip()))
        avoided = sorted({text.strip() for text in avoided if text.strip()})
        sequences = self._vocabulary.encode(required)
        endings = [self._continuing(text) for text in required]
        return Asked(
            prefix,
            self._vocabulary.encode([prefix])[0] if prefix.strip() else [],
            required,
            Required(sequences, endings) if required else None,
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
        surfaces = self._vocabulary.surfaces
        return frozenset(token for token, each in enumerate(surfaces) if each[:1].isalnum())

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
        return "".join(parts).removeprefix(" ")
