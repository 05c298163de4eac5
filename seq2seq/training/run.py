"""A training run: from a config to a run folder with checkpoints, metrics and the best model."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from seq2seq.config import Config
from seq2seq.data.loader import StepDataset, step_loader
from seq2seq.data.prepare import prepare, prepared_by_another
from seq2seq.data.prepared import PreparedData
from seq2seq.errors import UserError
from seq2seq.evaluation import show_scores
from seq2seq.model_description import ModelDescription
from seq2seq.model_folder import copy_weights, new_network
from seq2seq.parallel.device import choose_device
from seq2seq.parallel.group import Group, meet
from seq2seq.parallel.launcher import launched
from seq2seq.parallel.place import Place, usable_threads
from seq2seq.scoring import Score, Scores
from seq2seq.terminal import Progress, say
from seq2seq.training.base import freeze
from seq2seq.training.boundary import Boundary, end_reason, is_stopped
from seq2seq.training.compatibility import check_processes
from seq2seq.training.module import TranslationModule
from seq2seq.training.monitoring import Monitor, check_loggers
from seq2seq.training.report import Report
from seq2seq.training.run_folder import RunFolder
from seq2seq.training.state import RunState
from seq2seq.training.stopping import SIGNALS, StopNow, StopRequest
from seq2seq.training.trainer import make_trainer
from seq2seq.training.validation import Validator


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
        StopNow: `stop` was set before there was anything to save.
    """
    folder = RunFolder(config)
    check_loggers(config.monitoring)
    device = choose_device(config.trainer.accelerator, place)
    with (
        launched(place, hold=SIGNALS) as place,
        meet(place, timeout=config.trainer.timeout, heed=stop.give_up) as meeting,
    ):
        meeting.wait_for_first(f"preparing {config.data.folder}")
        if place.is_first:
            if not resume:
                folder.refuse_to_overwrite()
            stop.unless_asked(lambda: prepare(config))
        meeting.tell_ready()
        with meeting.group(device) as group:
            _heed_early_stop(stop, group)
            if not place.is_first:
                prepared_by_another(config)
            with folder.held(group):
                saved = folder.start(group)
                state = RunState() if saved is None else RunState.from_plain(saved["state"])
                check_processes(group, config, state.step)
                if not _has_ended(config, state):
                    _run(config, state, saved, stop, group, device, folder)
                return state


def _heed_early_stop(stop: StopRequest, group: Group) -> None:
    """End all processes if one has been asked to stop; from here on they agree after each step."""
    stop.begin()
    reasons = group.gather(stop.reason if stop else None)
    stop.reason = next(filter(None, reasons), None)
    if stop.reason is not None:
        raise StopNow


def _has_ended(config: Config, state: RunState) -> bool:
    """Say where the run goes on, or that there is nothing to do."""
    reason = "" if state.validation_due else end_reason(state, config)
    if reason:
        say(f"the run is already at step {state.step:,}: {reason}; raise that to go on")
    elif state.step:
        say(f"going on from step {state.step:,} of {config.training.steps:,}")
    return bool(reason)


def _run(
    config: Config,
    state: RunState,
    saved: dict[str, Any] | None,
    stop: StopRequest,
    group: Group,
    device: torch.device,
    folder: RunFolder,
) -> None:
    place, data = group.place, PreparedData.open(config.data.folder)
    torch.set_num_threads(config.trainer.threads or usable_threads(place))
    torch.manual_seed(config.seed)
    network = new_network(config, data.vocabularies)
    network.to(getattr(torch, config.trainer.precision))
    if saved is not None:
        copy_weights(network, saved["weights"])
    if config.base is not None:
        freeze(network, config.base.freeze)
    optimizer = saved["optimizer"] if saved else None
    module = TranslationModule(network, config, state, group, optimizer)
    if saved is not None and saved["average"] is not None and module.average is not None:
        copy_weights(module.average.network, saved["average"])
    steps = StepDataset(
        data.split("train"),
        seed=config.seed,
        tokens_per_step=config.training.tokens_per_step,
        tokens_per_device=config.training.tokens_per_device,
        rank=place.rank,
        world_size=place.world_size,
    )
    parameters = sum(parameter.numel() for parameter in network.parameters())
    processes = f"{place.world_size} processes; " if place.world_size > 1 else ""
    say(
        f"{parameters:,} parameters; {processes}{steps.epoch_length(0):,} steps an epoch,"
        f" {config.training.steps:,} steps in all; logs and checkpoints go to {folder.path}"
    )
    group.first_does(lambda: folder.begin(network))
    began_at = state.step
    _fit(config, data, module, steps, stop, device, folder)
    if place.is_first:
        if is_stopped(state, config, stop) and state.step > began_at:
            folder.ask_for_another_start()
        _tell_end(config, state, stop)


def _fit(
    config: Config,
    data: PreparedData,
    module: TranslationModule,
    steps: StepDataset,
    stop: StopRequest,
    device: torch.device,
    folder: RunFolder,
) -> None:
    state, group = module.state, module.group
    with (
        _monitor(config, group.place, state) as monitor,
        Progress("training", total=config.training.steps, unit="steps", done=state.step) as bar,
    ):
        boundary = Boundary(
            config,
            steps,
            group,
            validator=Validator(data, config, group),
            report=Report(
                folder.path,
                group,
                log_every=config.training.log_every,
                progress=bar,
                monitor=monitor,
                check=folder.check,
            ),
            stop=stop,
            save_best=lambda validation: folder.save_best(module, data, validation),
            save=lambda: folder.save(module, data),
        )
        # At least one, which is never computed: a validation may be left over from the last step.
        remaining = max(1, config.training.steps - state.step)
        loader = step_loader(
            steps,
            start=state.position,
            number=remaining,
            workers=_loader_workers(config, group.place, device),
            pin=device.type == "cuda",
        )
        trainer = make_trainer(config, boundary, group.place, device)
        try:
            trainer.fit(module, loader)
        except torch.OutOfMemoryError as error:
            raise UserError(
                "the device's memory is too small for a batch: lower training.tokens_per_device"
                f" (now {config.training.tokens_per_device}) or search.tokens_per_batch"
            ) from error


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


def _loader_workers(config: Config, place: Place, device: torch.device) -> int:
    """Count the processes that make batches: a CPU has nothing to gain from them."""
    if config.trainer.workers is not None:
        return config.trainer.workers
    return min(4, usable_threads(place) - 1) if device.type == "cuda" else 0


def _tell_end(config: Config, state: RunState, stop: StopRequest) -> None:
    """Say how the run ended and what its best model is worth."""
    if is_stopped(state, config, stop):
        say(f"stopped at step {state.step:,} ({stop.reason}); --resume goes on from there")
        return
    minutes = f"{state.seconds / 60:.0f} min"
    say(f"the run is done after {minutes} of training: {end_reason(state, config)}")
    if state.best is not None:
        folder = config.training.folder / "model"
        facts = ModelDescription.load(folder).facts
        scores = Scores(*(Score(**entry) for entry in facts["validation"].values()))
        title = f"validation, beam {config.validation_search.beam}"
        show_scores(title, {f"{folder} (step {facts['step']:,})": scores})
