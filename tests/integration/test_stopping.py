"""Training in processes of its own: signals stop it, another process can't disturb it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from seq2seq.training.checkpoint import checkpoint_path, checkpoints, read_checkpoint
from tests.integration.conftest import Command


def test_a_run_folder_in_use_is_refused(
    config_file: Path, command: Command, tmp_path: Path
) -> None:
    first = start(config_file, "training.steps=100000")
    try:
        wait_for_steps(tmp_path / "run", 1, first)
        ended = command("train", config_file, "--resume")
        assert ended.status == 2
        assert f"in use by process {first.pid}" in ended.messages
    finally:
        first.kill()
        first.wait()


def start(config: Path, *overrides: str, **environment: str) -> subprocess.Popen[str]:
    """Start training in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "seq2seq", "train", str(config), *overrides, "--resume"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def count_steps(run: Path) -> int:
    """Count the steps that a run has logged."""
    log = run / "metrics.jsonl"
    return log.read_text().count('"train"') if log.exists() else 0


def wait_for_steps(run: Path, number: int, process: "subprocess.Popen[str]") -> None:
    """Wait until a run has logged some steps."""
    deadline = time.monotonic() + 120
    while count_steps(run) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_signals_stop_a_run_that_then_ends_as_the_uninterrupted_one(
    tmp_path: Path, config_file: Path, command: Command
) -> None:
    """SIGTERM, then SIGUSR1, then Ctrl-C, each at a step that nobody chose."""
    steps = ["training.steps=400", "training.checkpoint.every=100", "validation.every=100"]
    run = tmp_path / "run"
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        logged = count_steps(run)
        process = start(config_file, *steps)
        wait_for_steps(run, logged + 3, process)
        process.send_signal(number)
        _, messages = process.communicate(timeout=60)
        assert process.returncode == 75, messages
        assert "--resume goes on" in messages
    done = start(config_file, *steps)
    assert done.wait(timeout=120) == 0
    full = tmp_path / "full"
    assert command("train", config_file, *steps, f"training.folder={full}").status == 0
    ends = [
        read_checkpoint(checkpoint_path(folder / "checkpoints", 400))["weights"]
        for folder in (run, full)
    ]
    assert all(torch.equal(weights, ends[1][name]) for name, weights in ends[0].items())


def test_ctrl_c_twice_stops_at_once(tmp_path: Path, config_file: Path) -> None:
    # A validation that takes long, so that the second comes before the first has had its effect.
    validation = tmp_path / "validation.en"
    validation.write_text(validation.read_text() * 1500)
    reference = tmp_path / "validation.de"
    reference.write_text(reference.read_text() * 1500)
    process = start(config_file, "search.tokens_per_batch=100000", "validation.search.beam=20")
    wait_for_steps(tmp_path / "run", 4, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert "stopped at once" in messages
    assert "Traceback" not in messages
    kept: list[dict[str, Any]] = [
        read_checkpoint(path) for path in checkpoints(tmp_path / "run" / "checkpoints")
    ]
    assert all(content["state"]["step"] <= 4 for content in kept)
