"""Subword sampling: a sentence in other pieces each time that it is read, as (seed, epoch) say.

SentencePiece can draw segmentations too, but not the same ones in two processes. What is drawn here
is a function of (seed, epoch, example, side) and of nothing else.
"""

import random
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from math import exp, inf, log
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy
import numpy.typing

from seq2seq.config import BpeDropout, PlainSegmentation, Segmentation, UnigramSampling
from seq2seq.errors import DataError
from seq2seq.vocabulary import Side, Vocabularies, Vocabulary
from seq2seq.vocabulary_proto import ALGORITHMS, NORMAL, read_model

Ids = numpy.typing.NDArray[numpy.integer[Any]]
Draw = Callable[[], float]
"""Gives the next number of [0, 1)."""

_WORDS = 20_000  # that a process remembers the ways to cut of: about a kilobyte each
_LONG = 8  # pieces of a word that isn't remembered, such as a Japanese sentence
_SPACE = "▁"


class Pieces:
    """The pieces of a vocabulary that text can be cut into."""

    def __init__(self, vocabulary: Vocabulary):
        model = read_model(vocabulary.model)
        self.algorithm: str = ALGORITHMS.get(model.trainer_spec.model_type, "")
        self.names: list[str] = [piece.piece for piece in model.pieces]
        self.scores: list[float] = [piece.score for piece in model.pieces]
        self._is_free = [piece.type == NORMAL for piece in model.pieces]
        self.ids = {name: n for n, name in enumerate(self.names) if self._is_free[n]}
        self.longest = max(map(len, self.ids), default=0)
        # As SentencePiece makes them, pieces have a space at their beginning or nowhere.
        has_words = not any(_SPACE in name[1:] for name in self.ids)
        self._begins_word = [has_words and name[:1] == _SPACE for name in self.names]

    def words(self, ids: Sequence[int]) -> Iterator[tuple[bool, tuple[int, ...]]]:
        """Part a sentence into what no piece reaches across, and say what is free to be cut anew.

        Special pieces, bytes, tags and the user's symbols are not.
        """
        word: list[int] = []
        for number in ids:
            is_free = self._is_free[number]
            if word and (self._begins_word[number] or not is_free):
                yield True, tuple(word)
                word = []
            if is_free:
                word.append(number)
            else:
                yield False, (number,)
        if word:
            yield True, tuple(word)

    def text(self, word: Sequence[int]) -> str:
        """Put pieces together."""
        return "".join([self.names[number] for number in word])


@runtime_checkable
class _Cutter(Protocol):
    def __call__(self, word: tuple[int, ...], draw: Draw) -> list[int]:
        """Draw the pieces of a word that was cut into others."""
        ...


class _Edges(NamedTuple):
    """The pieces that can end at one place of a word."""

    cumulative: list[float]
    """Their probabilities, each added to those before; without the last one."""
    starts: list[int]
    ids: list[int]


class UnigramCutter:
    """Draws among all ways to cut a word, with probabilities ∝ p(pieces)^alpha.

    Forward filtering, backward sampling (Kudo, "Subword Regularization", 2018, with l = ∞).
    """

    def __init__(self, pieces: Pieces, alpha: float):
        self._pieces = pieces
        self._weights = [alpha * score for score in pieces.scores]  # logarithms
        self._remembered = lru_cache(maxsize=_WORDS)(self.edges)

    def __call__(self, word: tuple[int, ...], draw: Draw) -> list[int]:
        """Draw from the last piece to the first one."""
        edges = self._remembered(word) if len(word) < _LONG else self.edges(word)
        drawn: list[int] = []
        place = len(edges)
        while place:
            cumulative, starts, ids = edges[place - 1]
            chosen = bisect(cumulative, draw()) if cumulative else 0
            drawn.append(ids[chosen])
            place = starts[chosen]
        drawn.reverse()
        return drawn

    def edges(self, word: tuple[int, ...]) -> list[_Edges]:
        """Find what can end after each character."""
        text, known, weights = self._pieces.text(word), self._pieces.ids, self._weights
        sums = [0.0]  # logarithms of the weights of all ways to a place
        edges: list[_Edges] = []
        for end in range(1, len(text) + 1):
            ways = [
                (sums[start] + weights[number], start, number)
                for start in range(max(0, end - self._pieces.longest), end)
                if (number := known.get(text[start:end])) is not None and sums[start] > -inf
            ]
            best = max(ways)[0] if ways else -inf
            cumulative = list(accumulate([exp(weight - best) for weight, _, _ in ways]))
            total = cumulative.pop() if ways else 0.0
            sums.append(best + log(total) if ways else -inf)
            shares = [each / total for each in cumulative]
            edges.append(_Edges(shares, [way[1] for way in ways], [way[2] for way in ways]))
        return edges


class _Merging(NamedTuple):
    """A word on its way from characters to pieces."""

    parts: list[str]
    ranks: list[float]
    """Which merge of two neighbours comes first, by the left one's place; infinite: none."""

    def copy(self) -> "_Merging":
        """Give another one, to go on with."""
        return _Merging(self.parts.copy(), self.ranks.copy())


