"""A training run: from a config to a run folder with checkpoints, metrics and the best model."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from math import log
from typing import NamedTuple

import torch

from seq2seq.config import Config
from seq2seq.data.loader import StepDataset
from seq2seq.data.prepare import prepare, prepared_by_another
from seq2seq.data.prepared import PreparedData
from seq2seq.errors import CommonError, UserError
from seq2seq.evaluation import show_scores
from seq2seq.model_description import ModelDescription
from seq2seq.parallel.device import choose_device, compute_deterministically, described
from seq2seq.parallel.group import Group, meet
from seq2seq.parallel.launcher import launched
from seq2seq.parallel.place import Place, usable_cpus
from seq2seq.parallel.slurm import contradictions, job_name, start_again, unseen_gpus
from seq2seq.scoring import Score, Scores
from seq2seq.terminal import Progress, say
from seq2seq.training.boundary import Boundary, end_reason, is_stopped
from seq2seq.training.capacity import Capacity, is_out_of_memory
from seq2seq.training.compatibility import check_processes
from seq2seq.training.divergence import Watch
from seq2seq.training.module import TranslationModule
from seq2seq.training.monitoring import Monitor, check_loggers
from seq2seq.training.parts import new_loader, new_module, new_steps
from seq2seq.training.precision import Precision, allow_products, choose_precision
from seq2seq.training.report import Report
from seq2seq.training.run_folder import RunFolder, checkpoint_size
from seq2seq.training.state import RunState
from seq2seq.training.stopping import SIGNALS, StopNow, StopRequest
from seq2seq.training.trainer import make_trainer
from seq2seq.training.validation import Validator

SAVED = 50e6
"""Bytes a second that a slow disk takes, for before it is known how long saving takes."""


def train(config: Config, place: Place, *, resume: bool, stop: StopRequest) -> RunState:
    """Train a model, or go on with a run.

    Args:
        config: of the run; its data is prepared first if need be.
        place: of this process; the others are started where nobody has.
        resume: go on from the newest checkpoint in the run folder, if there is one.
        stop: is looked at after every step.

    Returns:
        Where the run stands; it has come to its end unless `stop` was set.

    Raises:
        UserError: the data or the run folder can't be used.
        StopNow: `stop` was set before there was anything to save, or Ctrl-C came twice.
    """
    folder = RunFolder(config, resume=resume)
    check_loggers(config.monitoring)
    device = choose_device(config.trainer.accelerator, place)
    precision = choose_precision(config.trainer.precision, device)
    allow_products(precision)
    _check_job(config, device)
    heed = partial(_give_up, stop, place, folder)
    with (
        launched(place, hold=SIGNALS) as place,
        meet(place, timeout=config.trainer.timeout, heed=heed) as meeting,
    ):
        meeting.wait_for_first(f"preparing {config.data.folder}")
        if place.is_first:
            folder.refuse_to_overwrite()
            stop.unless_asked(lambda: prepare(config))
        meeting.tell_ready()
        with meeting.group(device) as group:
            _heed_early_stop(stop, group, folder)
            if not place.is_first:
                prepared_by_another(config)
            with folder.held(group):
                return _Run(config, group, device, precision, folder, stop).go()


def _check_job(config: Config, device: torch.device) -> None:
    """Refuse to train where SLURM's variables disagree; tell what will merely be slow.

    Raises:
        UserError: one task runs where there should be several, and nobody has said that it may.
    """
    mistakes, remarks = contradictions(config.trainer.devices, len(usable_cpus()))
    if mistakes:
        raise UserError("\n".join(mistakes))
    if device.type == "cpu" and config.trainer.accelerator == "auto":
        remarks.append(unseen_gpus())
    for remark in filter(None, remarks):
        say(remark)


def _give_up(stop: StopRequest, place: Place, folder: RunFolder) -> None:
    """End waiting for a process that doesn't come, if this one was asked to stop long ago."""
    try:
        stop.give_up()
    except StopNow:
        if place.is_first:
            _ask_for_another_start(folder, stop, got_on=False)
        raise


def _heed_early_stop(stop: StopRequest, group: Group, folder: RunFolder) -> None:
    """End all processes if one has been asked to stop while there is nothing to save."""
    reasons = group.gather(stop.reason if stop else None)
    stop.reason = next(filter(None, reasons), None)
    if stop.reason is not None:
        if group.place.is_first:
            _ask_for_another_start(folder, stop, got_on=False)
        group.gather(None)  # srun ends the first one as soon as another has gone
        raise StopNow


def _ask_for_another_start(folder: RunFolder, stop: StopRequest, *, got_on: bool) -> None:
    """Have SLURM start this job again, or leave a mark for the job script.

    A run that its time limit stops before it has got on would be started again for ever. A SIGTERM
    may be a preemption, a cancellation or the time limit, of which the script lives to see the
    first alone.
    """
    of_use = got_on or stop.is_long_before_limit or stop.reason == "SIGTERM"
    if stop.by_hand or not of_use:
        return
    if stop.reason == "SIGTERM" or not job_name() or not start_again():
        folder.ask_for_another_start()


