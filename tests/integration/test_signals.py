"""Signals to several real processes, at every moment of a run: all end, and lose nothing."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.training.checkpoint import checkpoint_path, checkpoints, read_checkpoint
from tests.integration.conftest import make_config, prepared
from tests.integration.processes import ROOT, Process, free_port, ranks, run_all, started

STEPS = 20
LONG = pytest.mark.long
ENDLESS = ("training.steps=1000000", "validation.every=1000000", "training.log_every=1")
DWELLER = "tests.integration.dweller"
MOMENTS = {
    "preparing": "seq2seq.training.run:prepare",
    "before the first step": "seq2seq.training.parts:new_network",
    "a step": "seq2seq.training.module:token_loss",
    "validation": "seq2seq.training.validation:translate_all",
    "the validation's loss": "seq2seq.training.validation:Validator._loss",
    "saving": "seq2seq.training.run_folder:write_checkpoint",
    "saving the model": "seq2seq.training.run_folder:save_model",
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps with dropout, as a file, with the data prepared."""
    folder = tmp_path_factory.mktemp("signals")
    training: dict[str, object] = {"steps": STEPS, "checkpoint": {"every": 7}}
    return prepared(make_config(folder, training=training, validation={"every": 10}))


def end_of(folder: Path) -> dict[str, Any]:
    """The checkpoint of the last step."""
    return read_checkpoint(checkpoint_path(folder / "checkpoints", STEPS))


@pytest.fixture(scope="module")
def uninterrupted(config: Path) -> dict[str, Any]:
    """The end of the run on two processes that nobody interrupted."""
    folder = config.parent / "uninterrupted"
    ends = run_all(ranks(2), "train", config, f"training.folder={folder}")
    assert [end.status for end in ends] == [0, 0], ends
    return end_of(folder)


def assert_nothing_is_lost(config: Path, folder: Path, expected: dict[str, Any]) -> None:
    """Check that what is saved is whole, and that the run goes on to the same end, to the bit."""
    for path in checkpoints(folder / "checkpoints"):
        read_checkpoint(path)
    ends = run_all(ranks(2), "train", config, "--resume", f"training.folder={folder}")
    assert [end.status for end in ends] == [0, 0], ends
    found = end_of(folder)
    for name, weights in expected["weights"].items():
        assert torch.equal(found["weights"][name], weights), name
    assert found["state"] | {"seconds": 0} == expected["state"] | {"seconds": 0}


