"""The project's job scripts on a cluster of the tests."""

import re
import sys

import torch

from seq2seq.config import Config
from seq2seq.config_file import dump_config
from seq2seq.training.checkpoint import checkpoint_path, read_checkpoint
from tests.integration.processes import ROOT, ranks, run_all
from tests.integration.slurm.cluster import Cluster, Job

TWO_BY_TWO = ("--nodes=2", "--gpus-per-node=0", "--ntasks-per-node=2")
SEQ2SEQ = f"{sys.executable} -m seq2seq"


def submit(cluster: Cluster, script: str, *words: object, **variables: str) -> Job:
    """Submit a script as a user does, from the project's folder."""
    where = f"--output={cluster.home}/{script}-%A_%a.out"
    position = next(n for n, word in enumerate(words) if not str(word).startswith("-"))
    options, arguments = words[:position], words[position:]
    env = {"SEQ2SEQ": SEQ2SEQ, "OMP_NUM_THREADS": "1"} | variables
    path = f"slurm/{script}.sbatch"
    return cluster.submit(where, *options, path, *arguments, env=env, cwd=ROOT)


class Training:
    """A run whose steps can be slow, and whose length the test decides while it runs."""

    def __init__(self, config: Config):
        """Write its settings."""
        self.config = config
        self.folder = config.training.folder
        self.path = config.data.folder.with_name("config.yaml")
        self.lasts(10**6)

    def lasts(self, steps: int) -> None:
        """Decide how many steps the run has, from its next start on."""
        training = self.config.training.model_copy(update={"steps": steps})
        self.config = self.config.model_copy(update={"training": training})
        self.path.write_text(dump_config(self.config), encoding="utf-8")

    def submit(self, cluster: Cluster, *words: str, pace: float = 0.3) -> Job:
        """Submit it on two nodes with two tasks each; words are options, or settings."""
        options = [word for word in words if word.startswith("-")]
        settings = [word for word in words if not word.startswith("-")]
        command = f"{sys.executable} -m tests.integration.slurm.pacer {pace}"
        return submit(
            cluster, "train", *TWO_BY_TWO, *options, self.path, *settings, SEQ2SEQ=command
        )

    def step(self) -> int:
        """The last step that was logged."""
        log = self.folder / "metrics.jsonl"
        found = (
            re.findall(r'"kind": "train", "step": (\d+)', log.read_text()) if log.exists() else []
        )
        return int(found[-1]) if found else 0

    def stops(self, job: Job) -> list[int]:
        """The steps at which the job says that it stopped."""
        return [
            int(step.replace(",", ""))
            for step in re.findall(r"stopped at step ([\d,]+)", job.log())
        ]

    def assert_equals_an_uninterrupted_run(self, processes: int = 4) -> None:
        """Compare the end with the same run on as many processes without a stop, to the bit."""
        steps, other = self.config.training.steps, self.folder.with_name("uninterrupted")
        ends = run_all(ranks(processes), "train", self.path, f"training.folder={other}")
        assert [end.status for end in ends] == [0] * processes, ends
        found, expected = (
            read_checkpoint(checkpoint_path(folder / "checkpoints", steps))
            for folder in (self.folder, other)
        )
        for name, weights in expected["weights"].items():
            assert torch.equal(found["weights"][name], weights), name
        assert found["state"] | {"seconds": 0} == expected["state"] | {"seconds": 0}


def last_start(job: Job) -> str:
    """What a job has written since it was started last."""
    return re.split(r"\d\d:\d\d:\d\d job \S+, start", job.log())[-1]
