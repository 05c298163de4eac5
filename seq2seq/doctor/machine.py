"""What each process has: versions, devices, CPUs, memory; and what SLURM's variables say of it."""

import os
import platform
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch
from rich.filesize import decimal as shown

from seq2seq import __version__
from seq2seq.config import TrainerConfig
from seq2seq.doctor.findings import Finding, failure, failure_of, fine, remark
from seq2seq.errors import UserError
from seq2seq.parallel.device import choose_device
from seq2seq.parallel.place import Place, usable_cpus, usable_threads
from seq2seq.terminal import show_table
from seq2seq.training.precision import choose_precision

_PACKAGES = ("torch", "pytorch-lightning", "sentencepiece", "datasets")
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a job or container, by Linux's cgroups


class Process(NamedTuple):
    """What one process has; plain types, so that it can tell the others."""

    rank: int
    host: str
    tasks: int
    """Processes on this node."""
    versions: dict[str, str]
    cpus: frozenset[int]
    """Those that it may run on."""
    threads: int
    """That it will compute with."""
    device: str
    """Such as `cpu` or `cuda:1`."""
    gpus: tuple[str, ...]
    """Names of the GPUs that it sees."""
    visible: int | None
    """Number of GPUs that it sees, or where torch sees none, would see; none: nobody says."""
    given: int | None
    """Number of GPUs that SLURM has given the job on this node; none: SLURM doesn't say."""
    memory: int
    """Bytes that the processes of this node may use together."""
    device_memory: int
    """Bytes of the GPU; 0 without one."""
    trouble: Finding | None
    """Why it has no device."""


def look(
    place: Place, settings: TrainerConfig, environment: Mapping[str, str] = os.environ
) -> Process:
    """Find out what this process has.

    Args:
        place: of this process.
        settings: which device and threads it shall have.
        environment: variables that say what torch may not see.
    """
    device, trouble = torch.device("cpu"), None
    try:
        device = choose_device(settings.accelerator, place)
        choose_precision(settings.precision, device)
    except UserError as error:
        trouble = failure_of("devices", error, "write trainer.accelerator=auto")
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = device.type == "cuda"
    return Process(
        rank=place.rank,
        host=socket.gethostname(),
        tasks=place.local_size,
        versions=_versions(),
        cpus=usable_cpus(),
        threads=settings.threads or usable_threads(place, environment),
        device=str(device),
        gpus=tuple(torch.cuda.get_device_name(index) for index in range(number)),
        visible=number or _count(environment.get("CUDA_VISIBLE_DEVICES")),
        given=_gpus_given(environment, place.local_size),
        memory=_memory(environment),
        device_memory=torch.cuda.get_device_properties(device).total_memory if cuda else 0,
        trouble=trouble,
    )


def chosen_device(process: Process) -> torch.device:
    """Return the device that a process computes on."""
    return torch.device(process.device)


def _versions() -> dict[str, str]:
    versions = {"seq2seq": __version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # it was put there without a package manager
            versions[package] = "unknown"
    return versions


def _count(devices: str | None) -> int | None:
    """Count a list such as `0,1`, as CUDA does: up to the first `-1`."""
    if devices is None:
        return None
    names = [name.strip() for name in devices.split(",") if name.strip()]
    return len(names[: names.index("-1")] if "-1" in names else names)


def _gpus_given(environment: Mapping[str, str], tasks: int) -> int | None:
    on_node = environment.get("SLURM_GPUS_ON_NODE", "")
    if on_node.isdigit():
        return int(on_node)
    for_task = environment.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2]  # `a100:2`, too
    return int(for_task) * tasks if for_task.isdigit() else None


def _memory(environment: Mapping[str, str]) -> int:
    """Say how many bytes this node's processes may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(OSError, ValueError):  # there may be no such file, or `max` in it
        limits.append(int(_MEMORY_LIMIT.read_text()))
    given = environment.get("SLURM_MEM_PER_NODE", "")
    if given.isdigit() and int(given):  # in MiB; 0 is all there is
        limits.append(int(given) * 2**20)
    return min(limits)


def nodes(processes: Sequence[Process]) -> dict[str, list[Process]]:
    """Group the processes by node, in their order."""
    grouped: dict[str, list[Process]] = defaultdict(list)
    for process in processes:
        grouped[process.host].append(process)
    return dict(grouped)


def show_nodes(processes: Sequence[Process]) -> None:
    """Print a line for each node, to stdout."""
    rows: list[tuple[str, ...]] = []
    for host, there in nodes(processes).items():
        ranks = [process.rank for process in there]
        together = len(ranks) > 1 and ranks == list(range(ranks[0], ranks[-1] + 1))
        rows.append(
            (
                host,
                f"{ranks[0]}-{ranks[-1]}" if together else ", ".join(map(str, ranks)),
                str(len(frozenset[int]().union(*(process.cpus for process in there)))),
                _range([process.threads for process in there]),
                ", ".join(dict.fromkeys(process.device for process in there)),
                shown(there[0].memory),
            )
        )
    show_table("", ("node", "ranks", "CPUs", "threads each", "devices", "memory"), rows)


def _range(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least}" if least == most else f"{least}-{most}"


def check_versions(processes: Sequence[Process]) -> list[Finding]:
    """Compare the versions of all processes with the first one's."""
    first = processes[0]
    findings: list[Finding] = []
    for process in processes[1:]:
        unlike = [
            f"{name} {other} (rank {process.rank} on {process.host}) and {first.versions[name]}"
            f" (rank 0 on {first.host})"
            for name, other in process.versions.items()
            if other != first.versions[name]
        ]
        if unlike:
            cure = "let all nodes use one environment, on a disk that they share, or equal ones"
            findings.append(failure("versions", ", ".join(unlike), cure))
    told = ", ".join(f"{name} {number}" for name, number in first.versions.items())
    return findings or [fine("versions", told)]


