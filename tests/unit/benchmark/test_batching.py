"""Padding and meetings, by hand, and the rules of other toolkits."""

from pathlib import Path

import numpy
import pytest

from seq2seq.benchmark.batching import (
    joeynmt_rule,
    meet_again,
    opennmt_rule,
    our_batching,
    padding,
    their_batching,
)
from seq2seq.benchmark.simulation import simulate, simulated
from seq2seq.data.plan import Indices, Lengths


def batches(*examples: list[int]) -> list[Indices]:
    return [numpy.array(batch) for batch in examples]


def test_padding_by_hand():
    lengths = Lengths(numpy.array([2, 4, 3]), numpy.array([5, 3, 1]))
    # Two pairs of 4 + 5 positions, of which 14 are real, and one of 3 + 1.
    assert padding(batches([0, 1], [2]), lengths) == pytest.approx(1 - 18 / 22)


def test_meetings_by_hand():
    first = batches([0, 1, 2], [3, 4])
    assert meet_again(first, batches([0, 1], [2, 3, 4]), 5) == 2 / 4
    assert meet_again(first, first, 5) == 1
    assert meet_again(first, batches([0, 3], [1, 4], [2]), 5) == 0


LENGTHS = Lengths(numpy.array([3, 1, 9, 2, 3, 2]), numpy.array([2, 2, 8, 2, 4, 3]))


def test_the_rule_of_opennmt():
    """By source, then by target; a batch is closed before it has more than 8 positions a side."""
    found = [batch.tolist() for batch in opennmt_rule(LENGTHS, 8, 0)]
    assert found == [[1, 3], [5, 0], [4], [2]]


def test_the_rule_of_joeynmt():
    """At random, and a batch is closed once it has 8 positions a side or more."""
    found = [batch.tolist() for batch in joeynmt_rule(LENGTHS, 8, 0)]
    assert sorted(example for batch in found for example in batch) == list(range(6))
    longer = numpy.maximum(*LENGTHS)
    for batch in found[:-1]:
        assert len(batch) * longer[batch].max() >= 8
        before = batch[:-1]
        assert not before or len(before) * longer[before].max() < 8
    assert found != [batch.tolist() for batch in joeynmt_rule(LENGTHS, 8, 1)]


def test_batches_are_described():
    random = numpy.random.default_rng(1)
    lengths = Lengths(random.integers(1, 20, 600), random.integers(1, 20, 600))
    ours = our_batching(lengths, seed=1, tokens_per_step=1000, positions=500)
    theirs = their_batching(joeynmt_rule, lengths, positions=500)
    assert ours.global_batches < ours.micro_batches
    assert theirs.global_batches == theirs.micro_batches
    assert 0 < ours.padding < theirs.padding < 0.6
    assert theirs.meet_again < ours.meet_again_micro < 0.5


def test_a_simulated_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("seq2seq.benchmark.simulation._PIECE", 300)
    simulate(tmp_path, 1000)
    split = simulated(tmp_path)
    for side in split:
        assert len(side) == 1000
        assert side.lengths.min() >= 1
        assert 18 < side.lengths.mean() < 28
        examples = numpy.array([0, 299, 300, 999])
        assert side.gather(examples).lengths.tolist() == side.lengths[examples].tolist()
    assert numpy.corrcoef(split.source.lengths, split.target.lengths)[0, 1] > 0.8
