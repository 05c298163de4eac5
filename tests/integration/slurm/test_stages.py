"""The other job scripts: mistakes are found early, stages follow each other, arrays share work."""

import re
from pathlib import Path

import pytest

from seq2seq.config import Config
from seq2seq.config_file import dump_config
from tests.integration.conftest import make_config, make_pairs
from tests.integration.processes import ROOT, Process
from tests.integration.slurm.cluster import Cluster, Job
from tests.integration.slurm.jobs import SEQ2SEQ, submit

SCRIPTS = sorted(path.name for path in ROOT.glob("slurm/*.sbatch"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(make_config(tmp_path, training={"steps": 6}))


def written(config: Config) -> Path:
    path = config.data.folder.with_name("config.yaml")
    path.write_text(dump_config(config), encoding="utf-8")
    return path


def run(cluster: Cluster, *words: object, **variables: str) -> str:
    """Run a program of slurm/ as a user does at the head."""
    env = {"SEQ2SEQ": SEQ2SEQ, "OMP_NUM_THREADS": "1"} | variables
    env.setdefault("SBATCH_OUTPUT", f"{cluster.home}/%x-%j.out")
    return cluster.run(*words, env=env, cwd=ROOT)


@pytest.mark.parametrize("script", SCRIPTS)
def test_slurm_accepts_every_script(script: str, cluster: Cluster) -> None:
    cluster.run("sbatch", "--test-only", f"slurm/{script}", cwd=ROOT)


def test_a_training_of_several_nodes_and_gpus_is_accepted(cluster: Cluster) -> None:
    shape = ("--nodes=2", "--gpus-per-node=2", "--cpus-per-gpu=1")
    cluster.run("sbatch", "--test-only", *shape, "slurm/train.sbatch", cwd=ROOT)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["configs/nosuch.yaml"], "there is no config 'configs/nosuch.yaml'"),
        (["configs/quickstart.yaml", "training.stpes=3"], "did you mean 'training.steps'"),
        ([], "error: give a config"),
        (["-N", "2", "configs/quickstart.yaml"], "there is no config '2'; options of sbatch stand"),
        (["configs/quickstart.yaml", "--nodes=2"], "--nodes=2 stands after the config"),
    ],
)
def test_mistakes_are_found_before_the_queue(
    words: list[str], sentence: str, cluster: Cluster
) -> None:
    with pytest.raises(AssertionError, match="ended with 2") as failure:
        run(cluster, "slurm/submit", *words)
    assert sentence in str(failure.value)
    assert not cluster.run("squeue", "--noheader")


def test_mistakes_are_the_first_that_a_job_says(cluster: Cluster) -> None:
    job = submit(cluster, "train", "configs/quickstart.yaml", "training.stpes=3")
    job.wait("FAILED", seconds=30)
    assert "start 1 on" in job.log().splitlines()[0]
    assert "did you mean 'training.steps'" in job.log().splitlines()[1]
    assert job.facts()["ExitCode"] == "2:0"


def test_a_job_that_has_the_run_folder_already_is_named(cluster: Cluster, config: Path) -> None:
    words = ("slurm/submit", "--hold", f"--output={config.parent}/log", config)
    first = run(cluster, *words).strip()
    for again in (words, ("slurm/pipeline", config)):
        with pytest.raises(AssertionError, match=f"job {first} is for the run folder"):
            run(cluster, *again)


def test_a_run_folder_whose_name_begins_alike_is_another(cluster: Cluster, config: Path) -> None:
    words = ("slurm/submit", "--hold", config)
    run(cluster, *words, f"training.folder={config.parent}/ab")
    run(cluster, *words, f"training.folder={config.parent}/a")


def test_a_job_that_an_array_submits_is_itself(cluster: Cluster) -> None:
    inner = f"sbatch --parsable --output={cluster.home}/inner slurm/train.sbatch nosuch.yaml"
    array = cluster.submit("--array=7", f"--wrap={inner}; sleep 3", cwd=ROOT)
    array.wait("COMPLETED")
    child = array.log().strip()
    job = Job(cluster, child)
    job.wait("FAILED")
    assert f"job {child}, start 1" in job.log()


def test_a_node_of_its_own_has_a_task_for_each_gpu_and_all_see_all(
    cluster: Cluster, config: Path
) -> None:
    job = submit(
        cluster, "doctor", "--exclusive", "--cpus-per-gpu=2", config, "trainer.accelerator=auto"
    )
    job.wait("COMPLETED", seconds=90)
    assert re.search(r"^node\d +0-1 ", job.log(), re.MULTILINE), job.log()
    assert "sees one GPU" not in job.log()
    assert "have no process" not in job.log()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("seed=1 it's", "a quote that is not closed"),
        ("", "is empty"),
        ("sed=2", "sed: unknown key"),
    ],
)
def test_a_variant_that_cannot_be_read(
    line: str, sentence: str, cluster: Cluster, config: Path
) -> None:
    variants = config.parent / "variants"
    variants.write_text(f"{line}\n", encoding="utf-8")
    job = submit(cluster, "sweep", "--array=1", config, variants)
    job.wait("FAILED")
    assert sentence in job.log()
    assert not (config.parent / "run").exists()


