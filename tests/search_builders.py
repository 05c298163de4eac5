"""What the tests of search share: tables in the place of networks, and brute force."""

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from math import fsum, log

import pytest
import torch
from torch import Tensor

from seq2seq.model.attention import Memory
from seq2seq.model.decoder import State
from seq2seq.model.network import Network
from seq2seq.model.stepwise import Step, Stepwise
from seq2seq.search.beam import Settings, search
from seq2seq.search.forced import Forced, force
from seq2seq.search.hypothesis import Hypothesis, Scoring
from seq2seq.search.rules import Wishes
from seq2seq.search.scorer import Scorer, Symbols
from seq2seq.vocabulary import BOS, EOS, PAD, UNK
from tests.builders import columns, noisy

SIZE = 9
SYMBOLS = Symbols(start=BOS, end=EOS, never=(PAD, BOS, UNK))
ANYTHING = Wishes(0, 7)
A, B, C, D, E = range(4, SIZE)


class Table:
    """A network whose next token depends on the last one alone, with the given probabilities."""

    def __init__(self, table: Mapping[int, Mapping[int, float]]):
        probabilities = torch.zeros(SIZE, SIZE, dtype=torch.float64)
        for last, following in table.items():
            for token, probability in following.items():
                probabilities[last, token] = probability
        self.logits = probabilities.log().clamp(min=-1e4)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        nothing = torch.zeros(len(lengths), len(source), 1, dtype=torch.float64)
        mask = torch.ones(len(lengths), len(source), dtype=torch.bool)
        return Memory(nothing, nothing, mask, nothing)

    def start(self, memory: Memory, beam: int) -> State:
        nothing = torch.zeros(1, len(memory.values), beam, 1, dtype=torch.float64)
        return State(nothing, nothing, nothing)

    def step(self, memory: Memory, state: State, tokens: Tensor) -> Step:
        attention = torch.zeros(*tokens.shape, memory.mask.shape[1], dtype=torch.float64)
        return Step(self.logits[tokens], state, attention)

    def log_probabilities(self, features: Tensor) -> Tensor:
        return features.log_softmax(dim=1)


def stepwise(network: Network | Scorer) -> Scorer:
    """Make what search needs of a network."""
    return Stepwise(network) if isinstance(network, Network) else network


def look(
    network: Network | Scorer,
    sources: Sequence[Sequence[int]],
    settings: Settings,
    wishes: Wishes | Sequence[Wishes] = ANYTHING,
    *,
    extra: int = 0,
    uniforms: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """Search with padding of random ids, `extra` positions more than the longest source needs."""
    padded, lengths = columns(sources)
    return search(
        stepwise(network),
        noisy(padded, lengths, extra=extra, seed=extra),
        lengths,
        [wishes] * len(sources) if isinstance(wishes, Wishes) else wishes,
        symbols=SYMBOLS,
        settings=settings,
        uniforms=uniforms,
    )


def tokens_of(found: Sequence[Hypothesis]) -> list[list[int]]:
    return [each.tokens for each in found]


def assert_alike(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    """Compare hypotheses in their order."""
    assert tokens_of(found) == tokens_of(expected)
    for name in ("score", "log_probability"):
        values = [getattr(each, name) for each in expected]
        assert [getattr(each, name) for each in found] == pytest.approx(values, abs=1e-9)


def all_texts(vocabulary: Collection[int], shortest: int, longest: int) -> list[list[int]]:
    """Write all texts of such lengths, the end not counted."""
    lengths = range(shortest, longest + 1)
    return [list(text) for length in lengths for text in product(vocabulary, repeat=length)]


def brute_force(
    network: Network | Scorer,
    source: Sequence[int],
    targets: Sequence[Sequence[int]],
    scoring: Scoring,
) -> list[Hypothesis]:
    """Score all given texts, best first: Wu et al. 2016, equation 14, term by term."""
    (seen,) = force(stepwise(network), *columns([source]), [targets], symbols=SYMBOLS)
    scored = [
        Hypothesis(list(target), _score(each, scoring), fsum(each.log_probabilities))
        for target, each in zip(targets, seen, strict=True)
    ]
    return sorted(scored, key=lambda hypothesis: -hypothesis.score)


def _score(seen: Forced, scoring: Scoring) -> float:
    length = len(seen.log_probabilities)
    attended = [fsum(weights) for weights in zip(*seen.attention, strict=True)]
    divisor = (5 + length) / 6 if scoring.normalisation == "gnmt" else length
    covered = fsum(log(min(weight, 1.0)) for weight in attended)
    likelihood = fsum(seen.log_probabilities) / divisor**scoring.length_penalty
    return likelihood + scoring.coverage_penalty * covered