@pytest.mark.parametrize(
    ("number", "reached"),
    [
        (signal.SIGTERM, "rank 1"),
        (signal.SIGUSR1, "all"),
        pytest.param(signal.SIGTERM, "all", marks=LONG),
        pytest.param(signal.SIGUSR1, "rank 1", marks=LONG),
        pytest.param(signal.SIGTERM, "rank 0", marks=LONG),
        pytest.param(signal.SIGUSR1, "rank 0", marks=LONG),
    ],
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_stops_all_and_nothing_is_lost(
    config: Path,
    uninterrupted: dict[str, Any],
    moment: str,
    reached: str,
    number: signal.Signals,
    tmp_path: Path,
) -> None:
    folder, mark = tmp_path / "run", tmp_path / "mark"
    command = (mark, MOMENTS[moment], 60.0, "train", config, f"training.folder={folder}")
    processes = [Process(*command, module=DWELLER, place=place) for place in ranks(2)]
    processes[0].wait_until(Path(f"{mark}.0").exists)
    if moment == "preparing":
        processes[1].wait_until(lambda: "waiting for rank 0" in processes[1].messages())
    for rank in {"rank 0": [0], "rank 1": [1], "all": [1, 0]}[reached]:
        processes[rank].send(number)
        time.sleep(0.3)
    Path(f"{mark}.go").touch()
    ends = [process.finish(60.0) for process in processes]
    assert [end.status for end in ends] == [0, 0], ends
    assert number.name in ends[0].messages
    assert "--resume goes on" in ends[0].messages
    assert_nothing_is_lost(config, folder, uninterrupted)


def test_a_run_that_is_stopped_again_and_again_ends_as_the_uninterrupted_one(
    config: Path, tmp_path: Path
) -> None:
    """One process: SIGTERM, then SIGUSR1, then Ctrl-C, each at a step that nobody chose."""
    steps = ("training.steps=300", "training.checkpoint.every=100", "validation.every=100")
    folder = tmp_path / "run"

    def count_steps() -> int:
        log = folder / "metrics.jsonl"
        return log.read_text().count('"train"') if log.exists() else 0

    command = ("train", config, "--resume", *steps, f"training.folder={folder}")
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        logged = count_steps()
        process = Process(*command)
        process.wait_until(lambda: count_steps() >= logged + 3)  # noqa: B023  it ends before
        process.send(number)
        end = process.finish(60.0)
        assert end.status == 75, end
        assert "--resume goes on" in end.messages
    assert Process(*command).finish().status == 0
    full = tmp_path / "full"
    assert Process("train", config, *steps, f"training.folder={full}").finish().status == 0
    weights, expected = (
        read_checkpoint(checkpoint_path(path / "checkpoints", 300))["weights"]
        for path in (folder, full)
    )
    torch.testing.assert_close(weights, expected, rtol=0.0, atol=0.0)


def test_a_run_folder_in_use_is_refused(config: Path, tmp_path: Path) -> None:
    command = ("train", config, "--resume", f"training.folder={tmp_path / 'run'}", *ENDLESS)
    first = Process(*command)
    try:
        first.wait_until((tmp_path / "run" / "metrics.jsonl").exists)
        second = Process(*command).finish()
        assert second.status == 2
        assert f"in use by process {first.pid} on " in second.messages
        assert first.poll() is None
    finally:
        first.kill()


class Terminal:
    """A command at a real terminal: Ctrl-C reaches all the processes that belong to it."""

    def __init__(self, *words: object):
        self._screen, keyboard = pty.openpty()
        self._text = b""
        self._process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", *map(str, words)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "dumb"},
            cwd=ROOT,
            stdin=keyboard,
            stdout=keyboard,
            stderr=keyboard,
        )
        os.close(keyboard)
        started.append(self)

    def kill(self) -> None:
        """End all that belong to the terminal."""
        for process in Path("/proc").glob("[0-9]*"):  # Linux tells a process's session here
            with suppress(OSError):
                session = int((process / "stat").read_text().rpartition(")")[2].split()[3])
                if session == self._process.pid:
                    os.kill(int(process.name), signal.SIGKILL)

    def type(self, keys: bytes) -> None:
        os.write(self._screen, keys)

    def read(self, seconds: float) -> str:
        """What has been written to the screen, after so many seconds or when something new is."""
        with suppress(OSError):  # the last process has closed its end
            if select.select([self._screen], [], [], seconds)[0]:
                self._text += os.read(self._screen, 2**16)
        return self._text.decode(errors="replace")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < deadline, self.read(0)
            assert self._process.poll() is None, self.read(0)
            self.read(0.05)

    def finish(self) -> tuple[int, str]:
        """The status and all the text, which come within a minute."""
        deadline = time.monotonic() + 60
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self.read(0)
            self.read(0.05)
        text = self.read(0.1)
        os.close(self._screen)
        return self._process.returncode, text


def press_ctrl_c(terminal: Terminal, run: Path, *, mark: Path, times: int) -> tuple[int, str]:
    """Press Ctrl-C once the run has logged; again while the process dwells that makes the mark."""
    terminal.wait_until((run / "metrics.jsonl").exists)
    terminal.type(b"\x03")
    if times == 2:
        terminal.wait_until(Path(f"{mark}.0").exists)
        time.sleep(1.2)
        terminal.type(b"\x03")
    return terminal.finish()


