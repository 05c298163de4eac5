"""Whether a run still learns: gradients that aren't finite, and a loss that has exploded."""

import math
from collections.abc import Sequence
from itertools import takewhile
from statistics import fmean
from typing import NamedTuple

from seq2seq.data.loader import Position, StepDataset
from seq2seq.errors import UserError
from seq2seq.parallel.group import Group
from seq2seq.training.checkpoint import checkpoint_path, checkpoints, step_of
from seq2seq.training.run_folder import RunFolder

_WINDOW = 50  # least number of steps whose mean loss is judged
_TIMES = 2.0  # what guessing loses, and what the first step lost: more than that has exploded
_NAMED = 10  # examples of a step that are named


class Computed(NamedTuple):
    """A step that has been computed, as all processes know it."""

    step: int
    """Its number, counted from 1."""
    position: Position
    loss: float
    """Per target token, in nats."""
    skipped: bool
    """Whether it was left out, since its gradient wasn't finite."""


class Watch:
    """Ends a run that doesn't learn any more.

    The loss has exploded where its mean over at least 50 steps is more than twice what guessing
    evenly would lose, and more than twice the loss of this start's first step. A healthy run stays
    below: it begins near the first, unless it goes on from weights that were learnt for something
    else, which the second allows for; and the steps are so many that no odd batch, nor a short
    relapse, can lift their mean so high.
    """

    def __init__(self, folder: RunFolder, group: Group, steps: StepDataset, guessing: float):
        """Begin to watch.

        Args:
            folder: the run folder.
            group: the processes of the run.
            steps: of the run, for the examples.
            guessing: loss per token when all of the target vocabulary is taken as equally likely.
        """
        self._folder, self._group, self._steps = folder, group, steps
        self._guessing, self._limit = guessing, 0.0
        self._window: list[Computed] = []

    def look(self, computed: Sequence[Computed]) -> None:
        """Judge the steps since the last time; all processes must call it, with the same.

        Raises:
            CommonError: the run doesn't learn any more: since which step, with which examples, and
                what the last good checkpoint is.
        """
        self._window += computed
        if not self._limit:
            begun = computed[0].loss
            self._limit = _TIMES * max(self._guessing, begun if math.isfinite(begun) else 0.0)
        if skipped := [step for step in computed if step.skipped]:
            number = f"{len(skipped)} of the last {len(computed)} steps"
            self._end(f"the gradient was not finite in {number}", skipped[0])
        if len(self._window) < _WINDOW:
            return
        mean = fmean(step.loss for step in self._window)
        if not mean <= self._limit:
            number = f"{len(self._window)} steps"
            self._end(
                f"the loss has exploded: {mean:.4g} per token in the last {number}, where guessing"
                f" evenly loses {self._guessing:.4g}",
                next(step for step in self._window if self._is_too_high(step)),
            )
        self._window = []

    def _is_too_high(self, step: Computed) -> bool:
        return not step.loss <= self._limit

    def _end(self, trouble: str, first: Computed) -> None:
        self._group.first_does(lambda: self._refuse(trouble, first))

    def _refuse(self, trouble: str, first: Computed) -> None:
        examples = sorted(self._steps.examples(first.position).tolist())
        named = ", ".join(map(str, examples[:_NAMED]))
        more = f" and {len(examples) - _NAMED:,} more" if len(examples) > _NAMED else ""
        raise UserError(
            f"{trouble}; the first was step {first.step:,}, of the training examples {named}{more}"
            " (counted from 0): lower training.optimizer.learning_rate, then"
            f" {self._way_back(first)}"
        )

    def _way_back(self, first: Computed) -> str:
        """Say what can be gone on from: what was saved while the next step still came out well."""
        before = self._window[: self._window.index(first)]
        run_up = list(takewhile(self._is_too_high, reversed(before)))
        began = first.step - len(run_up)
        folder = self._folder.checkpoints
        bad = [path for path in checkpoints(folder) if path >= checkpoint_path(folder, began - 1)]
        good = [path for path in checkpoints(folder) if path not in bad]
        if not good:
            elsewhere = " in another training.folder" if bad else ""
            return f"train anew{elsewhere}, since there is no good checkpoint"
        last = f"the last good checkpoint, {good[-1]} (step {step_of(good[-1]):,})"
        if not bad:
            return f"go on from {last}, with --resume"
        return f"remove {', '.join(path.name for path in bad)} and go on from {last}, with --resume"
