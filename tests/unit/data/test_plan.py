"""The plan of an epoch: what it holds, how like the examples of a batch are, who meets again."""

import math
from collections import Counter
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data import plan as plan_module
from seq2seq.data.cutting import cut_share
from seq2seq.data.plan import Indices, Lengths, Plan, plan_epoch
from seq2seq.data.weights import Share

LONGEST = 12


def as_lengths(pairs: list[tuple[int, int]]) -> Lengths:
    source, target = numpy.array(pairs, dtype=numpy.uint8).reshape(-1, 2).T
    return Lengths(source, target)


def batches_of(plan: Plan) -> list[Indices]:
    return [plan[number] for number in range(len(plan))]


def as_sets(plan: Plan) -> list[frozenset[int]]:
    return [frozenset(batch.tolist()) for batch in batches_of(plan)]


some_lengths = st.lists(
    st.tuples(st.integers(1, LONGEST), st.integers(1, LONGEST)), max_size=60
).map(as_lengths)
weights = st.one_of(st.integers(1, 3).map(float), st.floats(0.01, 4))


@st.composite
def parts_of(draw: st.DrawFn, number: int) -> list[Share]:
    ends = sorted(draw(st.lists(st.integers(0, number), max_size=3)))
    sizes = numpy.diff([0, *ends, number]).tolist()
    return [Share(size, draw(weights)) for size in sizes if size]


@settings(deadline=None)
@given(
    data=st.data(),
    lengths=some_lengths,
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
    tokens_per_step=st.integers(LONGEST, 200),
)
def test_every_example_comes_as_often_as_its_weight_says_and_batches_are_within_the_budget(
    data: st.DataObject, lengths: Lengths, seed: int, epoch: int, tokens_per_step: int
):
    parts = data.draw(st.one_of(st.just([]), parts_of(len(lengths.target))))

    def make() -> Plan:
        return plan_epoch(
            lengths, seed=seed, epoch=epoch, tokens_per_step=tokens_per_step, parts=parts
        )

    plan = make()
    counts = Counter(example for batch in batches_of(plan) for example in batch.tolist())
    start = 0
    for number, weight in parts or [Share(len(lengths.target))]:
        times = [counts[example] for example in range(start, start + number)]
        assert all(math.floor(weight) <= some <= math.ceil(weight) for some in times)
        assert abs(sum(times) - number * weight) <= 0.5 or (weight < 1 and sum(times) == 1)
        start += number
    for batch, described in zip(batches_of(plan), plan.batches, strict=True):
        assert 0 < lengths.target[batch].sum() == described["target_tokens"] <= tokens_per_step
        assert (len(batch), described["source"], described["target"]) == (
            described["size"],
            lengths.source[batch].max(),
            lengths.target[batch].max(),
        )
    assert plan.target_tokens == sum(lengths.target[batch].sum() for batch in batches_of(plan))
    assert [batch.tolist() for batch in batches_of(make())] == [
        batch.tolist() for batch in batches_of(plan)
    ]


def test_the_plan_is_the_same_on_all_machines_and_for_ever():
    """What a run that is gone on with relies on; another plan is another training."""
    lengths = as_lengths([(1 + number % 5, 1 + number % 7) for number in range(20)])
    plan = plan_epoch(lengths, seed=3, epoch=2, tokens_per_step=20)
    assert [batch.tolist() for batch in batches_of(plan)] == EXPECTED


EXPECTED = [[19, 6, 12], [5], [1, 16, 9, 18, 3, 7], [11, 8, 0, 14, 10, 2], [4, 17, 15, 13]]


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_pieces_that_are_looked_at_at_once_leave_nothing_out(
    piece: int, monkeypatch: pytest.MonkeyPatch
):
    random = numpy.random.default_rng(1)
    lengths = Lengths(random.integers(1, 30, 300), random.integers(1, 30, 300))
    monkeypatch.setattr(plan_module, "_PIECE", piece)
    parts = [Share(100, 1.5), Share(200, 1.0)]
    plan = plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=100, parts=parts)
    examples = numpy.concatenate(batches_of(plan))
    assert len(examples) == 350
    assert set(examples.tolist()) == set(range(300))
    for batch, described in zip(batches_of(plan), plan.batches, strict=True):
        assert lengths.target[batch].sum() == described["target_tokens"] <= 100
        assert lengths.source[batch].max() == described["source"]


def test_batches_are_filled():
    lengths = as_lengths([(5, 4)] * 50)
    plan = plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=19)
    assert sorted(plan.batches["size"].tolist()) == [2, *[4] * 12]


