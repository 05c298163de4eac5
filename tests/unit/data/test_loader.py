"""The steps of a run, from any position on and on any number of processes."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seq2seq.data import loader
from seq2seq.data.batch import Batch, Step
from seq2seq.data.loader import Position, StepDataset, following, step_loader
from seq2seq.data.plan import BATCH, Lengths, Plan
from seq2seq.data.plan_files import PlanFiles
from seq2seq.data.prepared import Ids, PreparedSplit
from seq2seq.data.weights import Share
from seq2seq.vocabulary import EOS

MakeSplit = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], PreparedSplit]
# Ten targets of four pieces and the end: batches of 15 tokens hold three, so an epoch has 4 steps.
NUM_STEPS = 4


@pytest.fixture(scope="module")
def split(make_split: MakeSplit) -> PreparedSplit:
    source = [[100 + example] * (1 + example % 3) for example in range(10)]
    return make_split(source, [[200 + example] * 4 for example in range(10)])


@pytest.fixture(scope="module")
def mixed(make_split: MakeSplit) -> PreparedSplit:
    random = numpy.random.default_rng(3)
    lengths = random.integers(1, 9, (2, 50)).tolist()
    source, target = ([[7] * length for length in side] for side in lengths)
    return make_split(source, target)


def steps_of(split: PreparedSplit, **settings: Any) -> StepDataset:
    chosen: dict[str, Any] = {
        "seed": 1,
        "tokens_per_step": 15,
        "tokens_per_device": 1000,
        **settings,
    }
    return StepDataset(split, **chosen)


def described(step: Step) -> tuple[Any, ...]:
    """All that a step is, in a form that can be compared."""
    batches = [
        [part.tolist() if isinstance(part, Tensor) else part for part in batch]
        for batch in step.batches
    ]
    return batches, step.target_tokens, step.source_tokens, step.epoch


def real_examples(step: Step) -> list[int]:
    return [
        example for batch in step.batches if batch.weight for example in batch.examples.tolist()
    ]


def load(steps: StepDataset, start: Position, number: int) -> list[tuple[Any, ...]]:
    loader = step_loader(steps, start=start, number=number)
    assert len(loader) == number
    return [described(step) for step in loader]


def test_an_epoch_has_every_pair_once(split: PreparedSplit):
    steps = steps_of(split)
    assert [steps.epoch_length(epoch) for epoch in range(3)] == [NUM_STEPS] * 3
    loaded = list(step_loader(steps, start=Position(), number=2 * NUM_STEPS))
    assert [step.epoch for step in loaded] == [0] * NUM_STEPS + [1] * NUM_STEPS
    epochs = [
        [example for step in part for example in real_examples(step)]
        for part in (loaded[:NUM_STEPS], loaded[NUM_STEPS:])
    ]
    assert [sorted(examples) for examples in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]


def test_a_step_holds_the_pairs_that_it_names(split: PreparedSplit):
    for step in step_loader(steps_of(split), start=Position(), number=NUM_STEPS):
        assert isinstance(step, Step)
        (batch,) = step.batches
        examples = batch.examples.tolist()
        assert batch.weight == 1.0
        assert batch.source[0].tolist() == [100 + example for example in examples]
        assert batch.source_lengths.tolist() == [1 + example % 3 for example in examples]
        assert batch.target_input[1].tolist() == [200 + example for example in examples]
        assert step.target_tokens == len(batch.target_output) == 5 * len(examples)
        assert step.source_tokens == batch.source_lengths.sum()


def position(index: int, lengths: Sequence[int]) -> Position:
    """Where the step with this number is."""
    epoch = 0
    while index >= lengths[epoch]:
        index -= lengths[epoch]
        epoch += 1
    return Position(epoch, index)


@pytest.mark.parametrize("start", range(11))
def test_any_start_gives_the_rest_of_the_run(mixed: PreparedSplit, start: int):
    steps = steps_of(mixed, tokens_per_step=90)
    length = steps.epoch_length(0)
    assert 2 * length < 11 < 3 * length
    whole = load(steps, Position(), 12)
    resumed = steps_of(mixed, tokens_per_step=90)
    assert load(resumed, position(start, [length] * 3), 12 - start) == whole[start:]


def remember_plans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Keep the epochs that are planned."""
    planned: list[int] = []
    plan = loader.plan_epoch

    def remember(*lengths: Lengths, epoch: int, **settings: Any) -> Plan:
        planned.append(epoch)
        return plan(*lengths, epoch=epoch, **settings)

    monkeypatch.setattr(loader, "plan_epoch", remember)
    return planned


