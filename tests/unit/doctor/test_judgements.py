"""What is said of measured numbers: exchange, disk, memory and time."""

import os
from pathlib import Path

import pytest

from seq2seq.config import Config
from seq2seq.doctor.findings import Finding
from seq2seq.doctor.folders import check_data, check_disk, check_run
from seq2seq.doctor.network import judge_speed, not_met, unresolved
from seq2seq.doctor.rehearsal import Memory, Times, judge_memory, judge_times
from seq2seq.errors import LostProcessError, UserError
from seq2seq.parallel.group import Group
from seq2seq.parallel.place import Place
from seq2seq.training.lock import RunLock
from seq2seq.training.run_folder import Room
from tests.unit.doctor.test_machine import process, worst

TWO = Place(world_size=2, local_size=1, address="no.such.host.invalid", port=1)


def test_an_address_that_means_nothing() -> None:
    (found,) = unresolved(TWO)
    assert "no.such.host.invalid can't be resolved on" in found.found
    assert "MASTER_ADDR" in found.cure
    assert not unresolved(TWO._replace(address="127.0.0.1"))
    assert not unresolved(Place(address="no.such.host.invalid"))


def test_why_processes_have_not_met() -> None:
    late = not_met(TWO, LostProcessError("rank 1 of 2 has not come to the meeting"))
    assert late.found == "rank 1 of 2 has not come to the meeting"
    assert "start all 2 processes" in late.cure
    gone = not_met(TWO, LostProcessError("rank 1 of 2 (PID 7 on gpu02) is gone"))
    assert "why it ended" in gone.cure
    taken = not_met(TWO, UserError("h, port 1 is taken by another program: set MASTER_PORT"))
    assert taken.cure == "set MASTER_PORT"


def test_a_slow_network_between_nodes() -> None:
    far = [process(), process(4, "gpu02")]
    assert judge_speed(far, 64 * 2**20, 0.05, 1e-5).level == "fine"
    found = judge_speed(far, 64 * 2**20, 3.0, 1e-5)
    assert found.level == "remark"
    assert "22.4 MB/s through NCCL" in found.found  # 2 · 1/2 · 67.1 MB in 3 s
    assert "NCCL_SOCKET_IFNAME" in found.cure
    near = [process(device="cpu"), process(1, device="cpu")]
    assert judge_speed(near, 64 * 2**20, 3.0, 1e-5).level == "fine", "there is no network"


def memory(**others: object) -> Memory:
    return Memory("", 1000, 10**9, 10**9, 10**10)._replace(**others)  # pyright: ignore[reportArgumentType]


def test_memory_that_suffices_nearly_suffices_or_does_not() -> None:
    (found,) = judge_memory([memory()], [process()], 25000)
    assert found.level == "fine"
    assert "1,000 padded positions" in found.found
    nearly = worst(judge_memory([memory(peak=75 * 10**9)], [process()], 25000))
    assert nearly.level == "remark"
    outgrown = memory(trouble="CUDA out of memory.")
    two = [process(), process(1)]
    found = worst(judge_memory([memory(), outgrown], two, 25000))
    assert found.level == "failure"
    assert "cuda:1 on gpu01 (rank 1)" in found.found
    assert found.cure == "lower training.tokens_per_device (now 25000)"


@pytest.mark.parametrize(
    ("limit", "level", "said"),
    [
        (None, "fine", "2,000 steps to go take 33 min, without validations; no time limit"),
        (7200.0, "fine", "the job's time limit is 2 h"),
        # 700 s less 20 to start and 2 · 1 + 2 · 10 + 5 to stop leave 653 s for 2,000.
        (700.0, "remark", "in 4 starts of this job"),
        (47.5, "failure", "is too short: to start takes 20 s, a step 1 s, and to stop"),
        (-5.0, "failure", "limit of 0 s is too short"),
    ],
)
def test_time(limit: float | None, level: str, said: str) -> None:
    (found,) = judge_times(Times(start=20.0, step=1.0, saving=10.0), 2000, limit)
    assert found.level == level
    assert said in found.found
    assert bool(found.cure) == (level != "fine")


