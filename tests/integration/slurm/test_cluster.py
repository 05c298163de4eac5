"""What the tests in this folder rely on: the cluster itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.slurm import conftest, machine
from tests.integration.slurm.cluster import Cluster, Job
from tests.integration.slurm.machine import wait_until

ROOT = Path(__file__).parents[3]
LISTENER = """
import socket, sys
with socket.create_server((sys.argv[1], 4711)) as server:
    open(sys.argv[2], "w").close()
    while True:
        server.accept()[0].close()
"""
CALLER = "import socket, sys; socket.create_connection((sys.argv[1], 4711), 3)"
HOLDER = """
import sys, time
from pathlib import Path
from tests.integration.slurm.cluster import Cluster
with Cluster(Path(sys.argv[1])) as cluster:
    cluster.submit("--wrap=sleep 600").wait("RUNNING")
    print("started", flush=True)
    time.sleep(600)
"""


def traces(cluster: Cluster) -> list[str]:
    """The processes and mounts of a cluster on this machine, in whatever namespace, its cgroups."""
    found = [str(cluster.cgroup)] if cluster.cgroup is not None and cluster.cgroup.exists() else []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        for name in ("cmdline", "environ", "mountinfo"):
            try:
                if str(cluster.folder) in (process / name).read_text(errors="replace"):
                    found.append(str(process / name))
            except OSError:  # it has just ended
                continue
    return found


def sleep_on_a_node(cluster: Cluster) -> Job:
    """Submit a job that sleeps, and tells how many times it was started before."""
    job = cluster.submit("--nodes=1", "--wrap=echo start ${SLURM_RESTART_COUNT:-0}; sleep 600")
    job.wait_until(lambda: "start 0" in job.log())
    return job


def test_tasks_run_on_all_nodes_and_are_told_their_gpus(cluster: Cluster):
    told = "$(hostname) $SLURM_PROCID $SLURM_GPUS_ON_NODE $CUDA_VISIBLE_DEVICES"
    shape = ("--nodes=2", "--ntasks-per-node=2", "--gpus-per-node=2")
    job = cluster.submit(*shape, f"--wrap=srun sh -c 'echo {told}'")
    job.wait("COMPLETED")
    expected = ["node1 0 2 0,1", "node1 1 2 0,1", "node2 2 2 0,1", "node2 3 2 0,1"]
    assert sorted(job.log().splitlines()) == expected


def test_commands_and_jobs_find_the_programs_of_the_tests_and_none_of_their_variables(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RANK", "0")
    name = Path(sys.executable).name
    assert cluster.run("which", name).strip() == sys.executable
    assert "RANK" not in cluster.run("env")
    job = cluster.submit(f"--wrap=which {name}; env; echo own $OWN", env={"OWN": "value"})
    job.wait("COMPLETED")
    assert job.log().splitlines()[0] == sys.executable
    assert "own value" in job.log()
    assert "RANK=" not in job.log()


def test_a_node_is_reached_by_its_name_and_not_by_loopback(cluster: Cluster):
    def call(address: str) -> str:
        return cluster.run(sys.executable, "-c", CALLER, address, on="node2")

    for address in ("node1", "127.0.0.1"):
        mark = cluster.home / f"listens-at-{address}"
        line = f"exec {sys.executable} -c '{LISTENER}' {address} {mark} >/dev/null 2>&1 &"
        cluster.run("sh", "-c", line, on="node1")
        wait_until(mark.exists, 10)
    call("node1")
    with pytest.raises(AssertionError, match="refused"):
        call("127.0.0.1")


def test_a_node_has_its_own_names_shared_memory_and_processes(cluster: Cluster):
    hosts = cluster.hosts("node2")
    before = hosts.read_text()
    hosts.write_text(f"{before}127.0.1.1 other\n")
    cluster.run("touch", "/dev/shm/here", on="node2")
    assert "127.0.1.1" in cluster.run("getent", "hosts", "other", on="node2")
    assert "here" in cluster.run("ls", "/dev/shm", on="node2")
    assert cluster.run("getent", "hosts", "other", on="node1", check=False) == ""
    assert "here" not in cluster.run("ls", "/dev/shm", on="node1")
    assert "slurmctld" not in cluster.run("ps", "-e", on="node1")
    hosts.write_text(before)


def test_a_requeued_job_starts_again(cluster: Cluster):
    job = sleep_on_a_node(cluster)
    job.requeue()
    job.hurry()
    job.wait_until(lambda: "start 1" in job.log())
    assert job.facts()["Restarts"] == "1"


def test_a_job_that_ends_otherwise_than_expected_fails_the_test_with_its_log(cluster: Cluster):
    job = cluster.submit("--wrap=echo no such file; exit 3")
    with pytest.raises(AssertionError) as failure:
        job.wait("COMPLETED")
    for part in ("FAILED", "ExitCode 3:0", "no such file", "slurmctld.log"):
        assert part in str(failure.value)


def test_a_signal_reaches_the_steps_and_not_the_script(cluster: Cluster):
    job = cluster.submit("--wrap=trap 'echo script' USR1; srun sleep 600; echo step $?; sleep 1")
    job.wait_until(lambda: f"StepId={job.id}.0" in cluster.run("scontrol", "show", "step"))
    job.signal(signal.SIGUSR1)
    job.wait("COMPLETED")
    assert f"step {128 + signal.SIGUSR1}" in job.log()
    assert "script" not in job.log().splitlines()


def test_a_job_of_the_urgent_partition_displaces_one_of_main(
    fresh_cluster: Callable[..., Cluster],
):
    cluster = fresh_cluster(nodes=1, gpus=0, grace=0, tracking="linuxproc")
    job = cluster.submit("--exclusive", "--wrap=sleep 600")
    job.wait("RUNNING")
    urgent = cluster.submit("--partition=urgent", "--exclusive", "--wrap=sleep 600")
    urgent.wait("RUNNING")
    job.wait("PENDING")
    urgent.cancel()
    urgent.wait("CANCELLED")
    job.hurry()
    job.wait("RUNNING")


def test_a_job_outlives_the_daemons(fresh_cluster: Callable[..., Cluster]):
    cluster = fresh_cluster(nodes=1)
    job = sleep_on_a_node(cluster)
    for name in ("node1", "head"):
        cluster.kill_daemon(name)
        assert "sleep" in cluster.run("ps", "-e", on="node1")
        cluster.start_daemon(name)
    wait_until(lambda: cluster.node_state("node1") in ("mixed", "allocated"), 30, cluster.account)
    assert job.state == "RUNNING"
    assert job.facts()["Restarts"] == "0"


@pytest.mark.long
def test_the_job_of_a_node_that_crashes_is_requeued(fresh_cluster: Callable[..., Cluster]):
    cluster = fresh_cluster()
    job = sleep_on_a_node(cluster)
    node = job.node()
    cluster.crash(node)
    job.wait_until(lambda: cluster.node_state(node) == "down*")
    job.hurry()
    job.wait_until(lambda: "start 1" in job.log())
    assert job.node() != node
    cluster.boot(node)
    on_both = cluster.submit("--nodes=2", "--wrap=srun hostname")
    on_both.wait("COMPLETED")
    assert sorted(on_both.log().split()) == ["node1", "node2"]


def test_nothing_is_left_when_it_stops(fresh_cluster: Callable[..., Cluster]):
    cluster = fresh_cluster()
    job = cluster.submit("--nodes=2", "--wrap=setsid sleep 600 & srun sleep 600")
    job.wait("RUNNING")
    cluster.crash("node2")
    assert traces(cluster)
    cluster.stop()
    assert traces(cluster) == []
    cluster.stop()


def test_it_ends_with_the_tests_even_if_they_are_killed(
    tmp_path: Path, fresh_cluster: Callable[..., Cluster]
):
    folder = fresh_cluster(nodes=1).folder / "other"  # whose path is short
    folder.mkdir()
    other = Cluster(folder)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "started\n"
        holder.kill()
    other.stop()  # cgroups stay until somebody removes them
    wait_until(lambda: traces(other) == [], 10, lambda: str(traces(other)))


def test_what_is_missing_skips_the_tests_or_fails_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "SYSTEM_PATH", str(tmp_path))
    monkeypatch.setattr(conftest, "missing", machine.what_is_missing)
    monkeypatch.delenv("SEQ2SEQ_SLURM_TESTS", raising=False)
    packages = "iproute2 munge procps slurm-client slurmctld slurmd util-linux"
    with pytest.raises(pytest.skip.Exception, match=packages), conftest.started():
        pass
    monkeypatch.setenv("SEQ2SEQ_SLURM_TESTS", "required")
    with pytest.raises(pytest.fail.Exception, match=packages), conftest.started():
        pass
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(pytest.fail.Exception, match="only root"), conftest.started():
        pass
