"""Bijections that stand in for shuffled lists."""

import numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data.shuffling import Draws, Shuffle


@settings(deadline=None)
@given(number=st.integers(1, 3000), seed=st.integers(0, 2**63), data=st.data())
def test_a_shuffle_is_a_bijection_that_can_be_undone(number: int, seed: int, data: st.DataObject):
    shuffle = Shuffle(number, Draws(seed, 1))
    numbers = numpy.arange(number, dtype=numpy.uint64)
    places = shuffle.places(numbers.copy())
    assert len(set(places.tolist())) == number
    assert places.max() < 2**shuffle.bits
    rest = numpy.uint64(data.draw(st.integers(0, 2**20)) << shuffle.bits)
    assert shuffle.numbers(places | rest).tolist() == numbers.tolist()
    assert sorted(shuffle.order(number).tolist()) == numbers.tolist()
    below = shuffle.numbers_below(number, numbers.copy())
    assert sorted(below.tolist()) == numbers.tolist()


def test_a_large_shuffle_can_be_undone():
    shuffle = Shuffle(2**32, Draws(1, 1))
    numbers = numpy.array([0, 1, 12345, 2**32 - 1], dtype=numpy.uint64)
    assert shuffle.bits == 32
    assert shuffle.numbers(shuffle.places(numbers.copy())).tolist() == numbers.tolist()


def test_each_number_gets_to_all_places():
    """Of a hundred numbers each place has each one about as often, over 3,000 shuffles."""
    counts = numpy.zeros((100, 100))
    neighbours = 0
    for seed in range(3000):
        order = Shuffle(100, Draws(seed, 0)).order(100).astype(int)
        counts[numpy.arange(100), order] += 1
        neighbours += int((abs(numpy.diff(order)) == 1).sum())
    deviations = ((counts - 30) ** 2 / 30).sum()
    assert 9801 - 5 * 140 < deviations < 9801 + 5 * 140  # chi-square of 99² degrees of freedom
    assert abs(neighbours / 3000 - 1.98) < 0.2


def test_draws():
    draws = Draws(7, 3)
    numbers = [draws.below(10) for _ in range(1000)]
    assert set(numbers) == set(range(10))
    fractions = [draws.fraction() for _ in range(1000)]
    assert 0 <= min(fractions) < 0.02
    assert 0.98 < max(fractions) < 1
