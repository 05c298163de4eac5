"""Where a run can be watched: TensorBoard, a CSV file, Weights & Biases, MLflow.

A logger that can't be started ends the run before it begins; one that fails later is told of once
and left out, for training matters more.
"""

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from seq2seq.config import Config, MonitoringConfig
from seq2seq.errors import UserError
from seq2seq.files import write_whole
from seq2seq.terminal import say
from seq2seq.training.loggers import LOGGERS, Logger, Texts

_TO_INSTALL = {
    "tensorboard": "tensorboard",
    "wandb": "'seq2seq[wandb]'",
    "mlflow": "'seq2seq[mlflow]'",
}
# Where the user doesn't say otherwise.
_ENVIRONMENT = {
    # A server that doesn't answer holds training up for a minute; it would be a quarter of an hour
    # or, at the end of the run, for ever.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "WANDB_FINISH_TIMEOUT": "60",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for results
}


def check_loggers(settings: MonitoringConfig) -> None:
    """See that the loggers' packages are installed, without loading any.

    Raises:
        UserError: one is not; the message says how to install it.
    """
    for name in settings.loggers:
        package = _TO_INSTALL.get(name)
        if package is not None and not _installed(name):
            raise UserError(
                f"monitoring.loggers names {name}, which is not installed: run"
                f" `pip install {package}`, or leave it out"
            )


def _installed(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None  # none: a mere folder of this name


class Monitor:
    """Sends metrics, sample translations and pictures to all loggers of a run."""

    def __init__(self, config: Config, *, step: int):
        """Start the loggers.

        Args:
            config: of the run.
            step: where the run goes on; what was logged of later steps is dropped, where a logger
                can do that.

        Raises:
            UserError: a logger can't be started.
        """
        self._folder = config.training.folder
        self._loggers: dict[str, Logger] = {}
        self._saves_pictures = True
        for variable, value in _ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        for name in config.monitoring.loggers:
            try:
                with _quiet():
                    self._loggers[name] = LOGGERS[name](config, step)
            except Exception as error:
                self.close(failed=True)
                raise UserError(
                    f"the logger {name} can't be started ({_reason(error)}): mend that, or leave"
                    " it out of monitoring.loggers"
                ) from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log numbers under names such as `train/loss`."""
        self._each(lambda logger: logger.log(step, metrics))

    def show(self, step: int, samples: Sequence[Texts], pictures: Sequence[bytes]) -> None:
        """Show what a validation found.

        Args:
            step: of the validation.
            samples: source, translation and reference of some sentences.
            pictures: of the attention, as PNG; each is saved in the run folder in any case.
        """
        paths = self._save(step, pictures)
        self._each(lambda logger: logger.show(step, samples, paths))

    def close(self, *, failed: bool) -> None:
        """Close the loggers, with word of how the run ended."""
        self._each(lambda logger: logger.close(failed=failed))
        self._loggers = {}

    def _each(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                call(logger)
            except Exception as error:
                del self._loggers[name]
                say(f"the logger {name} failed, the run goes on without it: {_reason(error)}")

    def _save(self, step: int, pictures: Sequence[bytes]) -> list[Path]:
        if not self._saves_pictures:
            return []
        folder, numbers = self._folder / "attention", range(1, len(pictures) + 1)
        paths = [folder / f"step-{step:08d}-{number}.png" for number in numbers]
        try:
            for path, picture in zip(paths, pictures, strict=True):
                write_whole(path, picture)
        except UserError as error:
            self._saves_pictures = False
            say(f"no more attention pictures, the run goes on without them: {error}")
            return []
        return paths


@contextmanager
def _quiet() -> Generator[None]:
    """Keep to ourselves what a logger says while it starts: how it does its work."""
    for name in ("pytorch_lightning.loggers", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: BaseException) -> str:
    """The first line of what went wrong, below what others wrap around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
