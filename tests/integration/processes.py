"""Starts real processes, as torchrun, SLURM or a person at two terminals would."""

import atexit
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

ROOT = Path(__file__).parents[2]
_LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "TORCHELASTIC")
NOWHERE: dict[str, object] = {}


class Finished(NamedTuple):
    status: int
    output: str
    messages: str


@cache
def _fork_server() -> tuple[str, "subprocess.Popen[bytes]"]:
    """Start the server that starts processes; returns its address too."""
    folder = tempfile.mkdtemp(prefix="fork-server-")
    path = f"{folder}/socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.fork_server", path],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
        cwd=ROOT,
    )
    atexit.register(shutil.rmtree, folder)
    atexit.register(server.kill)
    return path, server


def _connect() -> socket.socket:
    path, server = _fork_server()
    connection = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + 120
    while True:
        assert server.poll() is None, "the fork server has ended"
        try:
            connection.connect(path)
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline, "the fork server doesn't start"
            time.sleep(0.05)


class Started(Protocol):
    def kill(self) -> None: ...


started: list[Started] = []
"""What a test has started; a fixture sees to it that nothing outlives the test."""


class Process:
    """A command in a process of its own, whose output is collected."""

    def __init__(
        self,
        *words: object,
        module: str = "seq2seq",
        place: Mapping[str, object] = NOWHERE,
        stdin: Path = Path(os.devnull),
        fresh: bool = False,
    ):
        """Start it.

        Args:
            words: the arguments.
            module: to be run.
            place: variables beside those of this process that don't tell of a launcher.
            stdin: what it reads.
            fresh: start a new interpreter, as a shell would, which takes seconds to import torch.
        """
        plain = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCH)}
        variables = {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in place.items()}
        arguments = [str(word) for word in words]
        self._files = os.memfd_create("output"), os.memfd_create("messages")
        started.append(self)
        self._child = self._connection = self._status = None
        if fresh:
            with stdin.open("rb") as content:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    env=plain | variables,
                    cwd=ROOT,
                    stdin=content,
                    stdout=self._files[0],
                    stderr=self._files[1],
                )
            self.pid = self._child.pid
            return
        self._connection = _connect()
        request = {
            "module": module,
            "words": arguments,
            "environment": plain | variables,
            "stdin": str(stdin),
        }
        socket.send_fds(self._connection, [json.dumps(request).encode()], self._files)
        self._answers = self._connection.makefile()
        self.pid = int(self._answers.readline())

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it is still there."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def poll(self, seconds: float = 0.0) -> int | None:
        """Wait for the end for some time; returns the status, or nothing."""
        if self._child is not None:
            try:
                return self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        assert self._connection is not None
        if self._status is None and select.select([self._connection], [], [], seconds)[0]:
            self._status = int(self._answers.readline())
        return self._status

    def written(self) -> int:
        """How many bytes it has written to stdout so far."""
        return os.fstat(self._files[0]).st_size

    def messages(self) -> str:
        """What it has written to stderr so far."""
        return os.pread(self._files[1], 2**24, 0).decode()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        """Wait for something that the process is to bring about while it runs."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.poll() is None, self.finish()
            assert time.monotonic() < deadline, self.messages()
            time.sleep(0.02)

    def finish(self, timeout: float = 120.0) -> Finished:
        """Wait for the end; one that doesn't come is killed, and fails the test."""
        status = self.poll(timeout)
        if status is None:
            self.kill()
        output = os.pread(self._files[0], 2**24, 0).decode()
        assert status is not None, f"still running after {timeout} s: {self.messages()}"
        return Finished(status, output, self.messages())


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