def check_devices(processes: Sequence[Process], accelerator: str) -> list[Finding]:
    """Compare the devices of each node's processes with what the node has for them.

    Args:
        processes: all of them.
        accelerator: as in `trainer.accelerator`.
    """
    findings: list[Finding] = []
    for there in nodes(processes).values():
        findings += _devices_of_node(there, accelerator)
    return findings + _unlike_devices(processes)


def _devices_of_node(there: Sequence[Process], accelerator: str) -> list[Finding]:
    troubles: dict[Finding, Process] = {}
    for process in there:
        if process.trouble:
            troubles.setdefault(process.trouble, process)
    findings = [
        trouble._replace(found=f"{trouble.found} (rank {process.rank} on {process.host})")
        for trouble, process in troubles.items()
    ]
    if accelerator != "cpu" and not findings:
        findings = [
            *_number_of_gpus(there[0]),
            *_hidden_gpus(there[0]),
            *_unused_gpus(there[0], accelerator),
        ]
    if any(finding.level == "failure" for finding in findings):
        return findings
    devices = ", ".join(dict.fromkeys(map(_device_name, there)))
    return [fine("devices", f"{there[0].host}: {devices}"), *findings]


def _device_name(process: Process) -> str:
    index = torch.device(process.device).index or 0
    if not process.device_memory:
        return process.device
    return f"{process.device} {process.gpus[index]} ({shown(process.device_memory)})"


def _number_of_gpus(process: Process) -> list[Finding]:
    """Compare the GPUs that SLURM has given on a node with its processes."""
    given, tasks = process.given, process.tasks
    if not given or given == tasks:
        return []
    if given < tasks:
        found = f"{tasks} processes on {process.host}, but SLURM has given {given} GPUs there"
        cure = (
            f"submit with --gpus-per-node={tasks}, or --ntasks-per-node={given}, or train with"
            " trainer.accelerator=cpu"
        )
        return [failure("devices", found, cure)]
    found = f"{given - tasks} of {given} GPUs of {process.host} have no process"
    cure = f"submit with --ntasks-per-node={given}, as slurm/train.sbatch takes it too"
    return [remark("devices", found, cure)]


def _hidden_gpus(process: Process) -> list[Finding]:
    """Tell where each process sees one GPU of several: it works, but NCCL is slower."""
    if process.visible != 1 or process.tasks == 1 or not process.given or process.given == 1:
        return []
    found = (
        f"each process on {process.host} sees one GPU of {process.given}, as number 0: this works,"
        " but NCCL loses its fast paths between the GPUs of a node"
    )
    cure = (
        "submit with --gpus-per-node in place of --gpus-per-task (or --gpu-bind), which hides the"
        " others"
    )
    return [remark("devices", found, cure)]


def _unused_gpus(process: Process, accelerator: str) -> list[Finding]:
    """Tell where there should be GPUs, but torch has none, and the CPU would do their work."""
    there = process.given or process.visible
    if accelerator != "auto" or process.device != "cpu" or not there:
        return []
    found = (
        f"{process.host} has {there} GPUs by its variables, but torch"
        f" {process.versions['torch']} finds none, so the CPU would train"
    )
    cure = (
        "see whether nvidia-smi finds them, install a torch for CUDA, and write"
        " trainer.accelerator=cuda so that nothing else is taken"
    )
    return [remark("devices", found, cure)]


def _unlike_devices(processes: Sequence[Process]) -> list[Finding]:
    kinds = {process.device.partition(":")[0]: process for process in processes}
    if len(kinds) > 1 and not any(process.trouble for process in processes):
        found = " and ".join(
            f"{kind} on {process.host} (rank {process.rank})" for kind, process in kinds.items()
        )
        cure = "name what all have by trainer.accelerator, or leave out the nodes that lack it"
        return [failure("devices", f"the processes compute on unlike devices: {found}", cure)]
    names = {name: process.host for process in processes for name in process.gpus}
    if len(names) > 1:
        found = ", ".join(f"{name} on {host}" for name, host in names.items())
        cure = (
            "ask for one kind of GPU (--gpus-per-node=KIND:NUMBER), since the slowest sets the pace"
        )
        return [remark("devices", f"the GPUs are unlike: {found}", cure)]
    return []


def check_cpus(processes: Sequence[Process]) -> list[Finding]:
    """Compare the threads of each node's processes with the CPUs they may run on."""
    findings: list[Finding] = []
    for host, there in nodes(processes).items():
        usable = len(frozenset[int]().union(*(process.cpus for process in there)))
        threads = sum(process.threads for process in there)
        if threads <= usable:
            continue
        found = f"{_counted(len(there), 'process')} on {host} and their {threads} threads share"
        share = usable // len(there)
        cure = f"set trainer.threads={share}"
        if not share:
            cure = f"start at most {_counted(usable, 'process')} there, or ask for more CPUs"
        findings.append(remark("CPUs", f"{found} {_counted(usable, 'CPU')}", cure))
    first = processes[0]
    told = f"{len(first.cpus)} usable, {_counted(first.threads, 'thread')} for each process"
    return findings or [fine("CPUs", told)]


def _counted(number: int, thing: str) -> str:
    if number == 1:
        return f"one {thing}"
    return f"{number} {thing}{'es' if thing.endswith('s') else 's'}"
