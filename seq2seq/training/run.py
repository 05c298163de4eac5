"""A training run: from a config to a run folder with checkpoints, metrics and the best model."""

import fcntl
import logging
import os
import socket
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pydantic import ValidationError

from seq2seq import __version__
from seq2seq.config import Config
from seq2seq.config_file import differences, dump_config
from seq2seq.data.loader import StepDataset, step_loader
from seq2seq.data.prepare import prepare
from seq2seq.data.prepared import PreparedData
from seq2seq.errors import ModelError, UserError
from seq2seq.evaluation import show_scores
from seq2seq.files import write_whole
from seq2seq.model_folder import Model, copy_weights, model_facts, new_network, save_model
from seq2seq.scoring import Score, Scores
from seq2seq.terminal import Progress, say
from seq2seq.training.boundary import Boundary, end_reason
from seq2seq.training.checkpoint import checkpoints, newest_checkpoint
from seq2seq.training.module import TranslationModule
from seq2seq.training.report import Report
from seq2seq.training.state import RunState
from seq2seq.training.stopping import StopRequest
from seq2seq.training.validation import Validation, Validator

# Settings that a run can't change on its way: its weights or its order would mean something else.
_FIXED = ("seed", "model.", "training.tokens_per_step")
_FREE = ("model.dropout.",)


def train(config: Config, *, resume: bool, stop: StopRequest) -> RunState:
    """Train a model, or go on with a run.

    Args:
        config: of the run; its data is prepared first if need be.
        resume: go on from the newest checkpoint in the run folder, if there is one.
        stop: is looked at after every step.

    Returns:
        Where the run stands; it has come to its end unless `stop` was set.

    Raises:
        UserError: the data or the run folder can't be used.
    """
    _check_accelerator(config.trainer.accelerator)
    folder = config.training.folder
    if not resume and checkpoints(folder / "checkpoints"):
        raise ModelError(
            f"the run folder {folder} has a run in it: go on with it by --resume, or choose another"
            " training.folder"
        )
    manifest = prepare(config)
    with _lock(folder):
        saved = newest_checkpoint(folder / "checkpoints")
        state = RunState() if saved is None else RunState.from_plain(saved["state"])
        if saved is not None:
            _check_same(saved, config, manifest.fingerprint)
            if not state.validation_due and (reason := end_reason(state, config)):
                say(f"the run is already at step {state.step:,}: {reason}; raise that to go on")
                return state
            say(f"going on from step {state.step:,} of {config.training.steps:,}")
        write_whole(folder / "config.yaml", dump_config(config).encode())
        _run(config, PreparedData.open(config.data.folder), state, saved, stop)
        return state


def _run(
    config: Config,
    data: PreparedData,
    state: RunState,
    saved: dict[str, Any] | None,
    stop: StopRequest,
) -> None:
    _set_threads(config.trainer.threads)
    torch.manual_seed(config.seed)
    network = new_network(config, data.vocabularies)
    if saved is not None:
        copy_weights(network, saved["weights"])
    module = TranslationModule(network, config, state, saved["optimizer"] if saved else None)
    steps = StepDataset(
        data.split("train"),
        seed=config.seed,
        tokens_per_step=config.training.tokens_per_step,
        tokens_per_device=config.training.tokens_per_device,
    )
    size = sum(parameter.numel() for parameter in network.parameters())
    say(
        f"{size:,} parameters; {steps.epoch_length(0):,} steps an epoch,"
        f" {config.training.steps:,} steps in all;"
        f" logs and checkpoints go to {config.training.folder}"
    )
    _fit(config, data, module, steps, stop)
    _tell_end(config, state, stop)


