"""Training jobs on two nodes: whatever happens to a job, it goes on and ends as if it hadn't."""

import random
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from seq2seq.training.checkpoint import checkpoints
from tests.integration.conftest import make_config, prepared
from tests.integration.slurm.cluster import Cluster, Job
from tests.integration.slurm.jobs import TWO_BY_TWO, Training, last_start, submit
from tests.integration.slurm.machine import wait_until

MORE = 12  # steps after the last stop


@pytest.fixture
def training(tmp_path: Path) -> Training:
    config = make_config(
        tmp_path,
        training={"checkpoint": {"every": 5, "keep_last": 2}},
        validation={"every": 10},
        trainer={"precision": "float64"},
    )
    prepared(config)
    return Training(config)


def wait_for_step(training: Training, job: Job, step: int, seconds: float = 120.0) -> None:
    job.wait_until(lambda: training.step() >= step, seconds)


def let_it_end(training: Training, job: Job) -> None:
    """After a requeue: have the run end some steps later, and see that it went on."""
    steps = (training.stops(job)[-1] if training.stops(job) else training.step()) + MORE
    training.lasts(steps)
    job.hurry()
    job.wait("COMPLETED", seconds=180)
    assert "the run is done" in last_start(job)


def test_a_job_that_is_out_of_time_goes_back_into_the_queue_and_ends_as_if_it_were_not(
    cluster: Cluster, training: Training
) -> None:
    # The signal of so short a job may come before there is anybody to hear it.
    job = training.submit(cluster, "--time=1", "--signal=USR1@0")
    job.wait_until(lambda: "SLURM starts job" in job.log(), 120)
    assert "(the time limit)" in job.log()
    let_it_end(training, job)
    assert job.facts()["Restarts"] == "1"
    assert f"going on from step {training.stops(job)[-1]:,}" in last_start(job)
    training.assert_equals_an_uninterrupted_run()


def test_a_job_that_is_requeued_by_hand_goes_on(cluster: Cluster, training: Training) -> None:
    job = training.submit(cluster)
    wait_for_step(training, job, 6)
    job.requeue()
    job.wait("PENDING")
    let_it_end(training, job)
    assert job.log().count("start 1 on") == job.log().count("start 2 on") == 1, "it was appended to"
    training.assert_equals_an_uninterrupted_run()


def displace(cluster: Cluster) -> Job:
    """Submit a job that takes both nodes from those of lower priority."""
    return cluster.submit("--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 3")


@pytest.mark.long
@pytest.mark.parametrize("warning", ["", "preempt_send_user_signal"])
def test_a_job_that_is_displaced_by_an_urgent_one_goes_on_after_it(
    warning: str, fresh_cluster: Callable[..., Cluster], training: Training
) -> None:
    settings = {"SlurmctldParameters": warning} if warning else {}
    cluster = fresh_cluster(settings=settings)
    job = training.submit(cluster)
    wait_for_step(training, job, 6)
    displace(cluster).wait("COMPLETED", seconds=60)
    let_it_end(training, job)
    assert training.stops(job), "it was saved before it had to go"
    training.assert_equals_an_uninterrupted_run()


@pytest.mark.long
def test_a_job_that_is_displaced_before_its_first_step_is_not_lost(
    fresh_cluster: Callable[..., Cluster], training: Training
) -> None:
    cluster = fresh_cluster()
    job = training.submit(cluster)
    job.wait_until(lambda: "start 1 on" in job.log())
    urgent = displace(cluster)
    urgent.wait("COMPLETED", seconds=90)
    job.hurry()
    wait_for_step(training, job, 3)
    job.cancel()
    job.wait("CANCELLED")


@pytest.mark.long
def test_a_job_whose_node_is_lost_goes_on_from_its_last_checkpoint(
    fresh_cluster: Callable[..., Cluster], training: Training
) -> None:
    cluster = fresh_cluster(nodes=3)
    job = training.submit(cluster)
    wait_for_step(training, job, 12)
    lost = job.node()
    cluster.crash(lost)
    job.wait("PENDING", seconds=120)
    let_it_end(training, job)
    assert lost not in last_start(job).splitlines()[0]
    assert "going on from step" in last_start(job)
    training.assert_equals_an_uninterrupted_run()


