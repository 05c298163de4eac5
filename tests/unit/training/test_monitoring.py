"""What a run sends to the real loggers, read back from what they wrote."""

import csv
import importlib.util
import json
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imsave

from seq2seq.config import Config, LoggerName, MonitoringConfig, TrainingConfig
from seq2seq.errors import UserError
from seq2seq.training.loggers import markdown_table
from seq2seq.training.monitoring import Monitor, check_loggers
from seq2seq.training.validation import Sample

SAMPLES = [Sample("a | b", "<b>`c`</b>\n*d*", "e"), Sample("ü", "", "\\|")]
NASTY = [
    "a|b",
    "\\|",
    "`a|b`",
    "<script>x</script>",
    "&amp;",
    "*a* _b_ __c__",
    "[x](y)",
    "~~z~~",
    "$a$",
]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Keep from the network and from the settings of whoever runs the tests."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield
    if wandb := sys.modules.get("wandb"):
        wandb.teardown()  # it reads its environment once


def picture() -> bytes:
    content = BytesIO()
    imsave(content, [[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
    return content.getvalue()


def config(folder: Path, *loggers: LoggerName, **training: Any) -> Config:
    return Config(
        training=TrainingConfig(folder=folder, **training),
        monitoring=MonitoringConfig(loggers=loggers, project="tests"),
    )


def interrupted_run(folder: Path, *loggers: LoggerName) -> None:
    """Log until step 3, go on from step 1 with another number of steps until step 2."""
    monitor = Monitor(config(folder, *loggers), step=0)
    for step in (1, 2, 3):
        monitor.log(step, {"train/loss": 10.0 + step})
    monitor.log(1, {"validation/bleu": 30.0})
    monitor.show(1, SAMPLES, [picture()])
    monitor.close(failed=True)
    monitor = Monitor(config(folder, *loggers, steps=5000), step=1)
    monitor.log(2, {"train/loss": 22.0})
    monitor.show(2, SAMPLES, [picture()])
    monitor.close(failed=False)


# --- Each logger


def test_tensorboard_shows_everything_and_nothing_twice(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    interrupted_run(tmp_path, "tensorboard")
    events: Any = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(1, 11.0), (2, 22.0)]
    assert [(event.step, event.value) for event in events.Scalars("validation/bleu")] == [(1, 30.0)]
    tags = events.Tags()
    assert tags["scalars"] == ["train/loss", "validation/bleu"]
    assert [event.step for event in events.Tensors("samples/text_summary")] == [1, 2]
    (text,) = events.Tensors("samples/text_summary")[0].tensor_proto.string_val
    assert text.decode() == markdown_table(Sample._fields, SAMPLES)
    assert [event.step for event in events.Images("attention/1")] == [1, 2]
    assert (events.Images("attention/1")[0].width, events.Images("attention/1")[0].height) == (3, 2)
    settings = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"training.optimizer.betas" in settings
    assert b"[0.9, 0.98]" in settings


def test_the_csv_file_goes_on(tmp_path: Path) -> None:
    interrupted_run(tmp_path, "csv")
    path = tmp_path / "csv" / "metrics.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert rows == [
        {"step": "1", "train/loss": "11.0", "validation/bleu": ""},
        {"step": "1", "train/loss": "", "validation/bleu": "30.0"},
        {"step": "2", "train/loss": "22.0", "validation/bleu": ""},
    ]
    assert "training.steps: 5000" in (tmp_path / "csv" / "hparams.yaml").read_text("utf-8")


def test_a_line_that_a_kill_cut_off_is_no_row(tmp_path: Path) -> None:
    monitor = Monitor(config(tmp_path, "csv"), step=0)
    monitor.log(1, {"train/loss": 11.0})
    with (tmp_path / "csv" / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("12")  # of 1250
    monitor = Monitor(config(tmp_path, "csv"), step=1250)
    monitor.log(1300, {"train/loss": 13.0})
    text = (tmp_path / "csv" / "metrics.csv").read_text("utf-8")
    assert text.split() == ["step,train/loss", "1,11.0", "1300,13.0"]


def wandb_records(folder: Path) -> Iterator[Any]:
    """Read a run's log: blocks of 32 KiB with records of checksum, length, kind and data."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("*.wandb")
    content, place, data = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:  # too little room for a record
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        data += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record: Any = getattr(wandb_internal_pb2, "Record")()  # noqa: B009 - made at run time
            record.ParseFromString(data)
            yield record
            data = b""


def whole_wandb_records(folder: Path) -> list[Any]:
    """Read a run's log once its end is in it: a process of W&B's own writes it, in its own time."""
    deadline = time.monotonic() + 60
    while True:
        records = list(wandb_records(folder))
        if any(record.HasField("exit") for record in records):
            return records
        assert time.monotonic() < deadline, "the run's end is not in its log"
        time.sleep(0.1)


def test_wandb_has_one_run_with_everything(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    interrupted_run(tmp_path, "wandb")
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    name = (tmp_path / "wandb" / "run-id").read_text("utf-8").strip()
    # Of two starts within a second, the second folder has a number after the run's name.
    assert all(name in folder.name for folder in folders)
    records = [record for folder in folders for record in whole_wandb_records(folder)]
    runs = [record.run for record in records if record.HasField("run")]
    assert {(run.run_id, run.project, run.display_name) for run in runs} == {
        (name, "tests", tmp_path.name)
    }
    history = [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records
        if record.HasField("history")
    ]
    losses = [
        (entry["trainer/global_step"], entry["train/loss"])
        for entry in history
        if "train/loss" in entry
    ]
    assert losses == [(1, 11.0), (2, 12.0), (3, 13.0), (2, 22.0)]
    assert sum("samples" in str(entry) for entry in history) == 2
    assert sum("attention" in str(entry) for entry in history) == 2
    settings = {
        item.key: item.value_json
        for record in records
        if record.HasField("config")
        for item in record.config.update
    }
    assert settings["training.steps"] == "5000"
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [1, 0]
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"(Weights & Biases is offline: `wandb sync \S+` uploads the run\n)+", err)


def test_mlflow_has_one_run_with_everything(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    interrupted_run(tmp_path, "mlflow")
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"(MLflow shows the run with `mlflow ui --backend-store-uri \S+`\n)+", err)
    client: Any = MlflowClient(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tests")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == (tmp_path / "mlflow" / "run-id").read_text("utf-8").strip()
    assert (run.info.run_name, run.info.status) == (tmp_path.name, "FINISHED")
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((metric.step, metric.value) for metric in history) == [
        (1, 11.0),
        (2, 12.0),
        (2, 22.0),
        (3, 13.0),
    ]
    assert run.data.metrics["validation/bleu"] == 30.0
    assert run.data.params["training.steps"] == "2000"  # of the start; the newest are in the file
    files = tmp_path / "mlflow" / run.info.run_id / "artifacts"
    assert "steps: 5000" in (files / "config.yaml").read_text("utf-8")
    assert (files / "attention" / "step-00000002-1.png").read_bytes() == picture()
    samples = (files / "samples" / "step-00000001.md").read_text("utf-8")
    assert samples == markdown_table(Sample._fields, SAMPLES)
    assert list(tmp_path.parent.glob("mlruns")) == []


# --- What holds for all


@pytest.mark.parametrize("logger", ["tensorboard", "csv", "wandb", "mlflow"])
def test_pictures_are_saved_and_a_logger_needs_no_more_than_it_gets(
    logger: LoggerName, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if logger != "csv":
        pytest.importorskip(logger)
    monitor = Monitor(config(tmp_path, logger), step=500)
    monitor.show(501, [], [])
    monitor.show(502, SAMPLES, [])
    monitor.show(503, [], [picture(), picture()])
    monitor.log(503, {})
    monitor.close(failed=False)
    assert "failed" not in capsys.readouterr().err
    saved = sorted(path.name for path in (tmp_path / "attention").iterdir())
    assert saved == ["step-00000503-1.png", "step-00000503-2.png"]


def test_without_loggers_pictures_are_saved_all_the_same(tmp_path: Path) -> None:
    monitor = Monitor(config(tmp_path), step=0)
    monitor.log(1, {"train/loss": 1.0})
    monitor.show(1, SAMPLES, [picture()])
    monitor.close(failed=False)
    assert (tmp_path / "attention" / "step-00000001-1.png").read_bytes() == picture()
    assert [path.name for path in tmp_path.iterdir()] == ["attention"]


def test_a_run_that_starts_over_is_another_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    names: list[str] = []
    for step in (0, 0, 1):
        Monitor(config(tmp_path, "wandb"), step=step).close(failed=False)
        names.append((tmp_path / "wandb" / "run-id").read_text("utf-8"))
    assert names[0] != names[1] == names[2]


# --- Mistakes and failures


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    check_loggers(MonitoringConfig(loggers=()))
    check_loggers(MonitoringConfig(loggers=("csv",)))
    packages: dict[LoggerName, str] = {
        "tensorboard": "tensorboard",
        "wandb": "'seq2seq[wandb]'",
        "mlflow": "'seq2seq[mlflow]'",
    }
    for name, package in packages.items():
        with pytest.raises(UserError, match=re.escape(f"run `pip install {package}`")):
            check_loggers(MonitoringConfig(loggers=("csv", name)))


def test_a_folder_of_a_packages_name_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `wandb/` is one, which W&B makes in the working folder."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UserError, match="names wandb, which is not installed"):
        check_loggers(MonitoringConfig(loggers=("wandb",)))


def test_neither_the_check_nor_the_settings_load_what_is_heavy() -> None:
    script = (
        "import sys, seq2seq.config\n"
        "from seq2seq.training.monitoring import check_loggers\n"
        "check_loggers(seq2seq.config.MonitoringConfig(loggers=('tensorboard', 'csv')))\n"
        "heavy = {'torch', 'pytorch_lightning', 'tensorboard', 'wandb', 'mlflow', 'matplotlib'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or None)\n"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True)


def test_a_server_that_is_not_there_ends_the_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(UserError, match=r"the logger mlflow can't be started \(.*refused.*\)"):
        Monitor(config(tmp_path, "csv", "mlflow"), step=0)
    assert time.monotonic() - started < 20


def test_wandb_without_a_key_ends_the_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match=r"the logger wandb can't be started \(No API key"):
        Monitor(config(tmp_path, "wandb"), step=0)


def test_wandb_that_is_switched_off_is_left_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    interrupted_run(tmp_path, "wandb")
    assert capfd.readouterr() == ("", "")


def test_a_logger_that_fails_is_told_of_once_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = Monitor(config(tmp_path, "csv", "tensorboard"), step=0)
    monitor.log(1, {"train/loss": 1.0})
    (tmp_path / "csv").rename(tmp_path / "moved")
    for step in (2, 3):
        monitor.log(step, {"train/loss": 1.0})
    monitor.close(failed=False)
    told = capsys.readouterr().err
    assert re.fullmatch(r"the logger csv failed, the run goes on without it: .*csv.*\n", told)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: Any = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]


def test_tensorboard_on_a_full_disk_is_told_of_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    def write(self: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    def ignore(details: Any) -> None:
        pass  # the end of TensorBoard's thread

    monkeypatch.setattr(threading, "excepthook", ignore)
    monitor = Monitor(config(tmp_path, "tensorboard"), step=0)
    monkeypatch.setattr(RecordWriter, "write", write)
    for step in (1, 2, 3):
        monitor.log(step, {"train/loss": 1.0})
    monitor.close(failed=False)
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "the logger" in line]
    assert told.endswith(
        "tensorboard failed, the run goes on without it: [Errno 28] No space left on device"
    )


def test_pictures_that_can_not_be_saved_are_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "attention").write_text("a file")
    monitor = Monitor(config(tmp_path, "tensorboard"), step=0)
    for step in (1, 2):
        monitor.show(step, SAMPLES, [picture()])
    monitor.close(failed=False)
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("no more attention pictures, the run goes on without them:")


# --- Markdown


class Cells(HTMLParser):
    """The text of a table's cells, and the names of all tags."""

    def __init__(self) -> None:
        super().__init__()
        self.texts, self.tags = list[str](), set[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "td":
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts and data.strip():
            self.texts[-1] += data


@pytest.mark.filterwarnings("ignore:html5lib:DeprecationWarning")
def test_tensorboard_shows_any_text_as_it_is() -> None:
    from tensorboard.plugin_util import markdown_to_safe_html

    cells = Cells()
    cells.feed(markdown_to_safe_html(markdown_table(["x", "y"], [[text, "y"] for text in NASTY])))
    assert cells.texts == [cell for text in NASTY for cell in (text, "y")]
    assert cells.tags == {"table", "thead", "tbody", "tr", "th", "td"}


def test_what_breaks_a_line_does_not_break_the_table() -> None:
    table = markdown_table(["x"], [["a\nb\r\u2028c"]])
    assert len(table.splitlines()) == 3
