"""`seq2seq doctor` with real processes: what it finds, its status, and that nothing of it stays."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from seq2seq.config_file import load_config
from seq2seq.doctor.machine import look
from seq2seq.doctor.rehearsal import Rehearsal
from seq2seq.parallel.group import Group
from seq2seq.parallel.place import Place, usable_cpus
from seq2seq.training import capacity
from seq2seq.training.state import RunState
from tests.integration.conftest import make_config, prepared
from tests.integration.processes import Finished, Process, ranks, run_all, slurm_tasks

Tree = dict[Path, tuple[int, int]]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config as a file, with the data prepared."""
    return prepared(make_config(tmp_path_factory.mktemp("doctor")))


def tree(folder: Path) -> Tree:
    """All that is in a folder, with sizes and times of the files."""
    stats = {path: path.stat() for path in folder.rglob("*")}
    return {
        path: (stat.st_size, stat.st_mtime_ns) if path.is_file() else (0, 0)
        for path, stat in stats.items()
    }


def levels(end: Finished) -> dict[str, str]:
    """What was looked at, with its level; and all that isn't fine has a cure."""
    rows = [re.split(r"  +", line) for line in end.output.splitlines()]
    found = [row for row in rows if row[0] in ("fine", "remark", "failure")]
    for level, what, _ in found:
        assert level == "fine" or f"\n- {what} ({level}): " in end.output
    return {what: level for level, what, _ in found}


def failed(ends: Sequence[Finished], what: str) -> str:
    """The first process's report, in which one thing is a failure and the others are silent."""
    assert [end.status for end in ends] == [1] * len(ends), ends
    found = levels(ends[0])
    assert [name for name, level in found.items() if level == "failure"] == [what], ends
    assert ends[0].output.endswith("The job would fail: 1 finding above.\n")
    assert not any(end.output for end in ends[1:])
    assert not any("Traceback" in end.messages for end in ends)
    return ends[0].output


EVERYTHING = ("versions", "devices", "CPUs", "data", "run folder", "disk space", "memory", "time")


def test_a_job_that_would_run_alone(config: Path) -> None:
    before = tree(config.parent)
    end = Process("doctor", config).finish()
    assert end.status == 0, end
    assert levels(end) == dict.fromkeys(EVERYTHING, "fine")
    assert end.output.startswith("node ")
    assert socket.gethostname() in end.output.splitlines()[1]
    assert end.output.endswith("\nThe job would run.\n")
    assert end.messages == ""
    assert tree(config.parent) == before


def test_a_job_that_would_run_on_two_processes_of_its_own(config: Path) -> None:
    before = tree(config.parent)
    end = Process("doctor", config, "trainer.devices=2").finish()
    assert end.status == 0, end
    assert (
        levels(end).items() >= dict.fromkeys((*EVERYTHING, "meeting", "exchange"), "fine").items()
    )
    assert end.output.count("The job would run.") == 1
    assert "0-1" in end.output.splitlines()[1]
    assert tree(config.parent) == before


def test_without_a_config_machine_and_network_alone() -> None:
    ends = run_all(slurm_tasks(2), "doctor")
    assert [end.status for end in ends] == [0, 0], ends
    found = levels(ends[0])
    assert found.keys() == {"versions", "devices", "CPUs", "meeting", "exchange"}
    assert ends[1].output == ends[1].messages == ""


