"""The loader: gives a run's steps from any position on, at no cost."""

import sys
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy
from torch.utils.data import DataLoader, Dataset, Sampler

from seq2seq.data.batch import Batch, Step, make_batch
from seq2seq.data.cutting import (
    cut,
    cut_share,
    in_order_of_length,
    padded_pairs,
    padded_positions,
)
from seq2seq.data.plan import Indices, Integers, Lengths, Plan, plan_epoch
from seq2seq.data.plan_files import PlanFiles
from seq2seq.data.prepared import FlatIds, Ids, PreparedSplit, Sentences
from seq2seq.data.weights import Share

_LOOKED_AT = 200  # steps of an epoch that are cut to find the largest micro-batch


class Position(NamedTuple):
    """The next step, in global batches: the same for any number of processes."""

    epoch: int = 0
    batch: int = 0


@runtime_checkable
class Segmentation(Protocol):
    """Cuts a sentence into other pieces whenever it is read."""

    def __call__(
        self, side: Literal["source", "target"], ids: Ids, *, epoch: int, example: int
    ) -> Ids:
        """Give the ids to train on in an epoch, instead of those that were prepared."""
        ...


class _Global(NamedTuple):
    """A global batch."""

    examples: Indices
    """In order of length."""
    lengths: Lengths
    """Of these examples alone."""


