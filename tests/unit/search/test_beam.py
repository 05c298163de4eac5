"""Beam search: against greedy search, brute force and tables worked out by hand."""

from collections.abc import Mapping, Sequence
from math import log
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seq2seq.model.network import Network
from seq2seq.model.stepwise import Stepwise
from seq2seq.search.beam import Settings
from seq2seq.search.candidates import Sampling
from seq2seq.search.constraints import Avoided, Required
from seq2seq.search.hypothesis import Hypothesis, Scoring
from seq2seq.search.rules import Wishes
from seq2seq.search.scorer import Scorer
from seq2seq.vocabulary import BOS, EOS, NUM_SPECIAL
from tests.builders import batch_of, columns, logits_of, tiny_network, variant
from tests.search_builders import (
    SIZE,
    SYMBOLS,
    A,
    B,
    C,
    D,
    E,
    Table,
    all_texts,
    assert_alike,
    brute_force,
    look,
)

LAYOUTS = {
    layout: variant(layout=layout, embedding_size=3, decoder_layers=2, encoder_layers=1)
    for layout in ("gnmt", "luong", "input_feeding")
}
sentences = st.lists(
    st.lists(st.integers(NUM_SPECIAL, SIZE - 1), min_size=1, max_size=5), min_size=1, max_size=5
)
seeds = st.integers(0, 1000)
beams = st.integers(1, 4)
penalties = st.sampled_from([0.0, 0.6, 1.0, 2.0])
sometimes = settings(deadline=None, max_examples=15)


def find(
    network: Network | Scorer,
    sources: Sequence[Sequence[int]],
    *,
    beam: int,
    penalty: float = 1.0,
    longest: int | Sequence[int] = 8,
    extra: int = 0,
) -> list[Hypothesis]:
    """Find the best translation of each; the greatest lengths count the end."""
    limits = [longest] * len(sources) if isinstance(longest, int) else longest
    wishes = [Wishes(0, limit - 1) for limit in limits]
    found = look(network, sources, Settings(beam, Scoring(penalty)), wishes, extra=extra)
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


class Wanted(NamedTuple):
    """What is wanted of a translation."""

    shortest: int
    room: int
    prefix: list[int]
    required: list[list[int]]
    avoided: str

    @property
    def wishes(self) -> Wishes:
        required, avoided = self.required, self.avoided
        return Wishes(
            self.shortest,
            self.shortest + self.room,
            self.prefix,
            Required(required, [frozenset({D})] * len(required)) if required else None,
            Avoided([avoided], SURFACES) if avoided else None,
        )


class Case(NamedTuple):
    """Sentences, what is wanted of their translations, and the numbers to draw with."""

    sources: list[list[int]]
    wanted: list[Wanted]
    uniforms: Tensor

    def some(self, places: Sequence[int]) -> "Case":
        return Case(
            [self.sources[place] for place in places],
            [self.wanted[place] for place in places],
            self.uniforms[list(places)],
        )

    def found(self, network: Scorer, settings: Settings, extra: int = 0) -> list[list[Hypothesis]]:
        numbers = self.uniforms if settings.sampling else None
        wishes = [each.wishes for each in self.wanted]
        return look(network, self.sources, settings, wishes, extra=extra, uniforms=numbers)


