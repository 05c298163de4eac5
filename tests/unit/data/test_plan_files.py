"""Plans that a node's processes share: real processes, and one that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest

from seq2seq.data.plan import Lengths, Plan, plan_epoch
from seq2seq.data.plan_files import PlanFiles

LENGTHS = Lengths(*numpy.random.default_rng(1).integers(1, 30, (2, 2000)))
# Gives the plan of an epoch, and tells who made it and what is in it.
SHARER = """
import sys, time
from pathlib import Path
import numpy
from seq2seq.data.plan import Lengths, plan_epoch
from seq2seq.data.plan_files import PlanFiles

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
lengths = Lengths(*numpy.random.default_rng(1).integers(1, 30, (2, 2000)))

def make(place):
    print("making", flush=True)
    plan_epoch(lengths, seed=1, epoch=0, tokens_per_step=300, folder=place)
    time.sleep(seconds)

plan = PlanFiles(folder, "node", lease=2.0).give("this", 0, make)
print(sum(plan[number].tolist()[0] for number in range(len(plan))))
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SHARER, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def make(place: Path) -> Plan:
    return plan_epoch(LENGTHS, seed=1, epoch=0, tokens_per_step=300, folder=place)


def refuse(place: Path) -> None:
    raise AssertionError(f"{place} is there already")


def first_examples(plan: Plan) -> int:
    return sum(plan[number].tolist()[0] for number in range(len(plan)))


EXPECTED = first_examples(plan_epoch(LENGTHS, seed=1, epoch=0, tokens_per_step=300))


def test_one_of_several_processes_makes_the_plan_and_all_have_it(tmp_path: Path):
    processes = [start(tmp_path, seconds=0.5) for _ in range(3)]
    told = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sum("making" in words for words in told) == 1
    assert {words[-1] for words in told} == {str(EXPECTED)}
    assert [path.name[-2:] for path in (tmp_path / "node").iterdir()] == ["-0"]


def test_what_a_killed_process_was_making_is_not_taken_for_a_plan(tmp_path: Path):
    killed = start(tmp_path, seconds=600)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "making\n"
    partial = tmp_path / "node"
    while not list(partial.glob(".*.partial-*/batches.npy")):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert first_examples(PlanFiles(tmp_path, "node", lease=2.0).give("this", 0, make)) == EXPECTED
    assert [path.name[-2:] for path in (tmp_path / "node").iterdir()] == ["-0"]


def test_plans_are_told_apart_and_old_epochs_go(tmp_path: Path):
    files = PlanFiles(tmp_path, "node")

    def epochs() -> list[str]:
        return sorted(path.name[16:] for path in (tmp_path / "node").iterdir())

    plans = [files.give("this", epoch, make) for epoch in (0, 1)]
    files.give("that", 5, make)
    assert epochs() == ["-0", "-1", "-5"]
    plans.append(files.give("this", 2, make))
    assert epochs() == ["-0", "-2", "-5"]  # of the first epoch the length is needed again
    assert [first_examples(plan) for plan in plans] == [EXPECTED] * 3  # also of what is gone
    for epoch in (0, 2):
        files.give("this", epoch, refuse)
    with pytest.raises(AssertionError, match="is there already"):
        PlanFiles(tmp_path, "another").give("this", 0, refuse)


def test_what_nobody_has_opened_for_long_goes(tmp_path: Path):
    files = PlanFiles(tmp_path, "node")
    files.give("this", 0, make)
    (old,) = (tmp_path / "node").iterdir()
    month = time.time() - 31 * 24 * 3600
    os.utime(old, (month, month))
    files.give("this", 0, refuse)  # which opens it
    files.give("that", 0, make)
    assert old.exists()
    os.utime(old, (month, month))
    files.give("that", 1, make)
    assert not old.exists()


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan = PlanFiles(Path("/proc/data.plans"), "node").give("this", 0, make)
    assert first_examples(plan) == EXPECTED
    assert "/proc/data.plans can't be written: batch plans are kept in" in capsys.readouterr().err
    (place,) = tmp_path.glob(f"seq2seq-{os.getuid()}/data.plans/node/*-0")
    assert (place / "order.npy").exists()
