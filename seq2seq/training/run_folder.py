"""The folder of a run: kept to one run at a time; checkpoints, and the best model."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.filesize import decimal as shown

from seq2seq import __version__
from seq2seq.config import Config
from seq2seq.config_file import dump_config
from seq2seq.data.prepared import PreparedData
from seq2seq.errors import ModelError, UserError
from seq2seq.files import clear_leftovers, write_whole
from seq2seq.model.network import Network
from seq2seq.model_folder import Model, save_model
from seq2seq.parallel.group import Group
from seq2seq.parallel.slurm import job_name
from seq2seq.terminal import complain, say
from seq2seq.training.base import start_from_base
from seq2seq.training.checkpoint import (
    checkpoint_path,
    checkpoints,
    newest_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)
from seq2seq.training.compatibility import check_checkpoint
from seq2seq.training.lock import RunLock
from seq2seq.training.module import TranslationModule
from seq2seq.training.optimizer import moments
from seq2seq.training.validation import Validation


class RunFolder:
    """A run's folder. All processes have one; only the first writes, and holds the lock."""

    def __init__(self, config: Config, *, resume: bool):
        """Say which folder.

        Args:
            config: of the run.
            resume: whether a run that is in it may go on.
        """
        self._config, self._resume = config, resume
        self.path = config.training.folder
        self._lock = RunLock(self.path)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The file of all that is logged."""
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """The folder of the best model."""
        return self.path / "model"

    @property
    def _requeue(self) -> Path:
        name = job_name()  # whose script alone is to heed it
        return self.path / (f"requeue-{name}" if name else "requeue")

    def refuse_to_overwrite(self) -> None:
        """Make sure that there is no run in it that isn't to go on.

        Raises:
            ModelError: there is one.
        """
        if not self._resume and checkpoints(self.checkpoints):
            raise ModelError(
                f"the run folder {self.path} has a run in it: go on with it by --resume, or choose"
                " another training.folder"
            )

    @contextmanager
    def held(self, group: Group) -> Generator[None]:
        """Keep the folder to this run; all processes must call it.

        Raises:
            CommonError: another run has it, or it can't be written.
        """
        try:
            group.first_does(self._acquire)
            yield
        finally:
            self._lock.release()

    def _acquire(self) -> None:
        self._lock.acquire()
        self.refuse_to_overwrite()
        self._requeue.unlink(missing_ok=True)
        clear_leftovers(self.path)
        clear_leftovers(self.checkpoints)

    def check(self) -> None:
        """Make sure that the folder is still this run's.

        Raises:
            ModelError: it is another run's by now.
        """
        self._lock.check()

    def start(self, group: Group, fingerprint: str) -> dict[str, Any] | None:
        """Read what the run goes on from: the newest checkpoint, else the base, else nothing.

        Args:
            group: the processes, which all must call it.
            fingerprint: of the prepared data.

        Raises:
            CommonError: the run can't go on from it.
        """
        found: list[dict[str, Any] | None] = []
        group.first_does(lambda: found.append(self._look(fingerprint)))
        return found[0] if found else self._look(fingerprint)

    def _look(self, fingerprint: str) -> dict[str, Any] | None:
        saved = newest_checkpoint(self.checkpoints)
        if saved is not None:
            check_checkpoint(saved, self._config, fingerprint)
        elif self._config.base is not None:
            saved = start_from_base(self._config, self._config.base, fingerprint)
        return saved

    def begin(self, module: TranslationModule) -> None:
        """Write down the settings, and say what the checkpoints will take.

        Raises:
            UserError: the folder can't be written, or its disk has no room for a checkpoint.
        """
        self.checkpoints.mkdir(exist_ok=True)
        write_whole(self.checkpoints / ".writable", b"")
        (self.checkpoints / ".writable").unlink()
        write_whole(self.path / "config.yaml", dump_config(self._config).encode())
        room = Room.of(self._config, module.network)
        say(room.summary())
        if room.too_small:
            raise UserError(room.too_small)
        if room.may_get_full:
            complain(room.may_get_full)

    def ask_for_another_start(self) -> None:
        """Leave a mark for job scripts: the run was asked to stop, and is to be started again.

        A status can't say it: srun and torchrun turn all but 0 into a failure of their own.
        """
        with suppress(OSError):  # of a disk that is full or gone, the run has told
            self.path.mkdir(parents=True, exist_ok=True)
            self._requeue.touch()

    def save(self, module: TranslationModule, data: PreparedData) -> None:
        """Write a checkpoint, and remove those that needn't be kept.

        Raises:
            UserError: it can't be written, or the folder is another run's by now.
        """
        state, kept = module.state, self._config.training.checkpoint
        if module.loss_scale is not None:
            state.loss_scale, state.steps_since_scale = module.loss_scale.read()
        content = {
            "version": __version__,
            "config": self._config.model_dump(mode="json"),
            "data": data.manifest.fingerprint,
            "state": state.to_plain(),
            "weights": _weights(module.network),
            "average": None if module.average is None else _weights(module.average.network),
            "optimizer": module.optimizer.state_dict(),
        }
        write_checkpoint(
            checkpoint_path(self.checkpoints, state.step), content, check=self._lock.check
        )
        best = state.best_steps(kept.keep_best)
        remove_checkpoints(
            self.checkpoints, step=state.step, keep_last=kept.keep_last, keep_steps=best
        )

    def save_best(
        self, module: TranslationModule, data: PreparedData, validation: Validation
    ) -> None:
        """Write the model folder.

        Raises:
            UserError: it can't be written, or the folder is another run's by now.
        """
        facts = {
            "step": module.state.step,
            "validation": {score.name: score._asdict() for score in validation.scores},
            "data": data.manifest.fingerprint,
        }
        if module.state.base is not None:
            facts["base"] = module.state.base
        model = Model(module.evaluated, data.vocabularies, self._config, facts)
        save_model(self.model, model, check=self._lock.check)


class Room(NamedTuple):
    """What a run's files take, and what there is for them; all in bytes."""

    folder: Path
    """The run folder, or that in which it will be made."""
    checkpoint: int
    """Size of a checkpoint."""
    model: int
    """Size of the model."""
    needed: int
    """Size of all that is kept, while more of it is being written."""
    there: int
    """Size of the checkpoints that are there already."""
    free: int
    """Left on the disk."""

    @staticmethod
    def of(config: Config, network: Network) -> "Room":
        """Find out for a run, whose folder need not be there yet.

        Args:
            config: of the run.
            network: to be trained.
        """
        folder = config.training.folder
        kept = config.training.checkpoint
        one = checkpoint_size(config, network)
        model = 4 * sum(parameter.numel() for parameter in network.parameters())
        # The one that is being written, and the models: the best one, and its successor.
        number = kept.keep_last + kept.keep_best + 1
        there = sum(path.stat().st_size for path in checkpoints(folder / "checkpoints"))
        while not folder.exists():
            folder = folder.absolute().parent
        free = shutil.disk_usage(folder).free
        return Room(config.training.folder, one, model, number * one + 2 * model, there, free)

    def summary(self) -> str:
        """Say what is needed, and what is free."""
        return (
            f"a checkpoint takes {shown(self.checkpoint)}, all of them and the model up to"
            f" {shown(self.needed)}; {shown(self.free)} are free"
        )

    @property
    def too_small(self) -> str:
        """Say that there is no room for the first checkpoint, if that is so, and what to do."""
        least = self.checkpoint + self.model
        if self.free >= least:
            return ""
        return (
            f"the disk of {self.folder} has {shown(self.free)} free, but a checkpoint and the model"
            f" take {shown(least)}: make room, or choose another training.folder"
        )

    @property
    def may_get_full(self) -> str:
        """Say that there is no room for all that is to be kept, if so, and what to do."""
        if self.free + self.there >= self.needed:
            return ""
        return (
            f"the disk of {self.folder} may get full: make room, or lower"
            " training.checkpoint.keep_last or keep_best"
        )


def checkpoint_size(config: Config, network: Network) -> int:
    """Say how many bytes a checkpoint has: weights, the optimizer's moments, and an average."""
    parts = 1 + moments(config.training.optimizer) + (config.training.ema is not None)
    return parts * sum(p.numel() * p.element_size() for p in network.parameters())


def _weights(network: Network) -> dict[str, Any]:
    return {name: parameter.detach() for name, parameter in network.named_parameters()}
