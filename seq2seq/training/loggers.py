"""Lightning's loggers behind the same three calls; each is started by making it.

Lightning's classes and the packages behind them are imported by those who use them.
"""

import csv
import html
import os
import re
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from seq2seq.config import Config, LoggerName
from seq2seq.config_file import by_key, dump_config
from seq2seq.config_mistakes import flow
from seq2seq.files import write_whole
from seq2seq.terminal import say, visible

_COLUMNS = ("source", "translation", "reference")

Texts = tuple[str, str, str]
"""A sample: source, translation, reference."""


class Logger(Protocol):
    """A logger that has been started."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log numbers."""
        ...

    def show(self, step: int, samples: Sequence[Texts], pictures: Sequence[Path]) -> None:
        """Show sample translations and pictures."""
        ...

    def close(self, *, failed: bool) -> None:
        """Write what is still to be written, and say how the run ended."""
        ...


class _TensorBoard:
    """Event files in `tensorboard/`; a start hides all that was logged of later steps."""

    def __init__(self, config: Config, step: int):
        from pytorch_lightning.loggers import TensorBoardLogger
        from torch.utils.tensorboard.summary import hparams

        self._logger = TensorBoardLogger(
            config.training.folder, name="tensorboard", version="", purge_step=step + 1
        )
        self._writer: Any = self._logger.experiment
        # Lightning's way to these would log a made-up score as well.
        for summary in hparams(_hyperparameters(config), {"validation/bleu": None}):
            self._writer.file_writer.add_summary(summary, step)
        self._writer.flush()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._logger.log_metrics(metrics, step)
        self._writer.flush()

    def show(self, step: int, samples: Sequence[Texts], pictures: Sequence[Path]) -> None:
        from matplotlib.image import imread

        if samples:
            self._writer.add_text("samples", markdown_table(_COLUMNS, samples), step)
        for number, path in enumerate(pictures, 1):
            self._writer.add_image(f"attention/{number}", imread(path), step, dataformats="HWC")
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class _Csv:
    """The numbers in `csv/metrics.csv`, the settings beside it."""

    def __init__(self, config: Config, step: int):
        from pytorch_lightning.loggers import CSVLogger

        folder = config.training.folder
        rows = _rows_until(folder / "csv" / "metrics.csv", step)
        self._logger = CSVLogger(folder, name="csv", version="")
        self._logger.log_hyperparams(_hyperparameters(config))
        for row in rows:  # the logger starts with an empty file
            self._logger.log_metrics(row, int(row["step"]))
        self._logger.save()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._logger.log_metrics(dict(metrics), step)
        self._logger.save()

    def show(self, step: int, samples: Sequence[Texts], pictures: Sequence[Path]) -> None:
        pass  # no place for them in a table of numbers

    def close(self, *, failed: bool) -> None:
        self._logger.save()