class BpeCutter:
    """Merges as BPE does, but each time leaves a share of the possible merges out.

    Provilkov, Emelianenko and Voita, "BPE-Dropout" (2020), algorithm 1: a merge that was left out
    may be made when another one has been.
    """

    def __init__(self, pieces: Pieces, share: float):
        self._pieces, self._share = pieces, share
        self._remembered = lru_cache(maxsize=_WORDS)(self.merges)

    def __call__(self, word: tuple[int, ...], draw: Draw) -> list[int]:
        """Merge until all that could be made is left out."""
        merges = self._remembered(word) if len(word) < _LONG else self.merges(word)
        # Until a merge is left out for the first time, it is BPE: after how many has this chance.
        made = int(log(1.0 - draw()) / log(1.0 - self._share)) if self._share else len(merges)
        if made >= len(merges) - 1:
            return self._ids(merges[-1])
        merging = merges[made].copy()
        place = self._next(merging.ranks, draw, is_first_out=True)
        while place is not None:
            self._merge(merging, place)
            place = self._next(merging.ranks, draw)
        return self._ids(merging)

    def merges(self, word: tuple[int, ...]) -> list[_Merging]:
        """Give the steps of BPE, from characters to pieces.

        There are none where a character is no piece, as in some models of other programs.
        """
        text = self._pieces.text(word)
        if any(character not in self._pieces.ids for character in text):
            names = [self._pieces.names[number] for number in word]
            return [_Merging(names, [])]
        ranks = [self._rank(left + right) for left, right in pairwise(text)]
        steps = [_Merging(list(text), ranks)]
        while (first := min(steps[-1].ranks, default=inf)) < inf:
            steps.append(steps[-1].copy())
            self._merge(steps[-1], steps[-1].ranks.index(first))
        return steps

    def _next(self, ranks: list[float], draw: Draw, *, is_first_out: bool = False) -> int | None:
        """Choose the first of all merges that isn't left out; it is known of the very first."""
        rest = ranks
        while rest and (first := min(rest)) < inf:
            place = rest.index(first)
            if not is_first_out and draw() >= self._share:
                return place
            is_first_out = False
            if rest is ranks:
                rest = ranks.copy()
            rest[place] = inf
        return None

    def _merge(self, merging: _Merging, place: int) -> None:
        parts, ranks = merging
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
        del ranks[place]
        if place:
            ranks[place - 1] = self._rank(parts[place - 1] + parts[place])
        if place < len(ranks):
            ranks[place] = self._rank(parts[place] + parts[place + 1])

    def _rank(self, piece: str) -> float:
        number = self._pieces.ids.get(piece)
        return inf if number is None else -self._pieces.scores[number]

    def _ids(self, merging: _Merging) -> list[int]:
        return [self._pieces.ids[part] for part in merging.parts]


class SampledSegmentation:
    """Cuts sentences of both sides anew: a function of (seed, epoch, example, side)."""

    def __init__(
        self, vocabularies: Vocabularies, new_cutter: Callable[[Pieces], _Cutter], seed: int
    ):
        """Prepare for the vocabularies.

        Args:
            vocabularies: that sentences are encoded with.
            new_cutter: makes what draws the pieces of words.
            seed: of the run.
        """
        source = Pieces(vocabularies.source)
        target = source if vocabularies.joint else Pieces(vocabularies.target)
        self._pieces: dict[Side, Pieces] = {"source": source, "target": target}
        cutters = {id(pieces): new_cutter(pieces) for pieces in (source, target)}
        self._cutters = {side: cutters[id(pieces)] for side, pieces in self._pieces.items()}
        self._seed = seed

    def __call__(self, side: Side, ids: Ids, *, epoch: int, example: int) -> Ids:
        """Draw other pieces for a sentence; what isn't text, or is unknown, stays as it is."""
        draw = random.Random(f"{self._seed} {epoch} {example} {side}").random
        pieces, cutter = self._pieces[side], self._cutters[side]
        drawn: list[int] = []
        for is_free, word in pieces.words(ids.tolist()):
            drawn += cutter(word, draw) if is_free else word
        return numpy.array(drawn, dtype=ids.dtype)


def new_segmentation(
    settings: Segmentation, vocabularies: Vocabularies, seed: int
) -> SampledSegmentation | None:
    """Make what cuts sentences anew; nothing where each keeps its pieces.

    Raises:
        DataError: the vocabularies are of another kind.
    """
    match settings:
        case PlainSegmentation():
            return None
        case UnigramSampling(alpha=alpha):
            needed, new_cutter = "unigram", partial(UnigramCutter, alpha=alpha)
        case BpeDropout(share=share):
            needed, new_cutter = "bpe", partial(BpeCutter, share=share)
    for vocabulary in vocabularies:
        algorithm = Pieces(vocabulary).algorithm
        if algorithm != needed:
            raise DataError(
                f"training.sampling.kind={settings.kind} is for vocabularies of the algorithm"
                f" {needed}, but there is one of {algorithm}: choose another kind, or none"
            )
    return SampledSegmentation(vocabularies, new_cutter, seed)
