"""The plan of an epoch, and the shares of its batches that processes take."""

from itertools import pairwise
from typing import NamedTuple

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data.cutting import cut
from seq2seq.data.plan import Indices, Lengths, plan_epoch

LONGEST = 12


def as_lengths(pairs: list[tuple[int, int]]) -> Lengths:
    source, target = numpy.array(pairs, dtype=numpy.int64).reshape(-1, 2).T
    return Lengths(source, target)


def as_lists(batches: list[Indices]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


some_lengths = st.lists(
    st.tuples(st.integers(1, LONGEST), st.integers(1, LONGEST)), max_size=60
).map(as_lengths)


class Machine(NamedTuple):
    """What a batch is cut for."""

    world_size: int
    tokens_per_device: int

    def shares(self, batch: Indices, lengths: Lengths) -> list[list[Indices]]:
        size, tokens = self
        return [
            cut(batch, lengths, rank=rank, world_size=size, tokens_per_device=tokens)
            for rank in range(size)
        ]


machines = st.builds(Machine, st.integers(1, 7), st.integers(1, 200))


@settings(deadline=None)
@given(
    lengths=some_lengths,
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
    tokens_per_step=st.integers(LONGEST, 200),
)
def test_every_example_is_in_one_batch_within_the_budget(
    lengths: Lengths, seed: int, epoch: int, tokens_per_step: int
):
    batches = plan_epoch(lengths, seed=seed, epoch=epoch, tokens_per_step=tokens_per_step)
    examples = [example for batch in as_lists(batches) for example in batch]
    assert sorted(examples) == list(range(len(lengths.target)))
    for batch in batches:
        assert 0 < lengths.target[batch].sum() <= tokens_per_step
        assert (numpy.diff(lengths.target[batch]) >= 0).all()
    again = plan_epoch(lengths, seed=seed, epoch=epoch, tokens_per_step=tokens_per_step)
    assert as_lists(again) == as_lists(batches)


def test_batches_are_filled():
    lengths = as_lengths([(5, 4)] * 50)
    batches = plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=19)
    assert sorted(map(len, batches)) == [2, *[4] * 12]
    lengths = as_lengths([(1, length) for length in (7, 3, 1, 5, 2, 6, 4)])
    batches = plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=10)
    assert sorted(lengths.target[batch].tolist() for batch in batches) == [
        [1, 2, 3, 4],
        [5],
        [6],
        [7],
    ]


def test_like_lengths_come_together():
    random = numpy.random.default_rng(1)
    lengths = Lengths(random.integers(1, 30, 2000), random.integers(1, 30, 2000))
    batches = plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=300)
    for batch in batches:
        assert numpy.ptp(lengths.target[batch]) <= 3
    # The short ones don't come first.
    means = [lengths.target[batch].mean() for batch in batches]
    assert abs(numpy.corrcoef(means, range(len(means)))[0, 1]) < 0.3


def test_epochs_and_seeds_have_orders_of_their_own():
    lengths = as_lengths([(5, 5)] * 200)
    plans = {
        (seed, epoch): as_lists(plan_epoch(lengths, seed=seed, epoch=epoch, tokens_per_step=50))
        for seed in (1, 2)
        for epoch in (0, 1, 2)
    }
    orders = {tuple(map(tuple, plan)) for plan in plans.values()}
    assert len(orders) == len(plans)
    # It's not only the batches that change places.
    batches = {frozenset(batch) for plan in plans.values() for batch in plan}
    assert len(batches) == 20 * len(plans)


def test_batches_change_places_where_examples_cannot():
    lengths = as_lengths([(length, length) for length in range(1, 40)])
    one, two = (
        as_lists(plan_epoch(lengths, seed=1, epoch=epoch, tokens_per_step=60)) for epoch in (0, 1)
    )
    assert sorted(one) == sorted(two)
    assert one != two


@settings(deadline=None)
@given(lengths=some_lengths, machine=machines)
def test_the_shares_are_the_batch(lengths: Lengths, machine: Machine):
    for batch in plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=100):
        shares = machine.shares(batch, lengths)
        taken = [example for share in shares for piece in share for example in piece.tolist()]
        assert sorted(taken) == sorted(batch.tolist())
        assert len({len(share) for share in shares}) == 1
        sizes = [sum(map(len, share)) for share in shares]
        assert max(sizes) - min(sizes) <= 1


def padded_positions(examples: Indices, lengths: Lengths) -> int:
    return len(examples) * int(lengths.source[examples].max() + lengths.target[examples].max())


@settings(deadline=None)
@given(lengths=some_lengths, machine=machines)
def test_micro_batches_fill_the_device_and_no_more(lengths: Lengths, machine: Machine):
    for batch in plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=100):
        shares = machine.shares(batch, lengths)
        for pieces in ([piece for piece in share if len(piece)] for share in shares):
            for piece in pieces:
                fits = padded_positions(piece, lengths) <= machine.tokens_per_device
                assert fits or len(piece) == 1
            for piece, following in pairwise(pieces):
                more = numpy.concatenate((piece, following[:1]))
                assert padded_positions(more, lengths) > machine.tokens_per_device
        # There is work for someone each time, and who has run out is through.
        assert all(any(map(len, pieces)) for pieces in zip(*shares, strict=True))
        for share in shares:
            filled = [len(piece) > 0 for piece in share]
            assert filled == sorted(filled, reverse=True)


@pytest.mark.parametrize(("rank", "expected"), [(0, [[0, 2], [4], [6]]), (1, [[1, 3], [5], []])])
def test_a_batch_cut_by_hand(rank: int, expected: list[list[int]]):
    pairs = [(1, 2), (3, 2), (2, 3), (2, 3), (5, 5), (6, 5), (30, 6)]
    batch = numpy.arange(7)
    pieces = cut(batch, as_lengths(pairs), rank=rank, world_size=2, tokens_per_device=12)
    assert as_lists(pieces) == expected


def test_a_batch_that_fits_is_not_cut():
    lengths = as_lengths([(4, 6)] * 8)
    (piece,) = cut(numpy.arange(8), lengths, rank=0, world_size=1, tokens_per_device=80)
    assert piece.tolist() == list(range(8))
    pieces = cut(numpy.arange(8), lengths, rank=0, world_size=1, tokens_per_device=79)
    assert as_lists(pieces) == [list(range(7)), [7]]


def test_a_long_sentence_takes_room_in_its_own_micro_batch_alone():
    lengths = as_lengths([(9, 1), (1, 2), (1, 2), (1, 2)])
    pieces = cut(numpy.arange(4), lengths, rank=0, world_size=1, tokens_per_device=9)
    assert as_lists(pieces) == [[0], [1, 2, 3]]


def test_processes_without_any_example():
    lengths = as_lengths([(2, 2), (2, 2)])
    shares = Machine(4, 100).shares(numpy.array([1, 0]), lengths)
    assert [as_lists(share) for share in shares] == [[[1]], [[0]], [[]], [[]]]