def test_a_late_start_plans_its_own_epoch_alone(
    split: PreparedSplit, monkeypatch: pytest.MonkeyPatch
):
    planned = remember_plans(monkeypatch)
    next(iter(step_loader(steps_of(split), start=Position(50, 1), number=1)))
    assert planned == [50]


def test_large_plans_are_made_once_and_read_from_files(
    mixed: PreparedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    in_memory = load(steps_of(mixed, tokens_per_step=90), Position(), 12)
    planned = remember_plans(monkeypatch)
    files = PlanFiles(tmp_path, "node", least=50)
    settings = {"tokens_per_step": 90, "files": files, "fingerprint": "one"}
    for _ in range(2):
        loaded = step_loader(steps_of(mixed, **settings), start=Position(), number=12, workers=2)
        assert [described(step) for step in loaded] == in_memory
    assert planned == [0, 1, 2, 1, 2]  # of an old epoch nothing is kept but of the first
    load(steps_of(mixed, **settings | {"fingerprint": "another"}), Position(), 1)
    assert planned[5:] == [0]


def test_an_epoch_with_weights(mixed: PreparedSplit):
    steps = steps_of(mixed, tokens_per_step=90, parts=[Share(20, 2.0), Share(30, 0.5)])
    number = steps.epoch_length(0)
    counts = Counter(
        example for batch in range(number) for example in real_examples(steps[Position(0, batch)])
    )
    assert [counts[example] for example in range(20)] == [2] * 20
    assert sorted(counts[example] for example in range(20, 50)) == [0] * 15 + [1] * 15
    tokens = [int(mixed.target.lengths[example] + 1) * times for example, times in counts.items()]
    assert steps.epoch_tokens(0) == sum(tokens)


def test_sentences_may_be_cut_into_other_pieces(split: PreparedSplit):
    asked: set[tuple[str, int, int]] = set()

    def segment(side: str, ids: Ids, *, epoch: int, example: int) -> Ids:
        asked.add((side, epoch, example))
        return numpy.repeat(ids, 2) if side == "target" else ids + 1000 * epoch

    plain, sampled = steps_of(split), steps_of(split, segment=segment)
    for number in range(NUM_STEPS):
        before, after = (steps[Position(2, number)] for steps in (plain, sampled))
        (one,), (other,) = before.batches, after.batches
        # Lengths as prepared order, cut and count.
        assert other.examples.tolist() == one.examples.tolist()
        assert (after.target_tokens, after.source_tokens) == (
            before.target_tokens,
            before.source_tokens,
        )
        assert other.source.max() == one.source.max() + 2000
        assert other.target_input.shape == (9, one.target_input.shape[1])
        assert len(other.target_output) == 9 * len(other.examples)
    sides = ("source", "target")
    assert asked == {(side, 2, example) for side in sides for example in range(10)}


def test_epochs_of_unlike_length(split: PreparedSplit, monkeypatch: pytest.MonkeyPatch):
    lengths = [3, 1, 4, 2]

    def plan(*_: Any, epoch: int, **__: Any) -> Plan:
        order = [part for batch in range(lengths[epoch]) for part in (epoch, 4 + batch)]
        batches = [(2 * batch, 2, 3, 5, 10) for batch in range(lengths[epoch])]
        return Plan(numpy.array(order), numpy.array(batches, dtype=BATCH))

    monkeypatch.setattr("seq2seq.data.loader.plan_epoch", plan)
    steps = steps_of(split)
    positions = [position(index, lengths) for index in range(10)]
    assert positions[:5] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]
    for here, there in pairwise(positions):
        assert following(here, steps) == there
    loaded = list(step_loader(steps, start=Position(), number=9))
    assert [sorted(real_examples(step)) for step in loaded] == [
        [epoch, 4 + batch] for epoch, batch in positions[:9]
    ]
    whole = [described(step) for step in loaded]
    for start in range(9):
        assert load(steps, positions[start], 9 - start) == whole[start:]


