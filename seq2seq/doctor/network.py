"""How the processes of a job find each other, and how fast they exchange numbers."""

import os
import socket
import statistics
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as distributed
from rich.filesize import decimal as shown

from seq2seq.doctor.findings import Finding, failure, failure_of, fine, remark
from seq2seq.doctor.machine import Process, chosen_device, nodes
from seq2seq.errors import LostProcessError
from seq2seq.parallel.device import finish
from seq2seq.parallel.group import Group
from seq2seq.parallel.place import Place

_LARGE = 64 * 2**20  # bytes: gradients of 16 million parameters
_SMALL = 2**20  # bytes that tell what may be tried
_ROUNDS, _TINY_ROUNDS = 3, 10
_SECONDS = 2.0  # that one round may take
_SLOW = 100e6  # bytes a second between nodes: less than Gigabit Ethernet has
_AVOID = "find a faster interface with `ip address`, and name it by"


def unresolved(place: Place) -> list[Finding]:
    """Say that the first process's address means nothing here, if so."""
    if place.world_size == 1:
        return []
    try:
        socket.getaddrinfo(place.address, place.port)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return [
            failure(
                "meeting",
                f"the first node's name {place.address} can't be resolved on"
                f" {socket.gethostname()} ({reason})",
                "set MASTER_ADDR to a name or an address of the first node that all nodes know",
            )
        ]
    return []


def not_met(place: Place, error: Exception) -> Finding:
    """Turn what kept the processes from meeting, or parted them, into a finding."""
    cure = (
        f"start all {place.world_size} processes at once, and see in their own messages why one"
        f" doesn't come; rank 0 must be reachable at {place.address}, port {place.port}"
        " (MASTER_ADDR, MASTER_PORT)"
    )
    if isinstance(error, LostProcessError):
        if "gone" in str(error):
            cure = "see in its own messages why it ended, and whether its node ran out of memory"
        return failure("meeting", str(error), cure)
    return failure_of("meeting", error, cure)


def met(place: Place, seconds: float) -> list[Finding]:
    """Say that all have met, and through which interface they talk.

    Args:
        place: of this process.
        seconds: from its start until all had come.
    """
    if place.world_size == 1:
        return []
    found = f"{place.world_size} processes met at {place.address}, port {place.port}"
    after = f"{seconds:.1f} s after this one was started"
    return [fine("meeting", f"{found}, {after}; gloo talks through {_interface()}")]


def _interface() -> str:
    name = os.environ.get("GLOO_SOCKET_IFNAME")
    return name or f"the interface of this machine's own name ({socket.gethostname()})"


def open_channel(place: Place, device: torch.device, patience: float) -> Any:
    """Say through which of torch's groups gradients go; all processes must call it.

    Args:
        place: of this process.
        device: what it computes on.
        patience: seconds that it waits for the others.
    """
    if device.type != "cuda" or place.world_size == 1:
        return None  # gloo's, which torch takes by default
    torch.cuda.set_device(device)
    # Longer, since NCCL ends a process without a word: gloo has to notice first.
    return distributed.new_group(backend="nccl", timeout=timedelta(seconds=2 * patience))


def check_exchange(group: Group, processes: Sequence[Process], channel: Any) -> list[Finding]:
    """Add up numbers over all processes: is the sum right, and how fast is it there?

    Args:
        group: the processes, which all must call it.
        processes: the same, as they have described themselves.
        channel: torch's group through which the numbers go.
    """
    if group.place.world_size == 1:
        return []
    device = chosen_device(processes[group.place.rank])
    trouble = ""
    rounds: list[float] = []
    size, latency, sums = 0, 0.0, [0.0]
    try:
        latency = statistics.median(_rounds(1, _TINY_ROUNDS, device, channel, group)[0])
        size = _affordable(group, device, channel)
        rounds, sums = _rounds(size, _ROUNDS, device, channel, group)
    except distributed.DistError as error:
        if device.type != "cuda":  # then it is gloo's, by which the processes talk, too
            raise
        trouble = str(error).splitlines()[0]
    troubles = group.gather(trouble)
    if any(troubles):
        rank = next(rank for rank, text in enumerate(troubles) if text)
        return [_no_exchange(processes[rank], troubles[rank])]
    right = group.gather(sums == [float(group.place.world_size)])
    if not all(right):
        return [_wrong_sum(processes, right)]
    seconds = max(group.gather(statistics.median(rounds)))
    return [judge_speed(processes, size, seconds, latency)]


def _rounds(
    size: int, number: int, device: torch.device, channel: Any, group: Group
) -> tuple[list[float], list[float]]:
    """Add up numbers several times.

    Returns:
        The seconds of each round, and the sums (of ones) that were found.
    """
    seconds: list[float] = []
    sums: set[float] = set()
    for _ in range(number + 1):  # the first one makes connections
        ones = torch.ones(size // 4 or 1, device=device)
        group.gather(None)  # so that nobody waits for one that is late
        finish(device)
        began = time.perf_counter()
        distributed.all_reduce(ones, group=channel)
        finish(device)
        seconds.append(time.perf_counter() - began)
        sums |= {ones.min().item(), ones.max().item()}
    return seconds[1:], sorted(sums)


def _affordable(group: Group, device: torch.device, channel: Any) -> int:
    """Say how many bytes can be added up in the time that a round may take."""
    seconds, _ = _rounds(_SMALL, 1, device, channel, group)
    slowest = max(group.gather(seconds[0]))
    return int(min(_LARGE, max(_SMALL, _SMALL * _SECONDS / slowest)))


def _no_exchange(process: Process, reason: str) -> Finding:
    return failure(
        "exchange",
        f"NCCL can't add up numbers (rank {process.rank} on {process.host}): {reason}",
        "see what it says with NCCL_DEBUG=INFO, and name the interface between the nodes by"
        " NCCL_SOCKET_IFNAME",
    )


def _wrong_sum(processes: Sequence[Process], right: Sequence[bool]) -> Finding:
    hosts = dict.fromkeys(
        process.host for process, fits in zip(processes, right, strict=True) if not fits
    )
    names = ", ".join(hosts)
    return failure(
        "exchange",
        f"a sum of ones over all processes is wrong on {names}",
        f"leave that node out (#SBATCH --exclude={','.join(hosts)}), since its network or its GPUs"
        " change numbers; on GPUs see whether NCCL_P2P_DISABLE=1 helps",
    )


def judge_speed(processes: Sequence[Process], size: int, seconds: float, latency: float) -> Finding:
    """Judge how fast a sum over all processes is.

    Args:
        processes: all of them.
        size: bytes that were added up.
        seconds: that it took.
        latency: seconds that a single number took.
    """
    number = len(processes)
    speed = 2 * (number - 1) / number * size / seconds
    nccl = processes[0].device.startswith("cuda")
    found = (
        f"{shown(int(speed))}/s through {'NCCL' if nccl else 'gloo'} ({shown(size)} from each"
        f" of {number} processes in {1e3 * seconds:.0f} ms), {1e6 * latency:.0f} µs at least"
    )
    if len(nodes(processes)) > 1 and speed < _SLOW:
        variable = "NCCL_SOCKET_IFNAME" if nccl else "GLOO_SOCKET_IFNAME"
        return remark("exchange", f"{found}, which is slow", f"{_AVOID} {variable}")
    return fine("exchange", found)
