"""Which process this is, from the variables that launchers set."""

import os
from typing import Any

import pytest

from seq2seq.errors import UserError
from seq2seq.parallel.place import Place, find_place, usable_threads

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "7",
}
SRUN = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}


def test_a_process_of_its_own() -> None:
    place = find_place(None, {})
    assert place == Place()
    assert place.is_first
    assert not place.is_restarted


def test_processes_that_are_still_to_be_started() -> None:
    place = find_place(3, {})
    assert (place.rank, place.world_size, place.local_size, place.launcher) == (0, 3, 3, "")
    assert place.address == "127.0.0.1"
    assert 1024 <= place.port < 65536
    assert find_place(3, {"MASTER_PORT": "29501"}).port == 29501


def test_torchrun() -> None:
    place = find_place(None, TORCHRUN)
    assert place == Place(5, 8, 1, 4, "node1", 29500, "torchrun")
    assert place.is_restarted
    assert not place.is_first
    assert str(place) == "rank 5 of 8"
    assert find_place(4, TORCHRUN) == place


def test_srun() -> None:
    place = find_place(2, SRUN)
    assert place[:5] == (3, 4, 1, 2, "gpu03")
    assert place.launcher == "srun"
    assert place.port == find_place(None, SRUN | {"SLURM_PROCID": "0"}).port
    assert place.port != find_place(None, SRUN | {"SLURM_STEP_ID": "3"}).port
    asked = find_place(None, SRUN | {"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "29500"})
    assert (asked.address, asked.port) == ("10.0.0.7", 29500)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[3,7-9]", "gpu3"),
        ("rack2-gpu[009-012].site,login", "rack2-gpu009.site"),
        ("a1,b[2-3]", "a1"),
    ],
)
def test_the_first_host_of_a_list(hosts: str, first: str) -> None:
    assert find_place(None, SRUN | {"SLURM_STEP_NODELIST": hosts}).address == first


@pytest.mark.parametrize(
    ("written", "node", "size"), [("3,1", "0", 3), ("2(x2),1", "1", 2), ("2(x2),1", "2", 1)]
)
def test_tasks_on_this_node(written: str, node: str, size: int) -> None:
    step = {"SLURM_STEP_TASKS_PER_NODE": written, "SLURM_NODEID": node}
    assert find_place(None, SRUN | step).local_size == size


def test_a_step_on_part_of_a_job_counts_its_own_tasks() -> None:
    job = {"SLURM_NTASKS": "16", "SLURM_NNODES": "8", "SLURM_NODELIST": "other[1-8]"}
    assert find_place(None, SRUN | job) == find_place(None, SRUN)


def test_a_batch_script_or_a_shell_of_one_task_is_no_step_of_several() -> None:
    script = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    assert find_place(None, script) == Place()
    shell = SRUN | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    assert find_place(None, shell) == Place()
    assert find_place(2, shell).world_size == 2


def without(variables: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in variables.items() if key != name}


@pytest.mark.parametrize(
    ("devices", "variables", "sentence"),
    [
        (3, TORCHRUN, "`trainer.devices` is 3, but torchrun has started 4 of 8 processes"),
        (3, SRUN, "`trainer.devices` is 3, but srun has started 2 of 4 processes"),
        (None, TORCHRUN | {"RANK": "8"}, "contradict each other: RANK=8, WORLD_SIZE=8"),
        (None, TORCHRUN | {"RANK": "x"}, "variable RANK must be a whole number, but is 'x'"),
        (2, {"MASTER_PORT": "-1"}, "variable MASTER_PORT must be a whole number"),
        (None, without(SRUN, "SLURM_STEP_NODELIST"), "SLURM_STEP_NODELIST is missing"),
    ],
)
def test_what_contradicts_itself(
    devices: int | None, variables: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        find_place(devices, variables)


def test_threads_are_those_that_this_process_may_use(monkeypatch: Any) -> None:
    def bound(process: int) -> set[int]:
        return {3, 4, 5, 8, 9}

    monkeypatch.setattr(os, "sched_getaffinity", bound, raising=False)
    assert usable_threads(Place(), {}) == 5
    two, three = (Place(world_size=n, local_size=n, launcher="torchrun") for n in (2, 3))
    assert usable_threads(two, {}) == 2
    assert usable_threads(three, {}) == 1
    task = Place(world_size=2, local_size=2, launcher="srun")
    assert usable_threads(task, {"SLURM_CPUS_PER_TASK": "4"}) == 4
    assert usable_threads(task, {"SLURM_CPUS_PER_TASK": "64"}) == 5
