"""The step boundary: validate, checkpoint, stop, in this order and nowhere else.

Whatever a validation changes (best score, patience, plateau) is in the checkpoint that follows it,
so a run that is resumed decides what the uninterrupted one decides.
"""

import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytorch_lightning as lightning

from seq2seq.config import Config, Plateau
from seq2seq.data.batch import Step
from seq2seq.data.loader import StepDataset, following
from seq2seq.parallel.group import Group
from seq2seq.terminal import say
from seq2seq.training.module import TranslationModule
from seq2seq.training.report import Report
from seq2seq.training.state import RunState
from seq2seq.training.stopping import StopRequest
from seq2seq.training.time_limit import forecast
from seq2seq.training.validation import Validation, Validator

_UNTOLD = 20  # steps until it is said whether the run fits in the time limit


class Wish(IntEnum):
    """What a process wants to be done after a step; the largest wish is granted."""

    NOTHING = 0
    SAVE = 1
    STOP = 2


class Boundary(lightning.Callback):
    """What happens between two optimizer steps."""

    def __init__(
        self,
        config: Config,
        steps: StepDataset,
        group: Group,
        *,
        validator: Validator,
        report: Report,
        stop: StopRequest,
        save: Callable[[], None],
        save_best: Callable[[Validation], None],
    ):
        """Set up the boundary.

        Args:
            config: of the run.
            steps: the training steps, for the position.
            group: the processes of the run; the first one writes for all.
            validator: scores the network.
            report: tells the person.
            stop: asks for an early end.
            save: writes a checkpoint, in the first process.
            save_best: is called with each best validation, in the first process.
        """
        self._config, self._steps, self._group = config, steps, group
        self._validator, self._report, self._stop = validator, report, stop
        self._save, self._save_best = save, save_best
        self._clock = self._saved_at = time.monotonic()
        self._first, self._told = 0, False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Make up for a validation that a stop cut off, and heed a stop that came early."""
        self._report.begin(pl_module.state)
        self._clock = self._saved_at = time.monotonic()
        self._first = self._group.step = pl_module.state.step
        wish = self._learn_why(max(self._group.gather(self._wish())))
        if pl_module.state.validation_due or wish is Wish.STOP:
            self._cross(trainer, pl_module, wish)
        if self._group.place.world_size > 1 and not trainer.should_stop:
            pl_module.rehearse(self._steps[pl_module.state.position])

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: Any, batch: Step, batch_idx: int
    ) -> None:
        """Note how long the step had to be waited for."""
        self._report.batch_arrived()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Step,
        batch_idx: int,
    ) -> None:
        """Count the step, then cross the boundary."""
        state: RunState = pl_module.state
        computed = state.position
        state.step += 1
        state.epoch, state.batch = following(computed, self._steps)
        self._report.step(state, computed, batch, outputs)
        every = self._config.validation.every
        state.validation_due = state.step % every == 0 or state.step == self._config.training.steps
        self._group.step = state.step
        self._watch_time(state)
        self._cross(trainer, pl_module, self._learn_why(self._group.agree(self._wish())))
        self._report.wait_for_batch()

    def _watch_time(self, state: RunState) -> None:
        """Let the time limit know how long a step takes; once, say whether the rest fits in it."""
        pace, left = self._report.pace, self._stop.seconds_left
        if pace is None or left is None:
            return
        self._stop.step_takes(pace)
        if not self._told and state.step >= self._first + _UNTOLD:
            self._told = True
            say(forecast(pace, state.step, self._config.training.steps, left))

    def _wish(self) -> Wish:
        if self._stop:
            return Wish.STOP
        minutes = self._config.training.checkpoint.minutes
        if minutes is None or not self._group.place.is_first:
            return Wish.NOTHING
        now = time.monotonic()
        if now - self._saved_at <= 60 * minutes:
            return Wish.NOTHING
        self._saved_at = now  # wished once: where processes agree, it comes true a step later
        return Wish.SAVE

    def _learn_why(self, wish: int) -> Wish:
        """Let all processes know why they stop, if they do: one of them was asked to."""
        if wish == Wish.STOP:
            reasons = self._group.gather(self._stop.reason)
            self._stop.reason = next(filter(None, reasons), None)
        return Wish(wish)

    def _cross(self, trainer: lightning.Trainer, module: TranslationModule, wish: Wish) -> None:
        state = module.state
        among_best = state.validation_due and self._validate(module)
        dropped = state.validation_due
        ending = wish is Wish.STOP or dropped or bool(end_reason(state, self._config))
        due = wish is Wish.SAVE or state.step % self._config.training.checkpoint.every == 0
        if due or among_best or ending:
            self._checkpoint(state)
        trainer.should_stop = ending

    def _validate(self, module: TranslationModule) -> bool:
        """Validate; a stop meanwhile leaves the validation due.

        Returns:
            Whether the weights are among the best that are kept.
        """
        state = module.state
        self._report.read_back(state)
        result = self._validator.validate(module.evaluated, self._stop)
        if result is None:
            self._learn_why(Wish.STOP)
            say("stopping: the validation is dropped, and done first when the run goes on")
            return False
        schedule = self._config.training.optimizer.schedule
        plateau = schedule if isinstance(schedule, Plateau) else None
        improved = state.record(result.scores.bleu.value, plateau)
        self._report.validation(state, result, improved=improved)
        if improved:
            self._group.first_does(lambda: self._save_best(result))
        return state.step in state.best_steps(self._config.training.checkpoint.keep_best)

    def _checkpoint(self, state: RunState) -> None:
        self._report.read_back(state)  # nothing is saved after a gradient of NaNs
        now = time.monotonic()
        state.seconds, self._clock = state.seconds + now - self._clock, now
        self._group.first_does(self._save)
        self._saved_at = time.monotonic()
        self._stop.saving_takes(self._saved_at - now)


def is_stopped(state: RunState, config: Config, stop: StopRequest) -> bool:
    """Whether a run that was asked to stop has something left to do."""
    return bool(stop) and (state.validation_due or not end_reason(state, config))


def end_reason(state: RunState, config: Config) -> str:
    """Say why a run has come to its end, or nothing where it has not."""
    if state.step >= config.training.steps:
        return f"all {config.training.steps:,} steps are done (training.steps)"
    patience = config.validation.patience
    if patience is not None and state.stale >= patience:
        return f"BLEU has not got better in {state.stale} validations (validation.patience)"
    return ""
