"""The lock of a run folder: two real processes, one dead, one silent, one that lost it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seq2seq.errors import ModelError, UserError
from seq2seq.training.lock import RunLock

ROOT = Path(__file__).parents[3]
LEASE = 2.0
HOLD = f"""
import sys
from pathlib import Path
from seq2seq.errors import UserError
from seq2seq.training.lock import RunLock
lock = RunLock(Path(sys.argv[1]), lease={LEASE})
lock.acquire()
print("held", flush=True)
for line in sys.stdin:
    try:
        lock.check()
        print("still", flush=True)
    except UserError as error:
        print(error, flush=True)
lock.release()
print("released", flush=True)
"""


class Holder:
    """A process that holds the lock of a folder."""

    def __init__(self, folder: Path, **variables: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            env=os.environ | variables,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == "held"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def check(self) -> str:
        """Let it check whether the folder is still its own."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def end(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.line()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    """A process that holds the folder, as start 0 of SLURM's job 4711."""
    held = Holder(tmp_path, SLURM_JOB_ID="4711")
    yield held
    held.process.kill()
    held.process.wait()


def as_if_elsewhere(folder: Path) -> None:
    """Let the owner seem to be on another machine, where its process can't be looked at."""
    owner = json.loads((folder / "owner.json").read_text())
    (folder / "owner.json").write_text(json.dumps(owner | {"host": "elsewhere"}))
    lock = (folder / "lock").read_text()
    with (folder / "lock").open("r+") as file:  # the same file, which its owner keeps alive
        file.write(lock.replace(f"host={socket.gethostname()}", "host=elsewhere"))
        file.truncate()


def test_a_folder_in_use_is_refused_by_name(tmp_path: Path, holder: Holder) -> None:
    with pytest.raises(ModelError) as refused:
        RunLock(tmp_path, lease=LEASE).acquire()
    name = f"process {holder.process.pid} on {socket.gethostname()}, job 4711"
    assert f"in use by {name}: wait for it, or choose another training.folder" in str(refused.value)
    assert holder.check() == "still"


def test_an_owner_elsewhere_that_lives_is_watched_and_left_alone(
    tmp_path: Path, holder: Holder
) -> None:
    as_if_elsewhere(tmp_path)
    with pytest.raises(ModelError, match="in use by process"):
        RunLock(tmp_path, lease=LEASE).acquire()
    assert holder.check() == "still"


def test_a_killed_owner_is_followed(tmp_path: Path, holder: Holder) -> None:
    holder.process.kill()
    holder.process.wait()
    lock = RunLock(tmp_path, lease=LEASE)
    lock.acquire()
    lock.check()
    lock.release()


def test_an_owner_elsewhere_that_is_silent_loses_the_folder_and_learns_it(
    tmp_path: Path, holder: Holder, capsys: pytest.CaptureFixture[str]
) -> None:
    as_if_elsewhere(tmp_path)
    holder.process.send_signal(signal.SIGSTOP)
    lock = RunLock(tmp_path, lease=LEASE)
    lock.acquire()
    assert "belongs to" in capsys.readouterr().err
    holder.process.send_signal(signal.SIGCONT)
    told = holder.check()
    assert f"was taken over by process {os.getpid()} on {socket.gethostname()}" in told
    assert "saves nothing" in told
    assert holder.end() == "released"
    lock.check()  # the one that has lost it doesn't take it away
    lock.release()
    assert not list(tmp_path.iterdir())


def elsewhere_in_a_container(folder: Path) -> "subprocess.Popen[str]":
    """Start an owner with this host's name whose process can't be looked at from here."""
    owner = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", HOLD, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    return owner


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a space for processes")
def test_a_dead_owner_in_a_container_with_the_same_host_name_is_followed(tmp_path: Path) -> None:
    owner = elsewhere_in_a_container(tmp_path)
    with pytest.raises(ModelError, match="in use by process"):
        RunLock(tmp_path, lease=LEASE).acquire()
    owner.kill()
    owner.wait()
    lock = RunLock(tmp_path, lease=LEASE)
    lock.acquire()
    lock.check()
    lock.release()


def test_an_owner_whose_signs_of_life_have_ended_takes_the_folder_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was away for longer than the lease is valid, and is back."""
    lock = RunLock(tmp_path, lease=LEASE)
    lock.acquire()
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise OSError(5, "Input/output error")

        patch.setattr("filelock._soft._lease.touch", fail)
        time.sleep(1.5 * LEASE)
    before = (tmp_path / "lock").read_text()
    lock.check()
    assert (tmp_path / "lock").read_text() != before
    beat = (tmp_path / "lock").stat().st_mtime_ns
    time.sleep(LEASE)
    assert (tmp_path / "lock").stat().st_mtime_ns > beat, "it gives signs of life again"
    lock.check()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_an_empty_lock_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    with pytest.raises(ModelError, match=r"in use by another process.*if there is none, delete"):
        RunLock(tmp_path, lease=LEASE).acquire()


def test_a_job_that_slurm_started_again_takes_its_own_folder_over(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    lock = RunLock(tmp_path, lease=LEASE)
    lock.acquire()
    lock.check()
    assert "was taken over" in holder.check()
    lock.release()


@pytest.mark.parametrize(("job", "restarts"), [("4711", "0"), ("4712", "1")])
def test_another_start_of_the_same_number_or_another_job_does_not(
    tmp_path: Path, holder: Holder, monkeypatch: pytest.MonkeyPatch, job: str, restarts: str
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    with pytest.raises(ModelError, match="in use by process"):
        RunLock(tmp_path, lease=LEASE).acquire()
    assert holder.check() == "still"


def test_a_lock_that_somebody_removed_is_noticed(tmp_path: Path, holder: Holder) -> None:
    (tmp_path / "lock").unlink()
    assert "has lost its lock: this process stops, and saves nothing" in holder.check()


def test_a_clock_that_jumps_does_not_matter(tmp_path: Path, holder: Holder) -> None:
    """The other machine's clock may be a day off: what counts is that its sign changes."""
    as_if_elsewhere(tmp_path)
    yesterday = time.time() - 86400
    os.utime(tmp_path / "lock", (yesterday, yesterday))
    with pytest.raises(ModelError, match="in use by process"):
        RunLock(tmp_path, lease=LEASE).acquire()
    assert holder.check() == "still"


def test_an_orderly_end_leaves_nothing(tmp_path: Path, holder: Holder) -> None:
    assert holder.end() == "released"
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run can't be written: Not a directory"):
        RunLock(tmp_path / "file" / "run").acquire()


def test_whoever_asks_is_told_who_is_at_work(tmp_path: Path, holder: Holder) -> None:
    found = RunLock(tmp_path).holder()
    assert found is not None
    assert f"process {holder.process.pid} on {socket.gethostname()}, job 4711" == str(found)
    as_if_elsewhere(tmp_path)
    assert str(RunLock(tmp_path).holder()).startswith(f"process {holder.process.pid} on elsewhere")
    assert holder.check() == "still"


def test_a_dead_owner_and_an_empty_folder_have_nobody_at_work(
    tmp_path: Path, holder: Holder
) -> None:
    holder.process.kill()
    holder.process.wait()
    before = sorted(tmp_path.iterdir())
    assert RunLock(tmp_path).holder() is None
    assert RunLock(tmp_path / "none").holder() is None
    assert sorted(tmp_path.iterdir()) == before
