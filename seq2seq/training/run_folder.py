"""The folder of a run: kept to one run at a time; checkpoints, and the best model."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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
        return self.path / "requeue"

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
        kept = self._config.training.checkpoint
        one, model = checkpoint_size(module), _model_size(module.network)
        # The one that is being written, and the models: the best one, and its successor.
        number = kept.keep_last + kept.keep_best + 1
        needed = number * one + 2 * model
        there = sum(path.stat().st_size for path in checkpoints(self.checkpoints))
        free = shutil.disk_usage(self.path).free
        say(
            f"a checkpoint takes {shown(one)}, all of them and the model up to {shown(needed)};"
            f" {shown(free)} are free"
        )
        if free < one + model:
            raise UserError(
                f"the disk of {self.path} has {shown(free)} free, but a checkpoint and the model"
                f" take {shown(one + model)}: make room, or choose another"
                " training.folder"
            )
        if free + there < needed:
            complain(
                f"the disk of {self.path} may get full: make room, or lower"
                " training.checkpoint.keep_last or keep_best"
            )

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


def checkpoint_size(module: TranslationModule) -> int:
    """Say how many bytes a checkpoint has: weights, two moments of each, and their average."""
    parts = 3 if module.average is None else 4
    return parts * sum(p.numel() * p.element_size() for p in module.network.parameters())


def _model_size(network: Network) -> int:
    return 4 * sum(parameter.numel() for parameter in network.parameters())


def _weights(network: Network) -> dict[str, Any]:
    return {name: parameter.detach() for name, parameter in network.named_parameters()}
