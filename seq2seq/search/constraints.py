"""Words that a translation must have, and words that it may not have."""

import unicodedata
from collections.abc import Collection, Sequence
from typing import NamedTuple


class Progress(NamedTuple):
    """How much of what is required a hypothesis has."""

    met: int
    """Number of required tokens that are there."""
    following: frozenset[int]
    """Tokens that would add to them."""
    is_complete: bool


class Required:
    """Sequences of tokens that a translation must have, each once, in any order.

    A sequence is there where no token goes on with its last word. Hokamp and Liu, "Lexically
    Constrained Decoding for Sequence Generation Using Grid Beam Search" (2017): hypotheses compete
    with those that have as many required tokens as they have.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], continuing: Sequence[Collection[int]]):
        """Say what is required.

        Args:
            sequences: none empty.
            continuing: for each, the tokens after which it would not be a word by itself any more.
        """
        self.sequences = [tuple(each) for each in sequences]
        self._continuing = continuing
        self._by_length = sorted(range(len(sequences)), key=lambda number: -len(sequences[number]))
        self._starting: dict[int, list[int]] = {}
        for number in self._by_length:
            self._starting.setdefault(self.sequences[number][0], []).append(number)
        self.tokens = sum(map(len, sequences))
        """How many tokens are required."""

    def progress(self, history: Sequence[int]) -> Progress:
        """Say how far a hypothesis is."""
        found, rest, begun = self._places(tuple(history))
        missing = [number for number in self._by_length if number not in found]
        met = self.tokens - sum(len(self.sequences[number]) for number in missing) + len(rest)
        following = {self.sequences[number][len(rest)] for number in begun or missing}
        return Progress(met, frozenset(following), not missing)

    def undoing(self, history: Sequence[int], room: int) -> list[int]:
        """Say what would undo the sequence at the end, when there is no room to have it again.

        Args:
            history: tokens of the hypothesis.
            room: number of tokens that may still come.
        """
        for number, (_, end) in self.spans(history).items():
            if end == len(history) and room <= len(self.sequences[number]):
                return list(self._continuing[number])
        return []

    def spans(self, history: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Say where in a hypothesis each sequence is, by its number: first token, one past last."""
        return self._places(tuple(history))[0]

    def _places(
        self, tokens: tuple[int, ...]
    ) -> tuple[dict[int, tuple[int, int]], tuple[int, ...], list[int]]:
        """Find the sequences; what stands at the end and begins others of them; and which."""
        found: dict[int, tuple[int, int]] = {}
        place = 0
        while place < len(tokens):
            begins = self._starting.get(tokens[place])
            if begins is None:
                place += 1
                continue
            missing = [number for number in begins if number not in found]
            whole = next((number for number in missing if self._is_at(number, tokens, place)), None)
            if whole is not None:
                found[whole] = (place, place + len(self.sequences[whole]))
                place = found[whole][1]
                continue
            rest = tokens[place:]
            begun = [n for n in missing if self.sequences[n][: len(rest)] == rest]
            if begun:
                return found, rest, begun
            place += 1
        return found, (), []

    def _is_at(self, number: int, tokens: tuple[int, ...], place: int) -> bool:
        sequence = self.sequences[number]
        after = place + len(sequence)
        if tokens[place:after] != sequence:
            return False
        return after == len(tokens) or tokens[after] not in self._continuing[number]


class Avoided:
    """Texts that a translation may not have, as whole words, however they are cut into pieces.

    What is ruled out is the piece with which a text would be complete, so that a longer word which
    begins with it must be cut in another way.
    """

    def __init__(self, texts: Sequence[str], surfaces: Sequence[str]):
        """Say what is to be avoided.

        Args:
            texts: none empty.
            surfaces: what each token adds to the text.
        """
        self._surfaces = surfaces
        self._longest = max(map(len, texts)) + 1
        self._always = {
            token
            for token, surface in enumerate(surfaces)
            if any(text in surface and _has_inside(surface, text) for text in texts)
        }
        self._endings: list[tuple[str, str, list[int]]] = []
        for text in texts:
            for cut in range(len(text)):
                start, rest = text[:cut], text[cut:]
                tokens = [n for n, surface in enumerate(surfaces) if _begins(surface, rest)]
                self._endings.append((start, rest, tokens))

    def next_after(self, history: Sequence[int]) -> list[int]:
        """Give the tokens that would complete one of the texts."""
        tail, place = "", len(history)
        while place and len(tail) < self._longest:
            place -= 1
            tail = self._surfaces[history[place]] + tail
        banned = set(self._always)
        for start, rest, tokens in self._endings:
            before = tail.removesuffix(start)
            if tail.endswith(start) and is_boundary(before[-1:], (start + rest)[:1]):
                banned.update(tokens)
        return sorted(banned)


def is_boundary(before: str, after: str) -> bool:
    """Whether two characters (or nothing) side by side don't belong to one word."""
    return not (_is_of_word(before) and _is_of_word(after))


def _is_of_word(character: str) -> bool:
    """Whether a character is a letter, a digit or a mark: many a script's vowels are marks."""
    return character.isalnum() or (character != "" and unicodedata.category(character)[0] == "M")


def _begins(surface: str, text: str) -> bool:
    """Whether a token begins with a text, and goes on after it with nothing or with no letter."""
    return surface.startswith(text) and is_boundary(text[-1:], surface[len(text) :][:1])


def contains(text: str, words: str) -> bool:
    """Whether a text has words as whole ones."""
    return _has_inside(f" {text}", words)


def _has_inside(surface: str, text: str) -> bool:
    """Whether a token has a whole text that begins after its first character."""
    return any(
        is_boundary(surface[place - 1], text[0]) and _begins(surface[place:], text)
        for place in range(1, len(surface))
    )