def like_sentences(number: int) -> Lengths:
    """Lengths as translations have them: the longer the one side, the longer the other."""
    random = numpy.random.default_rng(1)
    both = random.lognormal(2.6, 0.35, number)
    sides = (both * random.lognormal(0, 0.12, number) for _ in range(2))
    return Lengths(*(numpy.clip(side, 2, 60).astype(numpy.uint8) for side in sides))


def padding(batches: list[Indices], lengths: Lengths) -> float:
    sides = [[side[batch].astype(int) for batch in batches] for side in lengths]
    real = sum(int(part.sum()) for side in sides for part in side)
    computed = sum(len(part) * int(part.max()) for side in sides for part in side)
    return 1 - real / computed


def meet_again(first: list[Indices], second: list[Indices]) -> float:
    """The share of pairs in a batch of the first that are in one of the second, too."""
    places = {example: number for number, batch in enumerate(second) for example in batch.tolist()}
    together = pairs = 0
    for batch in first:
        counts = Counter(places[example] for example in batch.tolist()).values()
        together += sum(map(math.comb, counts, [2] * len(counts)))
        pairs += math.comb(len(batch), 2)
    return together / pairs


@pytest.mark.parametrize("tokens_per_step", [1500, 12_000])
def test_like_lengths_come_together_and_seldom_meet_again(tokens_per_step: int):
    lengths = like_sentences(20_000)
    epochs = [
        batches_of(plan_epoch(lengths, seed=1, epoch=epoch, tokens_per_step=tokens_per_step))
        for epoch in range(3)
    ]
    cut = [
        [piece for batch in epoch for piece in cut_share(batch, lengths, 4096)] for epoch in epochs
    ]
    assert all(padding(pieces, lengths) < 0.1 for pieces in cut)
    for way in (epochs, cut):
        assert meet_again(way[0], way[1]) < 0.2
        assert meet_again(way[1], way[2]) < 0.2
        assert meet_again(way[0], way[2]) < 0.4  # the same side came first in both
    # The short ones don't come first.
    means = [lengths.target[batch].mean() for batch in epochs[0]]
    assert abs(numpy.corrcoef(means, range(len(means)))[0, 1]) < 0.35


def test_epochs_and_seeds_have_orders_of_their_own():
    lengths = as_lengths([(5, 5)] * 200)
    plans = [
        as_sets(plan_epoch(lengths, seed=seed, epoch=epoch, tokens_per_step=50))
        for seed in (1, 2)
        for epoch in (0, 1, 2)
    ]
    assert len({tuple(plan) for plan in plans}) == len(plans)
    # It's not only the batches that change places.
    assert len({batch for plan in plans for batch in plan}) == 20 * len(plans)


def test_batches_change_places_where_examples_cannot():
    lengths = as_lengths([(10, 10)] * 30)
    one, two = (
        as_sets(plan_epoch(lengths, seed=1, epoch=epoch, tokens_per_step=10)) for epoch in (0, 1)
    )
    assert set(one) == set(two)
    assert one != two


def test_which_examples_come_once_more_is_drawn_anew():
    lengths = as_lengths([(5, 5)] * 400)
    often: list[int] = []
    for epoch in range(20):
        plan = plan_epoch(
            lengths, seed=1, epoch=epoch, tokens_per_step=50, parts=[Share(400, 0.25)]
        )
        examples = numpy.concatenate(batches_of(plan)).tolist()
        assert len(examples) == len(set(examples)) == 100
        often += examples
    counts = Counter(often)
    assert len(counts) > 380  # all but 0.3 % of 400, were it by chance
    assert max(counts.values()) < 16


def test_three_times_the_weight_is_as_much_as_three_times_the_examples():
    lengths = as_lengths([(5, 5)] * 400)
    parts = [Share(100, 3.0), Share(300, 1.0)]
    plan = plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=50, parts=parts)
    counts = Counter(numpy.concatenate(batches_of(plan)).tolist())
    assert [counts[example] for example in (0, 99, 100, 399)] == [3, 3, 1, 1]
    assert sum(counts.values()) == 600


def test_a_plan_in_files_is_the_one_in_memory(tmp_path: Path):
    lengths = like_sentences(500)
    written = plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=300, folder=tmp_path)
    plans = [
        plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=300),
        written,
        Plan.load(tmp_path),
    ]
    first, *others = ([batch.tolist() for batch in batches_of(plan)] for plan in plans)
    assert others == [first, first]
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "nowhere")


def test_nothing_to_plan():
    plan = plan_epoch(as_lengths([]), seed=1, epoch=0, tokens_per_step=10)
    assert len(plan) == plan.target_tokens == 0