def test_a_port_that_is_taken(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        place = ranks(2)[0] | {"MASTER_PORT": taken.getsockname()[1]}
        end = Process("doctor", config, place=place).finish()
    assert "is taken by another program" in failed([end], "meeting")
    assert "set MASTER_PORT to a port that is free." in end.output


def test_a_first_node_whose_name_means_nothing(config: Path) -> None:
    places = [place | {"MASTER_ADDR": "no.such.host.invalid"} for place in ranks(2)]
    ends = run_all(places, "doctor", config)
    assert "name no.such.host.invalid can't be resolved on" in failed(ends, "meeting")
    assert "rank 1 of 2: the first node's name" in ends[1].messages
    assert "set MASTER_ADDR" in ends[1].messages


def test_a_process_that_does_not_come(config: Path) -> None:
    began = time.monotonic()
    end = Process("doctor", config, "--timeout=1", place=slurm_tasks(3)[0]).finish()
    assert time.monotonic() - began < 30
    assert "rank 1, 2 of 3 has not come to the meeting" in failed([end], "meeting")
    assert "start all 3 processes at once" in end.output


def test_data_that_differs_or_is_missing(config: Path, tmp_path: Path) -> None:
    for number in (0, 1):
        shutil.copytree(config.parent / "data", tmp_path / f"data{number}")
    content = bytearray((tmp_path / "data1" / "train.arrow").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "data1" / "train.arrow").write_bytes(content)

    def look() -> list[Finished]:
        processes = [
            Process("doctor", config, f"data.folder={tmp_path}/data{rank}", place=place)
            for rank, place in enumerate(ranks(2))
        ]
        return [process.finish() for process in processes]

    report = failed(look(), "data")
    assert f"rank 1 on {socket.gethostname()} and rank 0" in report
    assert "train.arrow in the data folder" in report
    shutil.rmtree(tmp_path / "data1")
    report = failed(look(), "data")
    assert f"there is no folder {tmp_path}/data1 on {socket.gethostname()} (rank 1)" in report
    assert "on a disk that all nodes share" in report


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk")
def test_a_run_folder_that_cannot_be_written(config: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", tmp_path], check=True)
    try:
        folder = tmp_path / "runs" / "one"
        end = Process("doctor", config, f"training.folder={folder}").finish()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert f"{folder} can't be written: Read-only file system" in failed([end], "run folder")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(config: Path) -> None:
    end = Process("doctor", config, "trainer.accelerator=cuda").finish()
    assert "`trainer.accelerator` is 'cuda', but torch" in failed([end], "devices")
    assert levels(end)["data"] == "fine", "the rest is looked at all the same"


@pytest.mark.parametrize(
    ("words", "place", "said"),
    [
        (
            ["trainer.devices=3"],
            slurm_tasks(2)[0],
            ["`trainer.devices` is 3", "SLURM_STEP_TASKS_PER_NODE=2", "#SBATCH"],
        ),
        (
            ["trainer.devices=3"],
            slurm_tasks(1)[0] | {"SLURM_NTASKS_PER_NODE": 2},
            ["SLURM_NTASKS=1", "SLURM_NTASKS_PER_NODE=2", "#SBATCH --ntasks-per-node=2"],
        ),
        ([], {"SLURM_JOB_ID": 1, "SLURM_NTASKS": 4}, ["SLURM_NTASKS=4", "SLURM_STEP_ID", "srun"]),
    ],
)
def test_contradictions_end_with_2(
    config: Path, words: list[str], place: dict[str, object], said: list[str]
) -> None:
    end = Process("doctor", config, *words, place=place).finish()
    assert (end.status, end.output) == (2, ""), end
    assert all(words in end.messages for words in said), end.messages
    assert "Traceback" not in end.messages


@pytest.mark.skipif(len(usable_cpus()) < 2, reason="there is one CPU")
def test_a_contradiction_of_another_task_is_told_by_the_first(config: Path) -> None:
    places = [
        place | {"SLURM_CPUS_PER_TASK": rank + 1} for rank, place in enumerate(slurm_tasks(2))
    ]
    bound = Process("doctor", config, place=places[1], fresh=True)
    os.sched_setaffinity(bound.pid, {min(os.sched_getaffinity(0))})
    ends = [Process("doctor", config, place=places[0]).finish(), bound.finish()]
    assert [(end.status, end.output) for end in ends] == [(2, "")] * 2, ends
    assert f"rank 1 on {socket.gethostname()}: SLURM_CPUS_PER_TASK=2, but" in ends[0].messages
    assert ends[1].messages == ""


def test_a_config_with_mistakes_ends_with_2(config: Path) -> None:
    end = Process("doctor", config, "trainer.device=3").finish()
    assert end.status == 2
    assert "trainer.device" in end.messages


def test_a_time_limit_that_is_too_short(config: Path) -> None:
    limit = {"SLURM_JOB_END_TIME": int(time.time()) + 3}
    ends = run_all([place | limit for place in slurm_tasks(2)], "doctor", config)
    assert "the job's time limit of " in failed(ends, "time")
    assert "raise `#SBATCH --time`." in ends[0].output


def test_a_run_that_is_there(config: Path, tmp_path: Path) -> None:
    folder = f"training.folder={tmp_path / 'run'}"
    assert Process("train", config, folder, "training.steps=3").finish().status == 0
    before = tree(tmp_path)
    end = Process("doctor", config, folder).finish()
    assert (end.status, levels(end)["run"]) == (0, "remark"), end
    assert "goes on from step 3 of 14" in end.output
    assert "so the 11 steps to go take" in end.output
    end = Process("doctor", config, folder, "training.steps=3").finish()
    assert (end.status, levels(end)["run"]) == (0, "remark"), end
    assert "has ended at step 3" in end.output
    end = Process("doctor", config, folder, "seed=7").finish()
    assert "can't go on with other settings (seed: 1 → 7)" in failed([end], "run")
    assert tree(tmp_path) == before


def test_the_longest_batch_is_computed_and_one_that_does_not_fit_is_told(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, cpu = load_config(config), torch.device("cpu")
    tried = Rehearsal(settings, Group(Place()), cpu, None)
    processes = [look(Place(), settings.trainer)]
    (found,) = tried.compute_largest(RunState(), processes)
    assert found.level == "fine"
    positions = re.search(r"the longest batch \((\d+) padded positions\) takes ", found.found)
    assert positions
    assert 500 < int(positions[1]) <= 600, "training.tokens_per_device is 600"

    def outgrow(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(capacity, "batch_loss", outgrow)
    (found,) = tried.compute_largest(RunState(), processes)
    assert found.level == "failure"
    assert "is too small for the longest batch: CUDA out of memory." in found.found
    assert found.cure == "lower training.tokens_per_device (now 600)"


def test_auto_is_told(config: Path) -> None:
    end = Process("doctor", config, "training.tokens_per_device=auto").finish()
    assert end.status == 0, end
    assert "training.tokens_per_device: auto is 25,000 here, since cpu doesn't tell" in end.output


def test_ctrl_c_ends_it_and_nothing_stays(config: Path, tmp_path: Path) -> None:
    processes = [
        Process("doctor", config, f"training.folder={tmp_path}/a/run{rank}", place=place)
        for rank, place in enumerate(slurm_tasks(2))
    ]
    # The second one looks in vain, for half a minute, for what the first one has written.
    processes[0].wait_until(lambda: bool(list(tmp_path.glob("a/run0/.*"))))
    for process in reversed(processes):
        process.send(signal.SIGINT)
    ends = [process.finish(30.0) for process in processes]
    assert [end.status for end in ends] == [130, 130], ends
    assert [end.messages for end in ends] == ["stopped\n", ""]
    assert not list(tmp_path.iterdir())