def dwelling(mark: Path, times: int) -> tuple[object, ...]:
    """The program; where Ctrl-C comes twice, one that dwells where the first has its effect."""
    return (DWELLER, mark, MOMENTS["saving"], 5.0) if times == 2 else ("seq2seq",)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_at_a_terminal_with_two_local_processes(
    config: Path, times: int, tmp_path: Path
) -> None:
    folder, mark = tmp_path / "run", tmp_path / "mark"
    settings = (f"training.folder={folder}", "trainer.devices=2", *ENDLESS)
    terminal = Terminal(*dwelling(mark, times), "train", config, *settings)
    status, text = press_ctrl_c(terminal, folder, mark=mark, times=times)
    assert status == {1: 75, 2: 130}[times], text
    assert {1: "(Ctrl-C); --resume goes on", 2: "stopped at once (Ctrl-C)"}[times] in text
    assert "Traceback" not in text
    for path in checkpoints(folder / "checkpoints"):
        read_checkpoint(path)
    assert len(checkpoints(folder / "checkpoints")) >= (times == 1)


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=LONG)])
def test_ctrl_c_at_a_terminal_under_torchrun(config: Path, times: int, tmp_path: Path) -> None:
    folder, mark = tmp_path / "run", tmp_path / "mark"
    program = dwelling(mark, times)
    launcher = ("--nproc-per-node=2", f"--master-port={free_port()}", "-m", *program)
    settings = (f"training.folder={folder}", *ENDLESS)
    terminal = Terminal("torch.distributed.run", *launcher, "train", config, *settings)
    _, text = press_ctrl_c(terminal, folder, mark=mark, times=times)
    if times == 2:  # torchrun gives up, but its processes have been asked once and end in order
        deadline = time.monotonic() + 60
        while (folder / "lock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert read_checkpoint(checkpoints(folder / "checkpoints")[-1])
        return
    newest = read_checkpoint(checkpoints(folder / "checkpoints")[-1])["state"]["step"]
    assert f"stopped at step {newest:,} (Ctrl-C); --resume goes on from there" in text


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=LONG)])
def test_a_signal_that_comes_before_a_local_process_has_its_handlers_is_held_for_it(
    config: Path, number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = (f"training.folder={folder}", "trainer.devices=2", *ENDLESS)
    process = Process("train", config, *settings)
    # Linux tells the children of a process here.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    process.wait_until(lambda: bool(children.read_text()))
    os.kill(int(children.read_text()), number)
    end = process.finish(60.0)
    assert end.status == 75, end
    assert f"stopped at once ({number.name})" in end.messages


@LONG
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_waits_in_vain_for_another_one_can_be_stopped(
    config: Path, rank: int, tmp_path: Path
) -> None:
    """The other one was killed by the same signal, before it had its handlers."""
    folder = tmp_path / "run"
    process = Process("train", config, f"training.folder={folder}", place=ranks(2)[rank])
    if rank == 0:
        process.wait_until(lambda: "waiting for rank 1 of 2" in process.messages())
    else:
        time.sleep(5.0)
    process.send(signal.SIGTERM)
    end = process.finish(60.0)
    assert end.status == 0, end
    assert "Traceback" not in end.messages


@LONG
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("whole", [False, True])
def test_a_signal_to_a_worker_of_torchrun_before_it_has_handlers_ends_all(
    config: Path, number: signal.Signals, whole: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    launcher = ("--nproc-per-node=2", f"--master-port={free_port()}", "-m", "seq2seq")
    settings = (f"training.folder={folder}", *ENDLESS)
    process = Process(
        *launcher, "train", config, *settings, module="torch.distributed.run", fresh=True
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    process.wait_until(lambda: len(children.read_text().split()) >= 2)
    workers = [int(word) for word in children.read_text().split()]
    for worker in workers if whole else workers[-1:]:
        os.kill(worker, number)
    process.finish(60.0)
    assert not checkpoints(folder / "checkpoints")


@LONG
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_process_that_is_signalled_at_any_moment_of_its_start_ends(
    config: Path, number: signal.Signals, tmp_path: Path
) -> None:
    for tenths in range(0, 80, 8):
        folder = tmp_path / f"run{tenths}"
        process = Process("train", config, f"training.folder={folder}", *ENDLESS, fresh=True)
        time.sleep(tenths / 10)
        process.send(number)
        assert process.finish(60.0).status in (75, -number)
        for path in checkpoints(folder / "checkpoints"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("number", "scontrol", "asked"),
    [
        (signal.SIGUSR1, True, "requeue 4714_7\n"),
        (signal.SIGTERM, True, ""),  # a preemption or a cancellation: the job script knows which
        (signal.SIGUSR1, False, ""),
    ],
)
def test_a_job_of_an_array_is_put_back_into_the_queue(
    number: signal.Signals, scontrol: bool, asked: str, config: Path, tmp_path: Path
) -> None:
    asks = tmp_path / "asked"
    asks.touch()
    if scontrol:
        script = tmp_path / "scontrol"
        script.write_text(f'#!/bin/sh\necho "$*" >>{asks}\n', encoding="utf-8")
        script.chmod(0o755)
    job = {"SLURM_ARRAY_JOB_ID": 4714, "SLURM_ARRAY_TASK_ID": 7, "SLURM_JOB_ID": 4714}
    step = {"SLURM_STEP_ID": 0, "SLURM_PROCID": 0, "SLURM_NTASKS": 1, "PATH": tmp_path}
    folder = tmp_path / "run"
    words = ("train", config, *ENDLESS, f"training.folder={folder}")
    process = Process(*words, place=job | step)
    metrics = folder / "metrics.jsonl"
    process.wait_until(lambda: metrics.exists() and bool(metrics.read_text()))
    process.send(number)
    end = process.finish()
    assert end.status == 75
    assert asks.read_text() == asked
    assert (folder / "requeue-4714_7").exists() == (not asked)
    assert ("scontrol is not on PATH" in end.messages) == (not scontrol)
    assert "Traceback" not in end.messages