def test_a_job_elsewhere_than_in_the_projects_folder_says_so(
    cluster: Cluster, tmp_path: Path
) -> None:
    job = cluster.submit(f"--output={tmp_path}/log", ROOT / "slurm/train.sbatch", "x.yaml")
    job.wait("FAILED")
    assert "submit in the project's folder" in job.log()


def stages(cluster: Cluster, told: str) -> dict[str, Job]:
    return {name: Job(cluster, job) for name, job in re.findall(r"(\w+) +job (\d+)", told)}


@pytest.mark.long
def test_a_pipeline_runs_through(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    text, translation = tmp_path / "in.txt", tmp_path / "out.txt"
    text.write_text("The dog sees the cat.\n\nThe man likes the tree.\n", encoding="utf-8")
    words = ("slurm/pipeline", "--translate", text, translation, config)
    found = stages(cluster, run(cluster, *words))
    assert list(found) == ["prepare", "train", "evaluate", "translate"]
    for job in found.values():
        job.wait("COMPLETED", seconds=120)
    assert len(translation.read_text(encoding="utf-8").splitlines()) == 3
    assert (tmp_path / "run/model/score.json").exists()


@pytest.mark.long
def test_a_stage_that_fails_stops_the_rest(cluster: Cluster, tmp_path: Path) -> None:
    config = written(make_config(tmp_path))
    (tmp_path / "validation.en").write_text("", encoding="utf-8")
    found = stages(cluster, run(cluster, "slurm/pipeline", config))
    found["prepare"].wait("FAILED", seconds=60)
    found["train"].wait("CANCELLED")
    found["evaluate"].wait("CANCELLED")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_sweep_ends_in_one_table(cluster: Cluster, config: Path, tmp_path: Path) -> None:
    variants = tmp_path / "variants"
    variants.write_text(
        f"seed=1 training.steps=3\nseed=1 'data.folder={tmp_path}/a b'\n", encoding="utf-8"
    )
    words = ("sweep", "--array=1-3", config, variants, f"training.folder={tmp_path}/sweep")
    array = submit(cluster, *words)
    for number in (1, 2):
        Job(cluster, f"{array.id}_{number}").wait("COMPLETED", seconds=180)
    Job(cluster, f"{array.id}_3").wait("FAILED")
    assert "submit with --array=1-2" in Job(cluster, f"{array.id}_3").log()
    table = (tmp_path / "sweep/table.txt").read_text(encoding="utf-8")
    assert "training.steps=3" in table
    assert len(re.findall(r"^ *\d  ", table, re.MULTILINE)) == 2
    variants.write_text("seed=1 training.steps=4\n", encoding="utf-8")
    other = submit(cluster, "sweep", "--array=1", *words[2:])
    other.wait("FAILED")
    assert "is of another variant (seed=1 training.steps=3 ) than line 1" in other.log()


@pytest.mark.long
def test_an_array_translates_what_one_process_does(
    cluster: Cluster, config: Path, tmp_path: Path
) -> None:
    assert Process("train", config).finish().status == 0
    text, translation = tmp_path / "in.txt", tmp_path / "out.txt"
    lines = [source + "\n" for source, _ in make_pairs(6000, 9)]
    text.write_text("".join(lines), encoding="utf-8")
    words = ("--array=1-3", tmp_path / "run/model", text, translation, "--window=32")
    array = submit(cluster, "translate", *words)
    parts = tmp_path / "out.txt.parts"
    array.wait_until(lambda: parts.is_dir() and len(list(parts.iterdir())) > 3, 120)
    Job(cluster, f"{array.id}_2").cancel()
    for number in (1, 3):
        Job(cluster, f"{array.id}_{number}").wait("COMPLETED", seconds=180)
    again = submit(cluster, "translate", "--array=2", *words[1:])
    again.wait("COMPLETED", seconds=180)
    alone = tmp_path / "alone.txt"
    words = ("translate", tmp_path / "run/model", "--input", text, "--output", alone)
    assert Process(*words, "--window=32").finish().status == 0
    assert translation.read_bytes() == alone.read_bytes()
    assert translation.read_bytes().count(b"\n") == 6000
    assert not parts.exists()