class _Run(NamedTuple):
    """A run in a folder that is its own, on processes that have met."""

    config: Config
    group: Group
    device: torch.device
    precision: Precision
    folder: RunFolder
    stop: StopRequest

    def go(self) -> RunState:
        """Train to the end, or until a stop; say how it ended."""
        self.stop.begin()
        data = PreparedData.open(self.config.data.folder)
        saved = self.folder.start(self.group, data.manifest.fingerprint)
        state = RunState() if saved is None else RunState.from_plain(saved["state"])
        check_processes(self.group, self.config, state)
        self._agree_on_precision(state)
        if _has_ended(self.config, state):
            return state
        began = (state.step, state.validation_due)
        steps = new_steps(self.config, data, self.group.place)
        module = new_module(self.config, data, steps, self.group, self.precision, state, saved)
        self._fit(module, data, steps)
        if self.group.place.is_first:
            self._tell_end(state)
            if is_stopped(state, self.config, self.stop):
                got_on = (state.step, state.validation_due) != began
                _ask_for_another_start(self.folder, self.stop, got_on=got_on)
        return state

    def _agree_on_precision(self, state: RunState) -> None:
        """Make sure that `auto` is the same to all processes; tell where it is another than before.

        Raises:
            CommonError: it isn't.
        """
        name = self.precision.name
        names = self.group.gather(name)
        for rank, other in enumerate(names):
            if other != names[0]:
                raise CommonError(
                    f"rank {rank} and rank 0 can't train together: trainer.precision is {other} to"
                    f" one and {names[0]} to the other; name one that all devices have"
                )
        if state.precision not in ("", name):
            say(f"changed since the checkpoint: what is computed in, {state.precision} → {name}")
        state.precision = name

    def _fit(self, module: TranslationModule, data: PreparedData, steps: StepDataset) -> None:
        config, place, state = self.config, self.group.place, module.state
        self._tell_start(module, steps)
        steps = self._cut(steps, module)
        self.group.first_does(lambda: self.folder.begin(module))
        self.stop.saving_takes(checkpoint_size(config, module.network) / SAVED)
        # At least one, which is never computed: a validation may be left over from the last step.
        remaining = max(1, config.training.steps - state.step)
        loader = new_loader(config, steps, place, self.device, state.position, remaining)
        with (
            _monitor(config, place, state) as monitor,
            Progress("training", total=config.training.steps, unit="steps", done=state.step) as bar,
        ):
            report = Report(
                self.folder,
                self.group,
                log_every=config.training.log_every,
                progress=bar,
                monitor=monitor,
                watch=Watch(self.folder, self.group, steps, log(len(data.vocabularies.target))),
            )
            boundary = self._boundary(module, data, steps, report)
            trainer = make_trainer(config, [boundary], place, self.device)
            try:
                trainer.fit(module, loader)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise UserError(
                    "the device's memory is too small for a batch: lower"
                    f" training.tokens_per_device (now {steps.tokens_per_device}) or"
                    " search.tokens_per_batch"
                ) from error

    def _cut(self, steps: StepDataset, module: TranslationModule) -> StepDataset:
        """Cut the steps so that the devices can compute them, and try the longest batch."""
        config, state = self.config, module.state
        if config.trainer.deterministic:
            compute_deterministically()
        module.to(self.device)
        capacity = Capacity(
            module.network,
            steps,
            config,
            self.group,
            self.device,
            self.precision,
            epoch=state.epoch,
        )
        return capacity.cut(state)

    def _boundary(
        self, module: TranslationModule, data: PreparedData, steps: StepDataset, report: Report
    ) -> Boundary:
        return Boundary(
            self.config,
            steps,
            self.group,
            validator=Validator(data, self.config, self.group, steps.tokens_per_device),
            report=report,
            stop=self.stop,
            save=lambda: self.folder.save(module, data),
            save_best=lambda validation: self.folder.save_best(module, data, validation),
        )

    def _tell_start(self, module: TranslationModule, steps: StepDataset) -> None:
        number = self.group.place.world_size
        parameters = sum(parameter.numel() for parameter in module.network.parameters())
        processes = f"{number} processes; " if number > 1 else ""
        say(
            f"{parameters:,} parameters; {processes}{steps.epoch_length(0):,} steps an epoch,"
            f" {self.config.training.steps:,} steps in all; logs and checkpoints go to"
            f" {self.folder.path}"
        )
        where = described(self.device, self.config.trainer.accelerator)
        say(f"computing in {self.precision.name} on {where}")

    def _tell_end(self, state: RunState) -> None:
        """Say how the run ended and what its best model is worth."""
        if is_stopped(state, self.config, self.stop):
            reason = self.stop.reason
            say(f"stopped at step {state.step:,} ({reason}); --resume goes on from there")
            return
        minutes = f"{state.seconds / 60:.0f} min"
        say(f"the run is done after {minutes} of training: {end_reason(state, self.config)}")
        if state.best is not None:
            facts = ModelDescription.load(self.folder.model).facts
            scores = Scores(*(Score(**entry) for entry in facts["validation"].values()))
            title = f"validation, beam {self.config.validation_search.beam}"
            show_scores(title, {f"{self.folder.model} (step {facts['step']:,})": scores})


def _has_ended(config: Config, state: RunState) -> bool:
    """Say where the run goes on, or that there is nothing to do."""
    reason = "" if state.validation_due else end_reason(state, config)
    if reason:
        say(f"the run is already at step {state.step:,}: {reason}; raise that to go on")
    elif state.step:
        say(f"going on from step {state.step:,} of {config.training.steps:,}")
    return bool(reason)


@contextmanager
def _monitor(config: Config, place: Place, state: RunState) -> Generator[Monitor | None]:
    """Open the loggers in the first process; the others have none."""
    if not place.is_first:
        yield None
        return
    monitor = Monitor(config, step=state.step)
    try:
        yield monitor
    except BaseException:
        monitor.close(failed=True)
        raise
    monitor.close(failed=False)
