"""Which of a run's processes this one is, as whoever started them says."""

import os
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

from seq2seq.errors import UserError

LAUNCHED = "SEQ2SEQ_LAUNCHED"
"""Is set for the processes that `seq2seq` itself has started."""


class Place(NamedTuple):
    """Where this process stands among those of a run."""

    rank: int = 0
    """Number of this process, counted from 0 over all nodes."""
    world_size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process on its node."""
    local_size: int = 1
    """Number of processes on its node."""
    address: str = "127.0.0.1"
    """Where the first process can be reached."""
    port: int = 0
    launcher: str = ""
    """Who started the processes: `torchrun`, `srun`, `seq2seq`; empty for a process of its own."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    @property
    def is_restarted(self) -> bool:
        """Whether a launcher waits for it that starts it anew after every status but 0."""
        return self.launcher == "torchrun"

    def __str__(self) -> str:
        """Name the process for a person."""
        return f"rank {self.rank} of {self.world_size}"


def find_place(devices: int | None, environment: Mapping[str, str] = os.environ) -> Place:
    """Find out which process this is.

    Args:
        devices: processes on each node that the settings ask for; none: what the launcher started.
        environment: the variables that torchrun, srun or `seq2seq` have set.

    Returns:
        This process; of a run that is still to be started, the first one, with the address
        where the others shall find it.

    Raises:
        UserError: the variables are incomplete, or contradict each other or `devices`.
    """
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        place = _from_variables(environment)
    elif {"SLURM_PROCID", "SLURM_STEP_ID"} <= environment.keys():
        place = _from_slurm(environment)
    else:
        return _to_be_launched(devices or 1, environment)
    if not place.launcher:  # srun has started this process alone, as for an interactive shell
        return _to_be_launched(devices or 1, environment)
    if devices is not None and devices != place.local_size:
        raise UserError(
            f"`trainer.devices` is {devices}, but {place.launcher} has started"
            f" {place.local_size} of {place.world_size} processes on this node"
            f"{_said_by(place, environment)}: leave trainer.devices out, or start as many"
            + (f" (`#SBATCH --ntasks-per-node={devices}`)" if place.launcher == "srun" else "")
        )
    return place


def _said_by(place: Place, environment: Mapping[str, str]) -> str:
    """Name the variable that says how many processes a node has."""
    names = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if place.launcher != "srun":
        names = ("LOCAL_WORLD_SIZE",)
    found = [f" ({name}={environment[name]})" for name in names if name in environment]
    return found[0] if found else ""


def usable_cpus() -> frozenset[int]:
    """Number the CPUs that this process may run on, where the system says it."""
    if hasattr(os, "sched_getaffinity"):  # not on a Mac
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def usable_threads(place: Place, environment: Mapping[str, str] = os.environ) -> int:
    """Count the CPU threads that are this process's own.

    That is what the scheduler has bound it to, shared with the other processes of the node where
    SLURM doesn't say how many CPUs a task has: never the machine's number.
    """
    usable = len(usable_cpus())
    if "SLURM_CPUS_PER_TASK" in environment and place.launcher == "srun":
        return min(usable, _number(environment, "SLURM_CPUS_PER_TASK"))
    return max(1, usable // place.local_size)


def _from_variables(environment: Mapping[str, str]) -> Place:
    """Read what torchrun sets, and others who start processes for torch."""
    world_size = _number(environment, "WORLD_SIZE")
    rank = _number(environment, "RANK")
    place = Place(
        rank=rank,
        world_size=world_size,
        local_rank=_number(environment, "LOCAL_RANK", 0),
        local_size=_number(environment, "LOCAL_WORLD_SIZE", 1),
        address=environment["MASTER_ADDR"],
        port=_number(environment, "MASTER_PORT"),
        launcher="seq2seq" if LAUNCHED in environment else "torchrun",
    )
    if not (0 <= rank < world_size and 0 <= place.local_rank < place.local_size):
        raise UserError(
            f"the variables contradict each other: RANK={rank}, WORLD_SIZE={world_size},"
            f" LOCAL_RANK={place.local_rank}, LOCAL_WORLD_SIZE={place.local_size}"
        )
    return place


def _from_slurm(environment: Mapping[str, str]) -> Place:
    """Read what srun sets; a step's variables go before those of the job, which may be larger."""
    world_size = _number(environment, "SLURM_STEP_NUM_TASKS", None, "SLURM_NTASKS")
    if world_size == 1:
        return Place()
    return Place(
        rank=_number(environment, "SLURM_PROCID"),
        world_size=world_size,
        local_rank=_number(environment, "SLURM_LOCALID"),
        local_size=_tasks_here(environment, world_size),
        address=environment.get("MASTER_ADDR") or _first_host(environment),
        port=_number(environment, "MASTER_PORT", _step_port(environment)),
        launcher="srun",
    )


def _tasks_here(environment: Mapping[str, str], world_size: int) -> int:
    """Count this node's tasks: `2(x3),1` are three nodes with two and one with one."""
    counts: list[int] = []
    written = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", written):
        counts += [int(tasks)] * int(times or 1)
    node = _number(environment, "SLURM_NODEID", 0)
    if node < len(counts):
        return counts[node]
    nodes = _number(environment, "SLURM_STEP_NUM_NODES", 1, "SLURM_NNODES")
    return -(-world_size // nodes)


def _first_host(environment: Mapping[str, str]) -> str:
    """Take the first host of a list such as `gpu[03-05,9],login`."""
    hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "")
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", hosts)
    if found is None:
        raise UserError(
            "SLURM_STEP_NODELIST is missing: start by srun, or set MASTER_ADDR to the first node"
        )
    return "".join(part or "" for part in found.groups())


def _step_port(environment: Mapping[str, str]) -> int:
    """Choose a port that all tasks of a step know, below those that systems hand out at will."""
    job = _number(environment, "SLURM_JOB_ID", 0)
    return 15000 + (job * 7 + _number(environment, "SLURM_STEP_ID", 0)) % 16000


def _to_be_launched(devices: int, environment: Mapping[str, str]) -> Place:
    if devices == 1:
        return Place()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = _number(environment, "MASTER_PORT", free.getsockname()[1])
    return Place(world_size=devices, local_size=devices, port=port)


def _number(
    environment: Mapping[str, str], name: str, default: int | None = None, other: str = ""
) -> int:
    """Read a number from a variable, else from the other one."""
    name = other if name not in environment and other in environment else name
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit():
        raise UserError(f"the variable {name} must be a whole number, but is {text!r}")
    return int(text)
