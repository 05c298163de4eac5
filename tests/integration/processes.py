"""Starts real processes, as torchrun, SLURM or a person at two terminals would."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "TORCHELASTIC")
NOWHERE: dict[str, object] = {}


class Finished(NamedTuple):
    status: int
    output: str
    messages: str


class Process:
    """A command in a process of its own, whose output is collected."""

    def __init__(
        self, *words: object, module: str = "seq2seq", place: Mapping[str, object] = NOWHERE
    ):
        plain = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCH)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, words)],
            env=plain | {"OMP_NUM_THREADS": "1"} | {n: str(v) for n, v in place.items()},
            cwd=ROOT,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self, timeout: float = 120.0) -> Finished:
        """Wait for the end; one that doesn't come is killed, and fails the test."""
        try:
            output, messages = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, messages = self.process.communicate()
            raise AssertionError(f"still running after {timeout} s: {messages}") from None
        return Finished(self.process.returncode, output, messages)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ranks(number: int) -> list[dict[str, object]]:
    """The variables of `number` processes on this machine, as torchrun sets them."""
    common: dict[str, object] = {
        "WORLD_SIZE": number,
        "LOCAL_WORLD_SIZE": number,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    return [common | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(number)]


def slurm_tasks(number: int) -> list[dict[str, object]]:
    """The variables of `number` tasks of a step on one node, as srun sets them."""
    common: dict[str, object] = {
        "SLURM_JOB_ID": 4711,
        "SLURM_STEP_ID": 0,
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": 1,
        "SLURM_STEP_NUM_TASKS": number,
        "SLURM_STEP_TASKS_PER_NODE": number,
        "SLURM_NTASKS": number,
        "SLURM_NODEID": 0,
        "SLURM_CPUS_PER_TASK": 1,
        "MASTER_PORT": free_port(),
    }
    return [common | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in range(number)]


def run_all(
    places: Sequence[Mapping[str, object]], *words: object, module: str = "seq2seq"
) -> list[Finished]:
    """Run one command in several processes at once."""
    processes = [Process(*words, module=module, place=place) for place in places]
    return [process.finish() for process in processes]
