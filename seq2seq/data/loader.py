"""The loader: gives a run's steps from any position on, at no cost."""

import sys
from collections.abc import Callable, Iterator
from copy import copy
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset, Sampler

from seq2seq.data.batch import Batch, Step, make_batch
from seq2seq.data.plan import (
    Indices,
    Lengths,
    cut,
    cut_share,
    padded_pairs,
    padded_positions,
    plan_epoch,
)
from seq2seq.data.prepared import PreparedSplit

_LOOKED_AT = 200  # steps of an epoch that are cut to find the largest micro-batch


class Position(NamedTuple):
    """The next step, in global batches: the same for any number of processes."""

    epoch: int = 0
    batch: int = 0


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
    ):
        self._split = split
        self._seed, self._tokens_per_step = seed, tokens_per_step
        self.tokens_per_device = tokens_per_device
        self._rank, self._world_size = rank, world_size
        self.lengths = Lengths(split.source.lengths, split.target.lengths + 1)
        self._plan = lru_cache(maxsize=2)(self._plan_epoch)
        self._candidates = lru_cache(maxsize=1)(self._find_candidates)

    def cut_for(self, tokens_per_device: int) -> "StepDataset":
        """Give the same steps, cut into micro-batches of another size."""
        other = copy(self)  # with the same plan, which knows nothing of it
        other.tokens_per_device = tokens_per_device
        return other

    def _plan_epoch(self, epoch: int) -> list[Indices]:
        return plan_epoch(
            self.lengths, seed=self._seed, epoch=epoch, tokens_per_step=self._tokens_per_step
        )

    def epoch_length(self, epoch: int) -> int:
        """The number of steps of an epoch."""
        return len(self._plan(epoch))

    def examples(self, position: Position) -> Indices:
        """The examples of a step, over all processes."""
        return self._plan(position.epoch)[position.batch]

    def largest(self, epoch: int) -> tuple[Batch, Batch]:
        """Make the micro-batches of an epoch that take this process the most memory.

        The first has the most padded positions, which are what recurrent layers compute; the second
        the most pairs of positions, which are what attention compares. Only steps that are among
        the largest before they are cut are looked at: many fill a device, and these differ by less
        than a sentence.
        """
        return self._largest(epoch, padded_positions), self._largest(epoch, padded_pairs)

    def _largest(self, epoch: int, size: Callable[[Indices, Lengths], int]) -> Batch:
        plan = self._plan(epoch)
        pieces = [
            (piece, number)
            for number in self._candidates(epoch)
            for piece in cut_share(
                plan[number][self._rank :: self._world_size], self.lengths, self.tokens_per_device
            )
        ]
        if not pieces:  # each step has fewer examples than there are processes
            return self._batch(plan[0][:0], fill=plan[0][:1])
        piece, number = max(pieces, key=lambda entry: size(entry[0], self.lengths))
        return self._batch(piece, fill=plan[number][:1])

    def largest_share(self, epoch: int) -> int:
        """Say how many padded positions any process has to compute in a step, at most."""

        def share(batch: Indices) -> int:
            longest = padded_positions(batch, self.lengths) // len(batch)
            return ceil(len(batch) / self._world_size) * longest

        plan = self._plan(epoch)
        return max(share(plan[number]) for number in self._candidates(epoch))

    def _find_candidates(self, epoch: int) -> list[int]:
        """Find the steps of an epoch that are the largest before they are cut."""
        plan = self._plan(epoch)
        found: set[int] = set()
        for size in (padded_positions, padded_pairs):
            sizes = [size(batch, self.lengths) for batch in plan]
            found.update(sorted(range(len(plan)), key=lambda number: -sizes[number])[:_LOOKED_AT])
        return sorted(found)

    def _cut(self, batch: Indices) -> list[Indices]:
        return cut(
            batch,
            self.lengths,
            rank=self._rank,
            world_size=self._world_size,
            tokens_per_device=self.tokens_per_device,
        )

    def __getitem__(self, index: Any) -> Step:
        position = Position(*index)
        batch = self._plan(position.epoch)[position.batch]
        pieces = self._cut(batch)
        return Step(
            batches=tuple(self._batch(piece, fill=batch[:1]) for piece in pieces),
            target_tokens=int(self.lengths.target[batch].sum()),
            source_tokens=int(self.lengths.source[batch].sum()),
            epoch=position.epoch,
        )

    def _batch(self, examples: Indices, *, fill: Indices) -> Batch:
        """Make a micro-batch; an empty one computes `fill` at weight zero."""
        weight = 1.0 if len(examples) else 0.0
        chosen = [int(example) for example in (examples if len(examples) else fill)]
        source = [self._split.source[example] for example in chosen]
        target = [self._split.target[example] for example in chosen]
        return make_batch(source, target, chosen, weight=weight)


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