def test_a_loader_may_be_read_again(split: PreparedSplit):
    loader = step_loader(steps_of(split), start=Position(0, 2), number=3)
    once, again = ([described(step) for step in loader] for _ in range(2))
    assert once == again
    assert list(step_loader(steps_of(split), start=Position(), number=0)) == []


@settings(deadline=None, max_examples=30)
@given(world_size=st.integers(1, 5), tokens_per_device=st.integers(1, 300), batch=st.integers(0, 2))
def test_a_step_is_the_same_on_any_machine(
    mixed: PreparedSplit, world_size: int, tokens_per_device: int, batch: int
):
    (alone,) = load(steps_of(mixed, tokens_per_step=90), Position(1, batch), 1)
    shares = [
        steps_of(
            mixed,
            tokens_per_step=90,
            tokens_per_device=tokens_per_device,
            rank=rank,
            world_size=world_size,
        )[Position(1, batch)]
        for rank in range(world_size)
    ]
    together = [example for share in shares for example in real_examples(share)]
    examples = [example for part in alone[0] for example in part[5]]
    assert sorted(together) == sorted(examples)
    assert {(share.target_tokens, share.source_tokens) for share in shares} == {alone[1:3]}
    assert len({len(share.batches) for share in shares}) == 1
    scored = [len(part.target_output) for share in shares for part in share.batches if part.weight]
    assert sum(scored) == shares[0].target_tokens


def test_a_process_that_has_run_out_computes_a_pair_at_weight_zero(split: PreparedSplit):
    steps = [
        steps_of(split, tokens_per_device=1, rank=rank, world_size=2)[Position()]
        for rank in range(2)
    ]
    assert [len(step.batches) for step in steps] == [2, 2]
    assert [[batch.weight for batch in step.batches] for step in steps] == [[1.0, 1.0], [1.0, 0.0]]
    filling = steps[1].batches[1]
    assert filling.examples.tolist() == steps[0].batches[0].examples.tolist()
    assert filling.target_output.tolist()[-1] == EOS
    assert [step.target_tokens for step in steps] == [15, 15]


@pytest.mark.parametrize("tokens_per_device", [25, 60, 1000])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_largest_micro_batches_of_an_epoch(
    mixed: PreparedSplit, tokens_per_device: int, rank: int
):
    uncut = steps_of(mixed, tokens_per_step=40, rank=rank, world_size=2)
    steps = uncut.cut_for(tokens_per_device)
    epoch = [steps[Position(1, batch)] for batch in range(steps.epoch_length(1))]
    real = [batch for step in epoch for batch in step.batches if batch.weight]

    def positions(batch: Batch) -> int:
        return batch.source.numel() + batch.target_input.numel()

    def pairs(batch: Batch) -> int:
        return len(batch.source) * batch.target_input.numel()

    widest, longest = steps.largest(1)
    for largest, size in ((widest, positions), (longest, pairs)):
        sizes = [size(batch) for batch in real]
        assert min(sizes) < size(largest) == max(sizes)
        examples = largest.examples.tolist()
        assert any(batch.examples.tolist() == examples for batch in real)


def test_a_process_that_never_has_anything_to_do_has_a_largest_micro_batch_too(
    split: PreparedSplit,
):
    steps = steps_of(split, rank=3, world_size=4)
    assert [batch.weight for batch in steps.largest(0)] == [0.0, 0.0]


@given(world_size=st.integers(1, 5))
def test_no_process_has_more_to_do_in_a_step_than_the_largest_share(
    mixed: PreparedSplit, world_size: int
):
    shares = [
        steps_of(mixed, tokens_per_step=90, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({steps.largest_share(1) for steps in shares}) == 1
    sizes = [steps.largest(1)[0] for steps in shares]
    most = max(batch.source.numel() + batch.target_input.numel() for batch in sizes)
    assert most <= shares[0].largest_share(1) <= 1.5 * most


def test_the_examples_of_a_step_are_those_of_all_processes(split: PreparedSplit):
    for number in range(NUM_STEPS):
        position = Position(2, number)
        shares = [steps_of(split, rank=rank, world_size=2) for rank in range(2)]
        together = [example for steps in shares for example in real_examples(steps[position])]
        assert sorted(shares[0].examples(position).tolist()) == sorted(together)