def config(folder: Path, **corpus: object) -> Config:
    given: dict[str, object] = {"data": {"folder": folder / "data", **corpus}}
    return Config.model_validate(given | {"training": {"folder": folder / "a" / "run"}})


def room(folder: Path, free: int) -> Room:
    return Room(folder, checkpoint=1000, model=300, needed=5000, there=0, free=free)


@pytest.mark.parametrize(
    ("free", "level", "cure"),
    [
        (1200, "failure", "make room, or choose another training.folder"),
        (4000, "remark", "make room, or lower training.checkpoint.keep_last or keep_best"),
        (10**9, "fine", ""),
    ],
)
def test_room_for_checkpoints(tmp_path: Path, free: int, level: str, cure: str) -> None:
    settings = config(tmp_path)
    findings, speed = check_disk(settings, Group(Place()), room(tmp_path, free), patience=1.0)
    assert speed is not None
    assert (findings[-1].level, findings[-1].cure) == (level, cure)
    assert not list(tmp_path.iterdir()), "nothing stays"


def test_a_run_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    findings, speed = check_disk(config(tmp_path), Group(Place()), room(tmp_path, 10**9), 1.0)
    assert speed is None
    found = worst(findings)
    assert found.level == "failure"
    assert f"{tmp_path / 'a' / 'run'} can't be written" in found.found
    assert os.listdir(tmp_path) == ["a"]


def test_a_run_folder_in_use(tmp_path: Path) -> None:
    settings = config(tmp_path)
    lock = RunLock(settings.training.folder)
    lock.acquire()
    findings, state = check_run(settings, Group(Place()), "")
    lock.release()
    found = worst(findings)
    assert found.level == "remark"
    assert f"is in use by process {os.getpid()} on " in found.found
    assert found.cure == "wait for it, or choose another training.folder"
    assert state.step == 0
    assert check_run(settings, Group(Place()), "") == ([], state)


class Others(Group):
    """A group in which another process always has another answer."""

    def __init__(self, *answers: object):
        super().__init__(Place(world_size=2, port=1))
        self._answers = list(answers)

    def gather(self, value: object) -> list[object]:
        return [value, self._answers.pop(0)]


def test_a_run_folder_that_another_node_does_not_see(tmp_path: Path) -> None:
    group = Others(("gpu02", "/local/run", False))
    findings, _ = check_disk(config(tmp_path), group, room(tmp_path, 10**9), 1.0)
    found = worst(findings)
    assert found.level == "failure"
    assert "/local/run on gpu02 (rank 1) doesn't show what is written to" in found.found
    assert "all nodes share" in found.cure
    assert not list(tmp_path.iterdir())


def data_finding(folder: Path, **corpus: object) -> Finding:
    findings, fingerprint = check_data(config(folder, **corpus), Group(Place()))
    assert not fingerprint
    return worst(findings)


def test_data_that_is_still_to_be_prepared(tmp_path: Path) -> None:
    found = data_finding(tmp_path)
    assert found.level == "remark"
    assert "isn't prepared: the first process will do it" in found.found
    hub = data_finding(tmp_path, corpus={"kind": "hub", "name": "someone/texts"})
    assert "from the Hub's someone/texts" in hub.found
    there = tmp_path / "a.en"
    there.write_text("a\n")
    files = {"train": [there, tmp_path / "a.de"], "validation": [there, tmp_path / "*.fr"]}
    gone = data_finding(tmp_path, corpus={"kind": "text", **files})
    assert gone.level == "failure"
    assert f"no file {tmp_path / 'a.de'}, {tmp_path / '*.fr'}, seen from" in gone.found


def test_a_folder_that_is_no_data_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    found = data_finding(tmp_path)
    assert found.level == "failure"
    assert "is no data folder" in found.found
    assert "choose another data.folder" in found.cure
