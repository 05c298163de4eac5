"""SLURM's variables: how a job is named, what disagrees, and asking for another start."""

import os
import stat
import time
from pathlib import Path

import pytest

from seq2seq.parallel.slurm import (
    contradictions,
    job_name,
    seconds_in_all,
    seconds_to_end,
    start_again,
    unseen_gpus,
)

STEP = {"SLURM_JOB_ID": "4713", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1"}


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "4713"}, "4713"),
        # The last task of an array has the array's own id.
        (
            {"SLURM_JOB_ID": "4714", "SLURM_ARRAY_JOB_ID": "4714", "SLURM_ARRAY_TASK_ID": "7"},
            "4714_7",
        ),
        (
            {"SLURM_JOB_ID": "4715", "SLURM_ARRAY_JOB_ID": "4714", "SLURM_ARRAY_TASK_ID": "0"},
            "4714_0",
        ),
    ],
)
def test_the_name_of_a_job(variables: dict[str, str], name: str) -> None:
    assert job_name(variables) == name


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        (STEP | {"SLURM_NTASKS_PER_NODE": "2"}, True),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS_PER_NODE": "2"}, True),
        (STEP | {"SLURM_NTASKS_PER_NODE": "1"}, False),
        (STEP, False),
        (STEP | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, False),
        ({"SLURM_NTASKS_PER_NODE": "2", "SLURM_NTASKS": "1"}, False),  # no step
    ],
)
def test_one_task_where_there_should_be_several(variables: dict[str, str], found: bool) -> None:
    mistakes = contradictions(None, 64, variables).mistakes
    assert contradictions(2, 64, variables).mistakes == mistakes
    assert contradictions(1, 64, variables).mistakes == [], "one is meant"
    assert bool(mistakes) == found
    for sentence in mistakes:
        assert "SLURM_NTASKS=1" in sentence
        assert "SLURM_NTASKS_PER_NODE=2" in sentence
        assert "#SBATCH --ntasks-per-node=2" in sentence


def remark(devices: int | None, usable: int, variables: dict[str, str]) -> str:
    return "; ".join(contradictions(devices, usable, variables).remarks)


def test_a_job_of_several_tasks_without_srun() -> None:
    script = {"SLURM_JOB_ID": "4713", "SLURM_NTASKS": "4"}
    assert "SLURM_NTASKS=4" in remark(None, 64, script)
    assert not remark(4, 64, script), "the processes are started by trainer.devices"
    assert not remark(None, 64, script | {"WORLD_SIZE": "4"}), "torchrun has started them"
    assert not remark(None, 64, script | {"SLURM_STEP_ID": "0"})
    assert not remark(None, 64, script | {"SLURM_NTASKS": "1"})
    assert not remark(None, 64, {})


def test_a_task_that_is_bound_to_fewer_cpus_than_it_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    given = STEP | {"SLURM_CPUS_PER_TASK": "8"}
    sentence = remark(1, 1, given)
    assert "SLURM_CPUS_PER_TASK=8" in sentence
    assert "1 of the node's 16" in sentence
    assert "SRUN_CPUS_PER_TASK is not set" in sentence
    assert "export SRUN_CPUS_PER_TASK" in sentence
    assert not remark(1, 8, given)
    assert not remark(1, 1, STEP)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert not remark(1, 2, given), "the node has no more"


def stand_in(folder: Path, script: str, name: str = "scontrol") -> dict[str, str]:
    """A stand-in that writes down what it was asked, and then does something."""
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "$*" >>{folder}/asked\n{script}\n', encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"SLURM_ARRAY_JOB_ID": "4714", "SLURM_ARRAY_TASK_ID": "7", "SLURM_JOB_ID": "4714"}


@pytest.mark.parametrize(
    ("script", "started", "said"),
    [
        ("exit 0", True, "SLURM starts job 4714_7 again"),
        ("exit 143", False, "does not start job 4714_7 again (status 143)"),
        ("echo Requested operation is presently disabled >&2; exit 1", False, "presently disabled"),
    ],
)
def test_asking_for_another_start(
    script: str,
    started: bool,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variables = stand_in(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert start_again(variables) == started
    assert (tmp_path / "asked").read_text() == "requeue 4714_7\n"
    assert said in capsys.readouterr().err


def test_without_scontrol_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not start_again({"SLURM_JOB_ID": "4713"})
    assert "scontrol is not on PATH here, so job 4713" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "left"), [("$(($(date +%s) + 1000))", 1000.0), ("NONE", None), ("", None)]
)
def test_an_older_slurm_is_asked_when_the_job_must_end(
    said: str, left: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = stand_in(tmp_path, f"echo $SQUEUE_STATES {said}", name="squeue")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    variables |= {"PATH": os.environ["PATH"], "SQUEUE_STATES": "PD"}
    found = seconds_to_end(variables)
    assert found == (left if left is None else pytest.approx(left, abs=30))
    assert "--job=4714_7" in (tmp_path / "asked").read_text()
    assert seconds_to_end({}) is None, "no job"


def test_the_time_of_a_job_of_a_newer_slurm() -> None:
    now = int(time.time())
    variables = {"SLURM_JOB_ID": "4713", "SLURM_JOB_END_TIME": f"{now + 1000}"}
    assert seconds_to_end(variables) == pytest.approx(1000, abs=30)
    assert seconds_in_all(variables) == pytest.approx(1000, abs=30)
    started = variables | {"SLURM_JOB_START_TIME": f"{now - 6200}"}
    assert seconds_in_all(started) == pytest.approx(7200, abs=1)


def test_gpus_of_the_job_that_torch_does_not_find() -> None:
    assert "SLURM_GPUS_ON_NODE=2, but torch finds no GPU" in unseen_gpus(
        {"SLURM_GPUS_ON_NODE": "2"}
    )
    assert not unseen_gpus({})
