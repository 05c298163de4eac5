"""`seq2seq doctor` in real jobs: it finds what would make a training fail, and on which node."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.integration.conftest import make_config, prepared
from tests.integration.processes import ROOT
from tests.integration.slurm.cluster import Cluster, Job
from tests.integration.slurm.jobs import SEQ2SEQ

TWO_BY_TWO = ("--nodes=2", "--ntasks-per-node=2")
LONG = pytest.mark.long


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return prepared(make_config(tmp_path))


def examine(
    cluster: Cluster,
    options: Sequence[str],
    *words: object,
    before: str = "",
    srun: str = "",
    **variables: str,
) -> Job:
    """Run the doctor as a step of a job, after a line of the job's script; wait for the end."""
    line = " ".join(
        map(str, ("srun --kill-on-bad-exit=1", srun, SEQ2SEQ, "doctor", "--timeout=60", *words))
    )
    env = {"OMP_NUM_THREADS": "1"} | variables
    job = cluster.submit(*options, f"--wrap={before}\n{line}", env=env, cwd=ROOT)
    job.wait("COMPLETED", "FAILED", seconds=180)
    return job


def status(job: Job) -> int:
    return int(job.facts()["ExitCode"].partition(":")[0])


def test_all_is_well_and_each_node_is_told(cluster: Cluster, config: Path) -> None:
    job = examine(cluster, TWO_BY_TWO, config)
    log = job.log()
    assert status(job) == 0, log
    assert "The job would run." in log
    for node, ranks in (("node1", "0-1"), ("node2", "2-3")):
        assert any(line.split()[:2] == [node, ranks] for line in log.splitlines()), log
    assert "4 processes met at node1" in log
    assert "gloo talks through eth0" in log


@LONG
@pytest.mark.parametrize(
    ("options", "words", "code", "sentences"),
    [
        (
            TWO_BY_TWO,
            ["trainer.devices=1"],
            2,
            ["`trainer.devices` is 1", "SLURM_STEP_TASKS_PER_NODE=2", "--ntasks-per-node=1"],
        ),
        (TWO_BY_TWO, ["trainer.accelerator=cuda"], 1, ["'cuda', but torch", "(rank 2 on node2)"]),
        (
            (*TWO_BY_TWO, "--gpus-per-task=1"),
            ["trainer.accelerator=auto"],
            0,
            ["each process on node1 sees one GPU of 2", "--gpus-per-node in place"],
        ),
        (
            ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=2"),
            ["trainer.accelerator=auto"],
            0,
            ["1 of 2 GPUs of node2 have no process", "--ntasks-per-node=2"],
        ),
    ],
)
def test_what_a_job_asks_for(
    options: Sequence[str],
    words: list[str],
    code: int,
    sentences: list[str],
    cluster: Cluster,
    config: Path,
) -> None:
    job = examine(cluster, options, config, *words)
    log = job.log()
    assert status(job) in {code, 143 if code else 0}, log  # srun ends the other tasks by SIGTERM
    for sentence in sentences:
        assert sentence in log, log


@LONG
def test_a_first_node_that_cant_be_found(cluster: Cluster, config: Path) -> None:
    job = examine(cluster, TWO_BY_TWO, config, MASTER_ADDR="nowhere.invalid")
    assert status(job) != 0
    assert "the first node's name nowhere.invalid can't be resolved on node" in job.log()
    assert "set MASTER_ADDR" in job.log()


@LONG
def test_a_port_that_is_taken(cluster: Cluster, config: Path) -> None:
    code = "import socket, time; s = socket.create_server(('', 29500)); time.sleep(60)"
    taken = f'python3 -c "{code}" & sleep 1'
    job = examine(cluster, TWO_BY_TWO, config, before=taken, MASTER_PORT="29500")
    assert status(job) != 0
    assert "29500" in job.log()
    assert "MASTER_PORT" in job.log()


@LONG
@pytest.mark.parametrize(
    ("hidden", "sentence"),
    [
        ("disk", "there is no folder {data} on node2 (rank 2)"),
        ("disk/data", "seen from node2 (rank 2)"),
    ],
)
def test_a_data_folder_that_one_node_lacks(
    hidden: str, sentence: str, fresh_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    data = tmp_path / "disk" / "data"
    (tmp_path / "disk").mkdir()
    config = prepared(make_config(tmp_path, data={"folder": data}))
    cluster = fresh_cluster()
    cluster.run("mount", "-t", "tmpfs", "tmpfs", tmp_path / hidden, on="node2")
    job = examine(cluster, TWO_BY_TWO, config.rename(tmp_path / "config.yaml"))
    assert status(job) != 0
    assert sentence.format(data=data) in job.log()
    assert "disk that all nodes share" in job.log()


@LONG
def test_a_run_folder_that_the_nodes_do_not_share(
    fresh_cluster: Callable[..., Cluster], config: Path
) -> None:
    cluster = fresh_cluster()
    (config.parent / "run").mkdir()
    cluster.run("mount", "-t", "tmpfs", "tmpfs", config.parent / "run", on="node2")
    job = examine(cluster, TWO_BY_TWO, config)
    assert status(job) != 0
    assert "on node2 (rank 2) doesn't show what is written to" in job.log()
    assert "put training.folder on a disk that all nodes share" in job.log()


@LONG
def test_tasks_that_are_bound_to_fewer_cpus_than_they_were_given(
    fresh_cluster: Callable[..., Cluster], config: Path
) -> None:
    number = os.cpu_count() or 1
    cluster = fresh_cluster(cpus=number, gpus=0, settings={"TaskPlugin": "task/affinity"})
    options = ("--nodes=1", "--ntasks=1", f"--cpus-per-task={number}")
    job = examine(cluster, options, config, srun="--cpu-bind=cores")
    assert status(job) == 2, job.log()
    assert f"SLURM_CPUS_PER_TASK={number}, but this task is bound to 1" in job.log()
    good = "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"
    assert good in job.log()
    job = examine(cluster, options, config, before=good, srun="--cpu-bind=cores")
    assert status(job) == 0, job.log()


@LONG
def test_a_time_limit_that_takes_several_starts(cluster: Cluster, config: Path) -> None:
    before = "export SLURM_JOB_END_TIME=$(($(date +%s) + 120))"
    job = examine(cluster, TWO_BY_TWO, config, "training.steps=1000000", before=before)
    assert status(job) == 0, job.log()
    assert "starts of this job, whose time limit is" in job.log()


@LONG
def test_machines_whose_own_name_is_a_loopback_address(
    fresh_cluster: Callable[..., Cluster], config: Path
) -> None:
    """As Debian writes it into /etc/hosts: gloo would offer that address to the other nodes."""
    cluster = fresh_cluster()
    for node in cluster.nodes:
        hosts = cluster.hosts(node)
        others = [line for line in hosts.read_text().splitlines() if node not in line.split()]
        hosts.write_text("\n".join([*others, f"127.0.1.1 {node}"]) + "\n")
    job = examine(cluster, TWO_BY_TWO, config)
    assert status(job) == 0, job.log()
    assert "gloo talks through eth0" in job.log()