WORDS = st.lists(st.integers(A, C), min_size=1, max_size=2)
SURFACES = ["", "", "", "", " a", "b", " c", "d", " b"]
wanted = st.builds(
    Wanted,
    st.integers(0, 3),
    st.integers(0, 4),
    st.lists(st.integers(3, E), max_size=2),
    st.lists(WORDS, max_size=2),
    st.sampled_from(["", "ab", "c d"]),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sources = draw(sentences)
    generator = torch.Generator().manual_seed(draw(seeds))
    uniforms = torch.rand(len(sources), 6, 10, generator=generator)
    return Case(sources, [draw(wanted) for _ in sources], uniforms)


scorings = st.builds(
    lambda *each: Scoring(*each),
    penalties,
    st.sampled_from(["average", "gnmt"]),
    st.sampled_from([0.0, 0.3]),
)


@st.composite
def ways(draw: st.DrawFn) -> Settings:
    if draw(st.booleans()):
        groups, diversity = draw(st.sampled_from([2, 3, 6])), draw(st.sampled_from([0.0, 0.7]))
        return Settings(6, groups=groups, diversity=diversity)
    return Settings(
        draw(st.sampled_from([1, 2, 4, 6])),
        draw(scorings),
        sampling=draw(st.sampled_from([None, Sampling(1.0, 0, 1.0), Sampling(1.5, 4, 0.9)])),
        block_ngrams=draw(st.integers(0, 2)),
        repetition_penalty=draw(st.sampled_from([1.0, 1.5])),
    )


@given(seeds, cases(), ways(), st.integers(0, 4), st.data())
@settings(deadline=None, max_examples=40)
def test_neither_order_nor_company_nor_padding_matters(
    seed: int, case: Case, way: Settings, extra: int, data: st.DataObject
) -> None:
    network = Stepwise(tiny_network(seed))
    together = case.found(network, way)
    order = data.draw(st.permutations(range(len(case.sources))))
    moved = case.some(order).found(network, way, extra)
    for place, found in zip(order, moved, strict=True):
        assert_alike(found, together[place])
    for place, expected in enumerate(together):
        (alone,) = case.some([place]).found(network, way)
        assert_alike(alone, expected)


@given(
    seeds,
    st.sampled_from([*LAYOUTS]),
    scorings,
    st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda pair: pair[0] <= pair[1]),
)
@settings(deadline=None, max_examples=40)
def test_a_beam_as_wide_as_the_space_finds_all_there_is_in_order(
    seed: int, layout: str, scoring: Scoring, limits: tuple[int, int]
) -> None:
    network = tiny_network(seed, LAYOUTS[layout], size=7)
    texts, source, limit = all_texts((A, B, C), *limits), [A, C, B], Wishes(*limits)
    expected = brute_force(network, source, texts, scoring)
    (found,) = look(network, [source], Settings(len(texts), scoring), limit)
    assert_alike(found, expected)
    for beam in (1, 2, 5):
        (narrower,) = look(network, [source], Settings(beam, scoring), limit)
        assert len(narrower) == min(beam, len(texts))
        assert narrower[0].score <= expected[0].score + 1e-9
        each = {tuple(hypothesis.tokens): hypothesis for hypothesis in expected}
        assert_alike(narrower, [each[tuple(hypothesis.tokens)] for hypothesis in narrower])


@given(
    seeds,
    st.lists(WORDS, min_size=1, max_size=2).filter(lambda words: sum(map(len, words)) < 4),
    st.sampled_from([(), (D,)]),
)
@settings(deadline=None, max_examples=10)
def test_the_widest_beam_finds_all_that_has_what_is_required(
    seed: int, words: list[list[int]], continuing: tuple[int, ...]
) -> None:
    network, required = tiny_network(seed, size=8), Required(words, [continuing] * len(words))
    texts = [text for text in all_texts((A, B, C, D), 0, 3) if required.progress(text).is_complete]
    (found,) = look(network, [[A, C]], Settings(85), Wishes(0, 3, required=required))
    assert_alike(found, brute_force(network, [A, C], texts, Scoring()))


@given(
    seeds,
    st.lists(WORDS, min_size=1, max_size=3),
    st.sampled_from([(), (D,), (D, E)]),
    st.integers(0, 2),
    ways(),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_what_is_required_is_found_wherever_there_is_room_for_it(
    seed: int,
    words: list[list[int]],
    continuing: tuple[int, ...],
    room: int,
    way: Settings,
    unlikely: bool,
) -> None:
    """Even where it is unlikely, and where what would undo it is by far the likeliest."""
    network, required = tiny_network(seed), Required(words, [continuing] * len(words))
    with torch.no_grad():
        network.output.bias[[A, B, C]] -= 15.0 * unlikely
        network.output.bias[list(continuing)] += 10.0
    wish = Wishes(0, required.tokens + room, required=required)
    uniforms = torch.rand(1, 6, 10, generator=torch.Generator().manual_seed(seed))
    (found,) = look(network, [[A, C]], way, wish, uniforms=uniforms)
    assert len(found) >= (1 if way.block_ngrams else way.groups)
    assert all(required.progress(each.tokens).is_complete for each in found)


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