def _fit(
    config: Config,
    data: PreparedData,
    module: TranslationModule,
    steps: StepDataset,
    stop: StopRequest,
) -> None:
    state, folder = module.state, config.training.folder

    def save_best(result: Validation) -> None:
        facts = {
            "step": state.step,
            "validation": {score.name: score._asdict() for score in result.scores},
            "data": data.manifest.fingerprint,
        }
        save_model(folder / "model", Model(module.network, data.vocabularies, config, facts))

    def contents() -> dict[str, Any]:
        return {
            "version": __version__,
            "config": config.model_dump(mode="json"),
            "data": data.manifest.fingerprint,
            "state": state.to_plain(),
            "weights": {name: p.detach() for name, p in module.network.named_parameters()},
            "optimizer": module.optimizer.state_dict(),
        }

    with Progress("training", total=config.training.steps, unit="steps", done=state.step) as bar:
        boundary = Boundary(
            config,
            steps,
            validator=Validator(data, config),
            report=Report(folder, log_every=config.training.log_every, progress=bar),
            stop=stop,
            save_best=save_best,
            contents=contents,
        )
        # At least one, which is never computed: a validation may be left over from the last step.
        remaining = max(1, config.training.steps - state.step)
        loader = step_loader(steps, start=state.position, number=remaining)
        trainer = make_trainer(config, boundary)
        stop.begin()
        try:
            trainer.fit(module, loader)
        except torch.OutOfMemoryError as error:
            raise UserError(
                "the device's memory is too small for a batch: lower training.tokens_per_device"
                f" (now {config.training.tokens_per_device}) or search.tokens_per_batch"
            ) from error


def make_trainer(config: Config, boundary: Boundary) -> lightning.Trainer:
    """Make Lightning's trainer, with all that the boundary does itself switched off."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Advice on worker processes and loggers, which are no settings of ours.
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning")
    trainer = lightning.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision="32-true",
        deterministic=config.trainer.deterministic or None,
        max_epochs=1,
        callbacks=[boundary],
        plugins=[LightningEnvironment()],  # one process, whatever SLURM's variables say
        default_root_dir=config.training.folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    # Lightning's handlers would save inside the handler; ours, installed before, set a flag.
    connector = cast(Any, trainer)._signal_connector
    assert hasattr(connector, "register_signal_handlers")
    connector.register_signal_handlers = lambda: None
    return trainer


def _check_accelerator(accelerator: str) -> None:
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if accelerator in available and not available[accelerator]():
        raise UserError(
            f"`trainer.accelerator` is '{accelerator}', but torch {torch.__version__} finds no such"
            " device here: write 'auto' or 'cpu'"
        )


def _set_threads(threads: int | None) -> None:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(threads or usable or 1)


def _check_same(saved: dict[str, Any], config: Config, fingerprint: str) -> None:
    """Refuse to go on where the checkpoint would mean something else; tell the other changes."""
    folder = config.training.folder
    if saved["data"] != fingerprint:
        raise ModelError(
            f"the run in {folder} was trained on other data than {config.data.folder} now holds:"
            " choose another training.folder, or the old data.folder"
        )
    try:
        before = Config.model_validate(saved["config"])
    except ValidationError as error:
        raise ModelError(
            f"the run in {folder} was begun by version {saved['version']}, whose settings this"
            f" version ({__version__}) doesn't know: choose another training.folder"
        ) from error
    changes = differences(before, config)
    fixed = [
        change for change in changes if change.startswith(_FIXED) and not change.startswith(_FREE)
    ]
    if fixed:
        raise ModelError(
            f"the run in {folder} can't go on with other settings ({'; '.join(fixed)}): choose"
            " another training.folder"
        )
    for change in changes:
        say(f"changed since the checkpoint: {change}")


def _tell_end(config: Config, state: RunState, stop: StopRequest) -> None:
    """Say how the run ended and what its best model is worth."""
    reason = end_reason(state, config)
    if stop and (not reason or state.validation_due):
        say(f"stopped at step {state.step:,} ({stop.reason}); --resume goes on from there")
        return
    say(f"the run is done after {state.seconds / 60:.0f} min of training: {reason}")
    if state.best is not None:
        folder = config.training.folder / "model"
        facts = model_facts(folder)
        scores = Scores(*(Score(**entry) for entry in facts["validation"].values()))
        title = f"validation, beam {config.validation_search.beam}"
        show_scores(title, {f"{folder} (step {facts['step']:,})": scores})


@contextmanager
def _lock(folder: Path) -> Generator[None]:
    """Keep the run folder to this process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"the run folder {folder} can't be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ModelError(
                f"the run folder {folder} is in use by {file.read().strip() or 'another process'}:"
                " wait for it, or choose another training.folder"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