class StepDataset(Dataset[Step]):
    """The steps of a run, by position."""

    def __init__(
        self,
        split: PreparedSplit,
        *,
        seed: int,
        tokens_per_step: int,
        tokens_per_device: int = sys.maxsize,
        rank: int = 0,
        world_size: int = 1,
        parts: Sequence[Share] = (),
        segment: Segmentation | None = None,
        files: PlanFiles | None = None,
        fingerprint: str = "",
    ):
        """Say what the steps are of.

        Args:
            split: the pairs.
            seed: of the run.
            tokens_per_step: most real target tokens in a step.
            tokens_per_device: most padded positions in a micro-batch.
            rank: of this process.
            world_size: number of processes.
            parts: parts of the pairs with weights; all of them once an epoch if not given.
            segment: what gives a sentence other pieces. The prepared ones order, cut and count.
            files: keeps the plans of large splits; each process makes its own if not given.
            fingerprint: of the split, so that the plans of another one are not taken for its.
        """
        self._split, self._segment = split, segment
        self._seed, self._tokens_per_step, self._parts = seed, tokens_per_step, tuple(parts)
        self.tokens_per_device = tokens_per_device
        self._rank, self._world_size = rank, world_size
        self._files = files if files and len(split.target) >= files.least else None
        self._fingerprint = fingerprint
        self._plan = lru_cache(maxsize=2)(self._find_plan)
        self._candidates = lru_cache(maxsize=1)(self._find_candidates)

    def cut_for(self, tokens_per_device: int) -> "StepDataset":
        """Give the same steps, cut into micro-batches of another size."""
        other = copy(self)  # with the same plan, which knows nothing of it
        other.tokens_per_device = tokens_per_device
        return other

    def _find_plan(self, epoch: int) -> Plan:
        about = {"seed": self._seed, "tokens_per_step": self._tokens_per_step}

        def make(folder: Path | None = None) -> Plan:
            lengths = _all_lengths(self._split)
            parts = self._parts
            return plan_epoch(lengths, epoch=epoch, parts=parts, folder=folder, **about)

        if self._files is None:
            return make()
        return self._files.give(f"{self._fingerprint} {about} {self._parts}", epoch, make)

    def epoch_length(self, epoch: int) -> int:
        """The number of steps of an epoch."""
        return len(self._plan(epoch))

    def epoch_tokens(self, epoch: int) -> int:
        """The number of real target tokens of an epoch, ends of sentence counted."""
        return self._plan(epoch).target_tokens

    def examples(self, position: Position) -> Indices:
        """The examples of a step, over all processes."""
        return self._plan(position.epoch)[position.batch]

    def _global(self, epoch: int, number: int) -> _Global:
        """Read the lengths of a step's examples, and put these in order."""
        examples = self._plan(epoch)[number]
        source, target = (side.lengths_of(examples) for side in self._split)
        lengths = Lengths(source, target + 1)
        order = in_order_of_length(numpy.arange(len(examples)), lengths)
        return _Global(examples[order], Lengths(*(side[order] for side in lengths)))

    def largest(self, epoch: int) -> tuple[Batch, Batch]:
        """Make the micro-batches of an epoch that take this process the most memory.

        The first has the most padded positions, which are what recurrent layers compute; the second
        the most pairs of positions, which are what attention compares. Only steps that are among
        the largest before they are cut are looked at: many fill a device, but for a few sentences.
        """
        steps = [self._global(epoch, number) for number in self._candidates(epoch)]
        pieces = [
            (step, piece)
            for step in steps
            for piece in cut_share(
                numpy.arange(self._rank, len(step.examples), self._world_size),
                step.lengths,
                self.tokens_per_device,
            )
        ]
        if not pieces:  # each step has fewer examples than there are processes
            pieces = [(steps[0], steps[0].examples[:0])]

        def most(size: Callable[[Indices, Lengths], int]) -> Batch:
            step, piece = max(pieces, key=lambda entry: size(entry[1], entry[0].lengths))
            return self._batch(step.examples, piece, epoch)

        return most(padded_positions), most(padded_pairs)

    def largest_share(self, epoch: int) -> int:
        """Say how many padded positions any process has to compute in a step, at most."""
        batches = self._plan(epoch).batches
        sizes = -(-batches["size"] // self._world_size)
        return int((sizes * (batches["source"] + batches["target"])).max())

    def _find_candidates(self, epoch: int) -> list[int]:
        """Find the steps of an epoch that are the largest before they are cut."""
        batches = self._plan(epoch).batches
        number, source, target = (batches[name] for name in ("size", "source", "target"))
        sizes = (number * (source + target), number * source * target)
        order = [numpy.argsort(-size, kind="stable")[:_LOOKED_AT] for size in sizes]
        return numpy.unique(numpy.concatenate(order)).tolist()

    def __getitem__(self, index: Any) -> Step:
        position = Position(*index)
        whole = self._global(*position)
        pieces = cut(
            numpy.arange(len(whole.examples)),
            whole.lengths,
            rank=self._rank,
            world_size=self._world_size,
            tokens_per_device=self.tokens_per_device,
        )
        return Step(
            batches=tuple(self._batch(whole.examples, piece, position.epoch) for piece in pieces),
            target_tokens=int(whole.lengths.target.sum()),
            source_tokens=int(whole.lengths.source.sum()),
            epoch=position.epoch,
        )

    def _batch(self, examples: Indices, piece: Indices, epoch: int) -> Batch:
        """Make a micro-batch of a step; an empty one computes a short pair at weight zero."""
        weight = 1.0 if len(piece) else 0.0
        chosen = examples[piece] if len(piece) else examples[:1]
        source, target = (side.gather(chosen) for side in self._split)
        if self._segment is not None:
            source = self._segmented("source", source, chosen, epoch)
            target = self._segmented("target", target, chosen, epoch)
        return make_batch(source, target, chosen, weight=weight)

    def _segmented(
        self, side: Literal["source", "target"], flat: FlatIds, examples: Indices, epoch: int
    ) -> FlatIds:
        assert self._segment is not None
        sentences = numpy.split(flat.ids, numpy.cumsum(flat.lengths)[:-1])
        pairs = zip(sentences, examples.tolist(), strict=True)
        return FlatIds.of(
            [self._segment(side, ids, epoch=epoch, example=example) for ids, example in pairs]
        )


def _all_lengths(split: PreparedSplit) -> Lengths:
    return Lengths(_small(split.source, more=0), _small(split.target, more=1))


def _small(side: Sentences, *, more: int) -> Integers:
    """Read all lengths, and add something, in the smallest type that holds them."""
    lengths = side.lengths
    kind = numpy.min_scalar_type(int(lengths.max(initial=0)) + more)
    small = lengths.astype(kind)
    small += kind.type(more)
    return small


class _Positions(Sampler[Position]):
    """The positions that come next, epoch after epoch."""

    def __init__(self, steps: StepDataset, start: Position, number: int):
        self._steps, self._start, self._number = steps, start, number

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[Position]:
        position = self._start
        for _ in range(self._number):
            yield position
            position = following(position, self._steps)


def following(position: Position, steps: StepDataset) -> Position:
    """The position after this one; an epoch's end leads to the next epoch's start."""
    if position.batch + 1 < steps.epoch_length(position.epoch):
        return Position(position.epoch, position.batch + 1)
    return Position(position.epoch + 1, 0)


def step_loader(
    steps: StepDataset, *, start: Position, number: int, workers: int = 0, pin: bool = False
) -> DataLoader[Step]:
    """Give `number` steps from a position on; starting anywhere costs the same.

    Args:
        steps: of the run.
        start: position of the first step.
        number: of steps.
        workers: processes that make the steps ahead of time; 0: this one makes each when asked.
        pin: put the steps where a GPU can fetch them while it computes.
    """
    ahead: dict[str, Any] = {"multiprocessing_context": "fork", "prefetch_factor": 4}
    return DataLoader(
        steps,
        sampler=_Positions(steps, start, number),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pin,
        **(ahead if workers else {}),
    )


def _as_it_is(step: Any) -> Any:
    """Stand in for torch's conversion, which would look into every part of a step for nothing."""
    return step
