"""Starts the other processes of a run on this machine, and sees to their end.

Lightning has a launcher too. It kills the first process within 5 seconds when another one ends with
a status other than 0, so that nothing could be said or saved by then, and none could end with the
status for "stopped on request".
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager

from seq2seq.parallel.place import LAUNCHED, Place
from seq2seq.terminal import complain

_FINE = (None, 0, 75)  # at work, done, stopped on request
_GRACE = 20.0  # seconds in which a process ends by itself once another one is gone


@contextmanager
def launched(place: Place, *, hold: Collection[signal.Signals] = ()) -> Generator[Place]:
    """Start the processes that are missing, which run this very command again.

    Args:
        place: of this process.
        hold: signals that a process, once it has started, gets as soon as it unblocks them: until
            it has its handlers, they would kill it.

    Yields:
        The place of this process, the first one.
    """
    if place.world_size == 1 or place.launcher:
        yield place
        return
    place = place._replace(launcher="seq2seq")
    others: list[subprocess.Popen[bytes]] = []
    over = threading.Event()
    try:
        for rank in range(1, place.world_size):
            others.append(_start(place._replace(rank=rank, local_rank=rank), hold))
        threading.Thread(target=_watch, args=(others, over), daemon=True).start()
        yield place
    except BaseException:
        over.set()
        _end(others, grace=2.0)
        raise
    over.set()
    _end(others, grace=_GRACE)


def _start(place: Place, hold: Collection[signal.Signals]) -> "subprocess.Popen[bytes]":
    variables = {
        "RANK": place.rank,
        "WORLD_SIZE": place.world_size,
        "LOCAL_RANK": place.local_rank,
        "LOCAL_WORLD_SIZE": place.local_size,
        "MASTER_ADDR": place.address,
        "MASTER_PORT": place.port,
        LAUNCHED: 1,
    }
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    command = [sys.executable, "-m", "seq2seq", *sys.argv[1:]]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, hold)  # a new process inherits it
    try:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(others: list["subprocess.Popen[bytes]"], over: threading.Event) -> None:
    """End this process where another one is gone and this one hasn't noticed.

    On a GPU it may wait for the other's numbers for as long as trainer.timeout says.
    """
    while not (failed := [process for process in others if process.poll() not in _FINE]):
        if over.wait(1.0):
            return
    if over.wait(_GRACE):
        return
    for process in failed:
        name = f"rank {others.index(process) + 1} of {len(others) + 1}"
        complain(f"{name} has ended ({_reason(process.returncode)}): giving up")
    _end(others, grace=0.0)
    os._exit(1)


def _reason(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"status {status}"


def _end(others: list["subprocess.Popen[bytes]"], *, grace: float) -> None:
    """Wait for the processes, then end those that are still there."""
    deadline = time.monotonic() + grace
    for process in others:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