@pytest.mark.long
def test_an_old_start_whose_node_only_seemed_dead_writes_nothing_any_more(
    fresh_cluster: Callable[..., Cluster], training: Training
) -> None:
    cluster = fresh_cluster()
    job = training.submit(cluster, "--nodes=1")
    wait_for_step(training, job, 6)
    old = job.node()
    cluster.kill_daemon(old)  # nobody ends its tasks, which train on
    job.wait("PENDING", seconds=120)
    job.hurry()
    job.wait_until(lambda: "start 2 on" in job.log())
    assert cluster.run("pgrep", "-f", "slurm.pacer", on=old), "nobody has ended them"
    job.wait_until(lambda: "was there before SLURM started the job again" in job.log(), 120)
    wait_until(lambda: not cluster.run("pgrep", "-f", "slurm.pacer", on=old, check=False), 30)
    job.signal(signal.SIGUSR1)
    job.wait("PENDING", seconds=60)
    let_it_end(training, job)
    assert job.facts()["NodeList"] != old
    training.assert_equals_an_uninterrupted_run(processes=2)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_twelve_signals_over_one_job(cluster: Cluster, training: Training) -> None:
    numbers = random.Random(7)
    job = training.submit(cluster, pace=0.05)
    for start in range(1, 13):
        wait_for_step(training, job, training.step() + numbers.randint(1, 30))
        job.signal(numbers.choice([signal.SIGUSR1, signal.SIGTERM]))
        job.wait("PENDING")
        job.hurry()
        job.wait_until(lambda number=start + 1: f"start {number} on" in job.log())
    wait_for_step(training, job, training.stops(job)[-1] + 1)
    job.signal(signal.SIGUSR1)
    let_it_end(training, job)
    training.assert_equals_an_uninterrupted_run()


@pytest.mark.long
def test_a_cancelled_job_stays_cancelled_and_is_saved(cluster: Cluster, training: Training) -> None:
    job = training.submit(cluster)
    wait_for_step(training, job, 4)
    job.cancel()
    job.wait("CANCELLED")  # and srun is gone, which would hand on what they say
    folder = training.folder / "checkpoints"
    wait_until(lambda: folder.exists() and bool(checkpoints(folder)), 10)
    assert job.facts()["Restarts"] == "0"


@pytest.mark.long
def test_torchrun_in_a_job_is_saved_and_goes_on(cluster: Cluster, training: Training) -> None:
    words = (*TWO_BY_TWO, training.path)
    job = submit(cluster, "train", *words, SEQ2SEQ="seq2seq", SEQ2SEQ_LAUNCHER="torchrun")
    wait_for_step(training, job, 6)
    job.signal(signal.SIGUSR1)
    job.wait("PENDING", seconds=60)
    let_it_end(training, job)
    training.assert_equals_an_uninterrupted_run()


@pytest.mark.long
def test_a_second_job_on_one_run_folder_is_refused_and_named(
    fresh_cluster: Callable[..., Cluster], training: Training
) -> None:
    cluster = fresh_cluster(nodes=4)
    job = training.submit(cluster)
    wait_for_step(training, job, 2)
    second = training.submit(cluster)
    second.wait("FAILED", seconds=120)
    assert "is in use by process" in second.log()
    assert f"job {job.id}" in second.log()
    assert job.state == "RUNNING"


@pytest.mark.long
def test_a_task_that_hangs_is_named_and_ends_the_job(
    fresh_cluster: Callable[..., Cluster], training: Training
) -> None:
    cluster = fresh_cluster()
    job = training.submit(cluster, "trainer.timeout=0.3")
    wait_for_step(training, job, 4)
    cluster.run("pkill", "-STOP", "-o", "-f", "slurm.pacer", on="node2")
    job.wait("FAILED", seconds=120)
    late = r"rank [23] of 4 \(PID \d+ on node2\) (is gone|has not come past step)"
    assert re.search(late, job.log())
    assert "--resume goes on from the last checkpoint" in job.log()


@pytest.mark.long
def test_data_that_one_node_does_not_see_ends_the_job_with_a_sentence(
    fresh_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    config = prepared(make_config(tmp_path, data={"folder": tmp_path / "disk/data"}))
    cluster = fresh_cluster()
    cluster.run("mount", "-t", "tmpfs", "tmpfs", tmp_path / "disk", on="node2")
    job = submit(cluster, "train", *TWO_BY_TWO, config.rename(tmp_path / "config.yaml"))
    job.wait("FAILED", seconds=120)
    assert "isn't there on node2" in job.log()
    assert "disk that all nodes share" in job.log()
    assert not (tmp_path / "run/checkpoints").exists()