def _rows_until(path: Path, step: int) -> list[dict[str, Any]]:
    """The rows of steps that are not computed again; a kill may have cut off the last line."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_text("utf-8").rpartition("\n")
    rows = csv.DictReader(whole.splitlines())
    kept = (row for row in rows if int(row["step"]) <= step)
    return [{name: value for name, value in row.items() if value} for row in kept]


class _WeightsAndBiases:
    """A run at Weights & Biases, its local files in `wandb/`."""

    def __init__(self, config: Config, step: int):
        import wandb
        from pytorch_lightning.loggers import WandbLogger

        folder = config.training.folder.absolute()
        name = _known_run(folder / "wandb", step) or secrets.token_hex(8)
        _remember_run(folder / "wandb", name)
        # Silent, for it would write across the bar; what it would say of use is said here.
        run = wandb.init(
            project=config.monitoring.project,
            name=folder.name,
            id=name,
            resume="allow",
            dir=str(folder),
            settings=wandb.Settings(console="off", silent=True),
        )
        run.define_metric("trainer/global_step")  # as Lightning calls the step
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self._run = run
        self._logger = WandbLogger(experiment=run)
        self._logger.log_hyperparams(_hyperparameters(config))
        if run.offline:
            command = shlex.join(["wandb", "sync", str(run.settings.sync_dir)])
            say(f"Weights & Biases is offline: `{command}` uploads the run")
        elif run.url:
            say(f"Weights & Biases shows the run at {run.url}")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._logger.log_metrics(metrics, step)

    def show(self, step: int, samples: Sequence[Texts], pictures: Sequence[Path]) -> None:
        if samples:
            rows = [list(sample) for sample in samples]
            self._logger.log_text("samples", columns=list(_COLUMNS), data=rows, step=step)
        if pictures:
            self._logger.log_image("attention", [str(path) for path in pictures], step=step)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _MLflow:
    """A run at the server of MLFLOW_TRACKING_URI or, where that isn't set, in `mlflow/`."""

    def __init__(self, config: Config, step: int):
        from pytorch_lightning.loggers import MLFlowLogger

        folder = config.training.folder.absolute()
        local = f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}"  # MLflow has given up plain files
        address = os.environ.get("MLFLOW_TRACKING_URI") or local
        (folder / "mlflow").mkdir(parents=True, exist_ok=True)
        known = _known_run(folder / "mlflow", step)
        self._logger = MLFlowLogger(
            experiment_name=config.monitoring.project,
            run_name=folder.name,
            tracking_uri=address,
            artifact_location=(folder / "mlflow").as_uri() if address == local else None,
            run_id=known,
        )
        self._client: Any = self._logger.experiment
        self._run = str(self._logger.run_id)
        _remember_run(folder / "mlflow", self._run)
        if known is None:
            self._logger.log_hyperparams(_hyperparameters(config))
        else:  # whose parameters can't be changed any more
            self._client.update_run(known, status="RUNNING")
        self._client.log_text(self._run, dump_config(config), "config.yaml")
        if address == local:
            command = shlex.join(["mlflow", "ui", "--backend-store-uri", local])
            say(f"MLflow shows the run with `{command}`")
        else:
            say(f"MLflow has the run as {self._run} in the experiment {config.monitoring.project}")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._logger.log_metrics(metrics, step)

    def show(self, step: int, samples: Sequence[Texts], pictures: Sequence[Path]) -> None:
        if samples:
            text = markdown_table(_COLUMNS, samples)
            self._client.log_text(self._run, text, f"samples/step-{step:08d}.md")
        for path in pictures:
            self._client.log_artifact(self._run, str(path), "attention")

    def close(self, *, failed: bool) -> None:
        self._logger.finalize("failed" if failed else "success")


LOGGERS: dict[LoggerName, Callable[[Config, int], Logger]] = {
    "tensorboard": _TensorBoard,
    "csv": _Csv,
    "wandb": _WeightsAndBiases,
    "mlflow": _MLflow,
}


def _known_run(folder: Path, step: int) -> str | None:
    """The name that a server has for this run; one that starts over is another run."""
    path = folder / "run-id"
    return path.read_text("utf-8").strip() if step > 0 and path.is_file() else None


def _remember_run(folder: Path, name: str) -> None:
    write_whole(folder / "run-id", f"{name}\n".encode())


def _hyperparameters(config: Config) -> dict[str, Any]:
    """Every setting under its name on the command line; lists and none as text."""
    return {
        name: value if isinstance(value, bool | int | float | str) else flow(value)
        for name, value in by_key(config.model_dump(mode="json")).items()
    }


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table whose cells show any text as it is."""
    lines = [columns, ["---"] * len(columns), *[[_cell(text) for text in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    # Entities, since what a backslash can protect differs from one Markdown to another.
    return re.sub(r"[\\`*_\[\]|~$]", lambda sign: f"&#{ord(sign[0])};", html.escape(visible(text)))
