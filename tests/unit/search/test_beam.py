"""Beam search: against greedy search, brute force and tables worked out by hand."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seq2seq.model.attention import Memory
from seq2seq.model.decoder import State
from seq2seq.model.network import Network
from seq2seq.model.stepwise import Step, Stepwise
from seq2seq.search.beam import Settings, search
from seq2seq.search.hypothesis import Hypothesis, Scoring
from seq2seq.search.rules import Wishes
from seq2seq.search.scorer import Scorer, Symbols
from seq2seq.vocabulary import BOS, EOS, NUM_SPECIAL, PAD, UNK
from tests.builders import batch_of, columns, logits_of, noisy, tiny_network

SIZE = 9
SYMBOLS = Symbols(start=BOS, end=EOS, never=(PAD, BOS, UNK))
A, B, C = 4, 5, 6
sentences = st.lists(
    st.lists(st.integers(NUM_SPECIAL, SIZE - 1), min_size=1, max_size=5), min_size=1, max_size=5
)
seeds = st.integers(0, 1000)
beams = st.integers(1, 4)
penalties = st.sampled_from([0.0, 0.6, 1.0, 2.0])
sometimes = settings(deadline=None, max_examples=15)


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


def find(
    network: Network | Scorer,
    sources: Sequence[Sequence[int]],
    *,
    beam: int,
    penalty: float = 1.0,
    longest: int | Sequence[int] = 8,
    extra: int = 0,
) -> list[Hypothesis]:
    """Search with padding of random ids, `extra` positions more than the longest source needs.

    The greatest lengths count the end.
    """
    padded, lengths = columns(sources)
    limits = [longest] * len(sources) if isinstance(longest, int) else longest
    found = search(
        Stepwise(network) if isinstance(network, Network) else network,
        noisy(padded, lengths, extra=extra, seed=extra),
        lengths,
        [Wishes(0, limit - 1) for limit in limits],
        symbols=SYMBOLS,
        settings=Settings(beam, Scoring(penalty)),
    )
    return [hypotheses[0] for hypotheses in found]


def find_in(
    table: Mapping[int, Mapping[int, float]], *, beam: int, penalty: float, longest: int = 8
) -> Hypothesis:
    (found,) = find(Table(table), [[A]], beam=beam, penalty=penalty, longest=longest)
    return found


def forced_scores(
    network: Network, pairs: Sequence[tuple[list[int], list[int]]], penalty: float
) -> list[float]:
    """The scores of known translations, by the way that training goes."""
    batch = batch_of(*pairs)
    each = (
        logits_of(network, batch).log_softmax(dim=1).gather(1, batch.target_output[:, None])[:, 0]
    )
    sums = torch.zeros(len(pairs), dtype=torch.float64)
    sums.index_add_(0, batch.target_rows % len(pairs), each.detach())
    return [
        total / (len(target) + 1) ** penalty
        for total, (_, target) in zip(sums.tolist(), pairs, strict=True)
    ]


def greedy(network: Network, source: list[int], longest: int) -> list[int]:
    """Take the likeliest token again and again."""
    padded, lengths = columns([source])
    stepwise = Stepwise(network)
    memory = stepwise.encode(padded, lengths)
    state, tokens = stepwise.start(memory, 1), [BOS]
    while len(tokens) < longest:
        scores = stepwise.step(memory, state, torch.tensor([[tokens[-1]]]))
        state = scores.state
        logits = network.output(scores.features[0, 0])
        allowed = [token for token in range(SIZE) if token not in SYMBOLS.never]
        tokens.append(max(allowed, key=lambda token: logits[token].item()))
        if tokens[-1] == EOS:
            return tokens[1:-1]
    return tokens[1:]


@given(seeds, sentences)
@sometimes
def test_a_beam_of_one_is_greedy(seed: int, sources: list[list[int]]) -> None:
    network = tiny_network(seed)
    found = find(network, sources, beam=1)
    assert [entry.tokens for entry in found] == [greedy(network, source, 8) for source in sources]


@given(seeds, sentences, beams, penalties)
@sometimes
def test_the_score_is_what_training_would_say(
    seed: int, sources: list[list[int]], beam: int, penalty: float
) -> None:
    network = tiny_network(seed)
    found = find(network, sources, beam=beam, penalty=penalty)
    targets = [entry.tokens for entry in found]
    forced = forced_scores(network, list(zip(sources, targets, strict=True)), penalty)
    assert [entry.score for entry in found] == pytest.approx(forced, abs=1e-9)


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [entry.tokens for entry in found] == [entry.tokens for entry in expected]
    scores = [entry.score for entry in expected]
    assert [entry.score for entry in found] == pytest.approx(scores, abs=1e-12)


@given(seeds, sentences, beams, penalties, st.integers(0, 4), st.data())
@sometimes
def test_neither_order_nor_company_nor_padding_matters(
    seed: int,
    sources: list[list[int]],
    beam: int,
    penalty: float,
    extra: int,
    data: st.DataObject,
) -> None:
    network = tiny_network(seed)
    limits = [3 + len(source) for source in sources]
    together = find(network, sources, beam=beam, penalty=penalty, longest=limits)

    order = data.draw(st.permutations(range(len(sources))))
    moved = find(
        network,
        [sources[place] for place in order],
        beam=beam,
        penalty=penalty,
        longest=[limits[place] for place in order],
        extra=extra,
    )
    assert_same(moved, [together[place] for place in order])
    assert all(len(found.tokens) < limit for found, limit in zip(together, limits, strict=True))
    for source, limit, found in zip(sources, limits, together, strict=True):
        assert_same(find(network, [source], beam=beam, penalty=penalty, longest=limit), [found])


@given(seeds, penalties)
@sometimes
def test_a_beam_as_wide_as_the_space_finds_the_best_there_is(seed: int, penalty: float) -> None:
    """Of all translations of at most two words (three tokens, the end counted)."""
    network, vocabulary = tiny_network(seed, size=7), (A, B, C)
    everything = [
        list(words) for length in range(3) for words in product(vocabulary, repeat=length)
    ]
    source = [A, C, B]
    scores = forced_scores(network, [(source, target) for target in everything], penalty)
    (found,) = find(network, [source], beam=len(everything), penalty=penalty, longest=3)
    assert found.score == pytest.approx(max(scores), abs=1e-9)
    assert found.tokens == everything[scores.index(max(scores))]


@given(seeds, sentences, beams)
@sometimes
def test_what_may_never_come_never_comes(seed: int, sources: list[list[int]], beam: int) -> None:
    network = tiny_network(seed)
    with torch.no_grad():
        network.output.bias[list(SYMBOLS.never)] += 20.0  # by far the likeliest
    for found in find(network, sources, beam=beam):
        assert not {*found.tokens} & {*SYMBOLS.never, EOS}


@pytest.mark.parametrize("beam", [1, 2])
def test_the_end_is_forced_at_the_greatest_length(beam: int) -> None:
    """Each sentence has its own greatest length, the end counted."""
    table = {BOS: {A: 0.9, B: 0.1}, A: {A: 1.0 - 1e-9, EOS: 1e-9}, B: {A: 1.0 - 1e-9, EOS: 1e-9}}
    found = find(Table(table), [[A]] * 3, beam=beam, longest=[2, 5, 3], penalty=0.0)
    assert [entry.tokens for entry in found] == [[A], [A] * 4, [A] * 2]
    wanted = log(0.9) + log(1e-9)
    assert [entry.score for entry in found] == pytest.approx([wanted] * 3, abs=1e-6)


def test_a_greatest_length_of_one_leaves_room_for_the_end_alone() -> None:
    network = tiny_network()
    (found,) = find(network, [[A, B]], beam=3, longest=1)
    assert found.tokens == []
    assert [found.score] == pytest.approx(forced_scores(network, [([A, B], [])], 1.0), abs=1e-9)


def test_the_length_penalty_decides_between_short_and_long() -> None:
    """`[]` has log 0.4 = -0.92; `[A]` log 0.36 = -1.02, over two tokens -0.51."""
    table = {BOS: {EOS: 0.4, A: 0.6}, A: {EOS: 0.6, B: 0.4}, B: {EOS: 1.0}}
    short = find_in(table, beam=2, penalty=0.0)
    assert short.tokens == []
    assert short.score == pytest.approx(log(0.4))
    long = find_in(table, beam=2, penalty=1.0)
    assert long.tokens == [A]
    assert long.score == pytest.approx(log(0.36) / 2)
    # Between the two: 2 ** x = log 0.36 / log 0.4, so x = 0.157.
    assert find_in(table, beam=2, penalty=0.15).tokens == []
    assert find_in(table, beam=2, penalty=0.17).tokens == [A]


def test_a_wider_beam_finds_what_greedy_search_walks_past() -> None:
    """A looks better at first (0.6), but what follows B is certain: 0.4 against 0.6 times 0.55."""
    table = {BOS: {A: 0.6, B: 0.4}, A: {A: 0.45, EOS: 0.55}, B: {C: 1.0}, C: {EOS: 1.0}}
    assert find_in(table, beam=1, penalty=0.0, longest=3).tokens == [A]
    found = find_in(table, beam=2, penalty=0.0, longest=3)
    assert found.tokens == [B, C]
    assert found.score == pytest.approx(log(0.4))


def test_the_search_goes_on_until_there_are_as_many_ends_as_the_beam_is_wide() -> None:
    """After `[]` (log 0.6 = -0.51), `[A, B]` (log 0.4 over three tokens, -0.31) is still found."""
    table = {BOS: {EOS: 0.6, A: 0.4}, A: {B: 1.0}, B: {EOS: 1.0}}
    assert find_in(table, beam=1, penalty=1.0).tokens == []
    found = find_in(table, beam=2, penalty=1.0)
    assert found.tokens == [A, B]
    assert found.score == pytest.approx(log(0.4) / 3)


def test_a_hypothesis_that_has_ended_leaves_its_place_empty() -> None:
    """Beside `[]` and A there is no place for B, though what follows it would win."""
    table = {
        BOS: {EOS: 0.4, A: 0.35, B: 0.25},
        A: {A: 0.5, C: 0.5},
        B: {C: 1.0},
        C: {EOS: 1.0},
    }
    found = find_in(table, beam=2, penalty=1.0)
    assert found.tokens == [A, C]
    assert found.score == pytest.approx(log(0.35 * 0.5) / 3)
    assert find_in(table, beam=3, penalty=1.0).tokens == [B, C]
