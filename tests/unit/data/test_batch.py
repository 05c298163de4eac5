"""Pairs of ids as padded tensors."""

import pickle
from multiprocessing.reduction import ForkingPickler

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data.batch import Batch, make_batch, pad
from seq2seq.data.prepared import FlatIds, Ids
from seq2seq.vocabulary import BOS, EOS, NUM_SPECIAL, PAD


def as_ids(sentences: list[list[int]]) -> list[Ids]:
    return [numpy.array(sentence, dtype=numpy.uint32) for sentence in sentences]


def batch_of(source: list[list[int]], target: list[list[int]], examples: list[int]) -> Batch:
    sides = [FlatIds.of(as_ids(side)) for side in (source, target)]
    return make_batch(sides[0], sides[1], numpy.array(examples))


def test_sentences_are_columns_filled_with_padding():
    padded = pad(as_ids([[5], [6, 7, 8], [9, 10]]))
    assert padded.tolist() == [[5, 6, 9], [PAD, 7, 10], [PAD, 8, PAD]]
    assert padded.dtype == torch.int64


def test_a_batch_by_hand():
    batch = batch_of([[5, 6, 7], [8]], [[9], [10, 11]], [42, 3])
    assert batch.source.tolist() == [[5, 8], [6, PAD], [7, PAD]]
    assert batch.source_lengths.tolist() == [3, 1]
    assert batch.target_input.tolist() == [[BOS, BOS], [9, 10], [PAD, 11]]
    # Real positions of the three rows of two, and what comes next there.
    assert batch.target_rows.tolist() == [0, 1, 2, 3, 5]
    assert batch.target_output.tolist() == [9, 10, EOS, 11, EOS]
    assert batch.examples.tolist() == [42, 3]
    assert batch.weight == 1.0


def outputs_by_column(batch: Batch) -> list[list[int]]:
    """What each sentence of the batch has to predict, found by the rows."""
    columns: list[list[int]] = [[] for _ in range(batch.target_input.shape[1])]
    for row, output in zip(batch.target_rows.tolist(), batch.target_output.tolist(), strict=True):
        columns[row % len(columns)].append(output)
    return columns


pieces = st.lists(st.integers(NUM_SPECIAL, 2**31), min_size=1, max_size=8)


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(pieces, pieces), min_size=1, max_size=6))
def test_nothing_but_the_sentences_is_scored(pairs: list[tuple[list[int], list[int]]]):
    source, target = ([pair[side] for pair in pairs] for side in (0, 1))
    batch = batch_of(source, target, list(range(len(pairs))))
    assert outputs_by_column(batch) == [[*sentence, EOS] for sentence in target]
    inputs = batch.target_input.flatten()[batch.target_rows]
    assert len(inputs) == (batch.target_input != PAD).sum()
    assert not (inputs == PAD).any()
    for column, (left, right) in enumerate(pairs):
        length = int(batch.source_lengths[column])
        assert batch.source[:length, column].tolist() == left
        assert (batch.source[length:, column] == PAD).all()
        assert batch.target_input[: len(right) + 1, column].tolist() == [BOS, *right]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_weight_is_kept(weight: float):
    side = FlatIds.of(as_ids([[4]]))
    assert make_batch(side, side, numpy.array([0]), weight=weight).weight == weight


def test_a_batch_that_goes_to_another_process_takes_no_shared_memory():
    batch = batch_of([[5, 6, 7], [8]], [[9], [10, 11]], [42, 3])
    packed = bytes(ForkingPickler.dumps(batch))
    assert b"rebuild_storage" not in packed
    again: Batch = pickle.loads(packed)
    assert type(again) is Batch
    assert again.weight == batch.weight
    for part, before in zip(again[:-1], batch[:-1], strict=True):
        assert torch.equal(part, before)
        assert part.dtype == before.dtype
