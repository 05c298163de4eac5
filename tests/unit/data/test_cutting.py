"""The shares of a global batch that processes take, and the micro-batches they are cut into."""

from itertools import combinations, pairwise
from typing import NamedTuple

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data.cutting import cut, cut_share, in_order_of_length
from seq2seq.data.plan import Indices, Lengths

LONGEST = 12


def as_lengths(pairs: list[tuple[int, int]]) -> Lengths:
    source, target = numpy.array(pairs, dtype=numpy.uint8).reshape(-1, 2).T
    return Lengths(source, target)


def as_lists(batches: list[Indices]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


def batches(most: int):
    """Lengths of the examples of a batch, in order."""
    pairs = st.tuples(st.integers(1, LONGEST), st.integers(1, LONGEST))
    found = st.lists(pairs, min_size=1, max_size=most)
    return found.map(lambda pairs: as_lengths(sorted(pairs, key=lambda pair: pair[::-1])))


class Machine(NamedTuple):
    """What a batch is cut for."""

    world_size: int
    tokens_per_device: int

    def shares(self, lengths: Lengths) -> list[list[Indices]]:
        size, tokens = self
        batch = numpy.arange(len(lengths.target))
        return [
            cut(batch, lengths, rank=rank, world_size=size, tokens_per_device=tokens)
            for rank in range(size)
        ]


machines = st.builds(Machine, st.integers(1, 7), st.integers(1, 200))


def positions(examples: Indices, lengths: Lengths) -> int:
    return len(examples) * int(max(lengths.source[examples]) + max(lengths.target[examples]))


@settings(deadline=None)
@given(lengths=batches(60), machine=machines)
def test_the_shares_are_the_batch(lengths: Lengths, machine: Machine):
    shares = machine.shares(lengths)
    taken = [example for share in shares for piece in share for example in piece.tolist()]
    assert sorted(taken) == list(range(len(lengths.target)))
    for rank, share in enumerate(shares):
        examples = [example for piece in share for example in piece.tolist()]
        assert sorted(examples) == list(range(rank, len(lengths.target), machine.world_size))
    assert len({len(share) for share in shares}) == 1
    # There is work for someone each time, and who has run out is through.
    assert all(any(map(len, pieces)) for pieces in zip(*shares, strict=True))
    for share in shares:
        filled = [len(piece) > 0 for piece in share]
        assert filled == sorted(filled, reverse=True)


def filled(order: Indices, lengths: Lengths, tokens: int) -> list[Indices]:
    """Fill micro-batches one after the other, the way one would by hand."""
    pieces = [order[:1]]
    for example in order[1:]:
        more = numpy.append(pieces[-1], example)
        if positions(more, lengths) <= tokens:
            pieces[-1] = more
        else:
            pieces.append(numpy.array([example]))
    return pieces


@settings(deadline=None)
@given(lengths=batches(60), tokens=st.integers(1, 200))
def test_micro_batches_fit_and_are_better_than_filling_one_after_the_other(
    lengths: Lengths, tokens: int
):
    share = numpy.arange(len(lengths.target))
    pieces = cut_share(share, lengths, tokens)
    for piece in pieces:
        assert positions(piece, lengths) <= tokens or len(piece) == 1
    simple = filled(share, lengths, tokens)
    totals = [sum(positions(piece, lengths) for piece in way) for way in (pieces, simple)]
    assert (len(pieces), totals[0]) <= (len(simple), totals[1])


@settings(deadline=None)
@given(lengths=batches(9), tokens=st.integers(12, 80))
def test_no_way_of_cutting_the_order_is_better(lengths: Lengths, tokens: int):
    pieces = cut_share(numpy.arange(len(lengths.target)), lengths, tokens)
    order = numpy.concatenate(pieces)

    def cost(ends: tuple[int, ...]) -> tuple[int, int] | None:
        parts = [order[start:end] for start, end in pairwise((0, *ends, len(order)))]
        sizes = [positions(part, lengths) for part in parts]
        fits = all(
            size <= tokens or len(part) == 1 for size, part in zip(sizes, parts, strict=True)
        )
        return (len(parts), sum(sizes)) if fits else None

    inner = range(1, len(order))
    ways = [cost(ends) for number in range(len(order)) for ends in combinations(inner, number)]
    taken = tuple(numpy.cumsum([len(piece) for piece in pieces])[:-1].tolist())
    assert cost(taken) == min(way for way in ways if way is not None)


@pytest.mark.parametrize(("rank", "expected"), [(0, [[0, 2], [4], [6]]), (1, [[1, 3], [5], []])])
def test_a_batch_cut_by_hand(rank: int, expected: list[list[int]]):
    pairs = [(1, 2), (3, 2), (2, 3), (2, 3), (5, 5), (6, 5), (30, 6)]
    batch = numpy.arange(7)
    pieces = cut(batch, as_lengths(pairs), rank=rank, world_size=2, tokens_per_device=12)
    assert [sorted(piece) for piece in as_lists(pieces)] == expected


def test_both_lengths_count_where_the_batch_is_cut():
    """Two times two pairs of the same lengths: put together otherwise, they would be padded."""
    lengths = as_lengths([(1, 4), (9, 4), (1, 5), (9, 5)])
    pieces = cut_share(numpy.arange(4), lengths, 28)
    assert sorted(sorted(piece) for piece in as_lists(pieces)) == [[0, 2], [1, 3]]


def test_a_batch_that_fits_is_not_cut():
    lengths = as_lengths([(4, 6)] * 8)
    batch = numpy.arange(8)
    (piece,) = cut(batch, lengths, rank=0, world_size=1, tokens_per_device=80)
    assert piece.tolist() == list(range(8))
    pieces = cut(batch, lengths, rank=0, world_size=1, tokens_per_device=79)
    assert len(pieces) == 2


def test_a_long_sentence_takes_room_in_its_own_micro_batch_alone():
    lengths = as_lengths([(9, 1), (1, 2), (1, 2), (1, 2)])
    pieces = cut(numpy.arange(4), lengths, rank=0, world_size=1, tokens_per_device=9)
    assert sorted(as_lists(pieces)) == [[0], [1, 2, 3]]


def test_many_places_are_not_all_looked_at_but_the_pieces_fit():
    random = numpy.random.default_rng(1)
    lengths = Lengths(random.integers(1, 60, 3000), random.integers(1, 60, 3000))
    pieces = cut_share(numpy.arange(3000), lengths, 100_000)
    assert sorted(numpy.concatenate(pieces).tolist()) == list(range(3000))
    assert all(positions(piece, lengths) <= 100_000 for piece in pieces)


def test_processes_without_any_example():
    lengths = as_lengths([(2, 2), (2, 2)])
    shares = Machine(4, 100).shares(lengths)
    assert [as_lists(share) for share in shares] == [[[0]], [[1]], [[]], [[]]]


def test_the_order_of_length():
    lengths = as_lengths([(3, 2), (1, 5), (2, 2), (9, 1), (2, 2)])
    assert in_order_of_length(numpy.arange(5), lengths).tolist() == [3, 2, 4, 0, 1]
