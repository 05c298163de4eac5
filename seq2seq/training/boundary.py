"""The step boundary: validate, checkpoint, stop, in this order and nowhere else.

Whatever a validation changes (best score, patience, plateau) is in the checkpoint that follows it,
so a run that is resumed decides what the uninterrupted one decides.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning

from seq2seq.config import Config, Plateau
from seq2seq.data.batch import Step
from seq2seq.data.loader import StepDataset, following
from seq2seq.parallel.group import Group
from seq2seq.terminal import say
from seq2seq.training.checkpoint import checkpoint_path, remove_checkpoints, write_checkpoint
from seq2seq.training.module import TranslationModule
from seq2seq.training.report import Report
from seq2seq.training.state import RunState
from seq2seq.training.stopping import StopRequest
from seq2seq.training.validation import Validation, Validator


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
        save_best: Callable[[Validation], None],
        contents: Callable[[], dict[str, Any]],
    ):
        """Set up the boundary.

        Args:
            config: of the run.
            steps: the training steps, for the position.
            group: the processes of the run; the first one writes for all.
            validator: scores the network.
            report: tells the person.
            stop: asks for an early end.
            save_best: is called with each best validation.
            contents: gives what a checkpoint holds.
        """
        self._config, self._steps, self._group = config, steps, group
        self._validator, self._report, self._stop = validator, report, stop
        self._save_best, self._contents = save_best, contents
        self._clock = time.monotonic()

    @property
    def _checkpoints(self) -> Path:
        return self._config.training.folder / "checkpoints"

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Make up for a validation that a stop cut off, and heed a stop that came early."""
        self._report.begin(pl_module.state)
        self._clock = time.monotonic()
        self._group.step = pl_module.state.step
        asked = self._is_asked_to_stop(at_once=True)
        if pl_module.state.validation_due or asked:
            self._cross(trainer, pl_module, asked=asked)

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
        state.step += 1
        state.epoch, state.batch = following(state.position, self._steps)
        self._report.step(state, batch, outputs)
        every = self._config.validation.every
        state.validation_due = state.step % every == 0 or state.step == self._config.training.steps
        self._group.step = state.step
        self._cross(trainer, pl_module, asked=self._is_asked_to_stop())
        self._report.wait_for_batch()

    def _is_asked_to_stop(self, *, at_once: bool = False) -> bool:
        """Whether any process was asked, up to the step before where there are several."""
        wish = bool(self._stop)
        asked = any(self._group.gather(wish)) if at_once else self._group.agree(wish)
        if asked:
            self._learn_why()
        return asked

    def _learn_why(self) -> None:
        """Let all processes know what the one that was asked to stop knows."""
        reasons = self._group.gather(self._stop.reason)
        self._stop.reason = next(filter(None, reasons), None)

    def _cross(self, trainer: lightning.Trainer, module: TranslationModule, *, asked: bool) -> None:
        state = module.state
        among_best = state.validation_due and self._validate(module)
        dropped = state.validation_due
        ending = asked or dropped or bool(end_reason(state, self._config))
        due = state.step % self._config.training.checkpoint.every == 0
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
        result = self._validator.validate(module.network, self._stop)
        if result is None:
            self._learn_why()
            say("stopping: the validation is dropped, and done first when the run goes on")
            return False
        schedule = self._config.training.optimizer.schedule
        plateau = schedule if isinstance(schedule, Plateau) else None
        improved = state.record(result.scores.bleu.value, plateau)
        self._report.validation(state, result, improved=improved)
        if improved and self._group.place.is_first:
            self._save_best(result)
        return state.step in state.best_steps(self._config.training.checkpoint.keep_best)

    def _checkpoint(self, state: RunState) -> None:
        self._report.read_back(state)  # nothing is saved after a gradient of NaNs
        now = time.monotonic()
        state.seconds, self._clock = state.seconds + now - self._clock, now
        if not self._group.place.is_first:
            return
        write_checkpoint(checkpoint_path(self._checkpoints, state.step), self._contents())
        kept = self._config.training.checkpoint
        best = state.best_steps(kept.keep_best)
        remove_checkpoints(
            self._checkpoints, step=state.step, keep_last=kept.keep_last, keep_steps=best
        )


def end_reason(state: RunState, config: Config) -> str:
    """Say why a run has come to its end, or nothing where it has not."""
    if state.step >= config.training.steps:
        return f"all {config.training.steps:,} steps are done (training.steps)"
    patience = config.validation.patience
    if patience is not None and state.stale >= patience:
        return f"BLEU has not got better in {state.stale} validations (validation.patience)"
    return ""
