"""Requests to stop: real signals to real processes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
START = """
import os, signal, sys, time
from seq2seq.training.stopping import StopNow, StopRequest
stop = StopRequest()
stop.install()
stop.begin()
assert not stop
print("ready", flush=True)
"""
WAIT = """
while not stop:
    time.sleep(0.01)
print(stop.reason, flush=True)
"""


class Process:
    """A process with the handlers installed."""

    def __init__(self, script: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", START + script], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[str, int]:
        """Wait for the end: what is left of the output, and the status."""
        assert self.process.stdout is not None
        return self.process.stdout.read(), self.process.wait()


Start = Callable[[str], Process]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that don't outlive the test."""
    with ExitStack() as stack:

        def start_process(script: str) -> Process:
            process = Process(script)
            stack.enter_context(process.process)
            stack.callback(process.process.kill)
            return process

        yield start_process


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGUSR1, "SIGUSR1")],
)
def test_a_signal_is_noted_and_nothing_is_cut_short(
    number: signal.Signals, reason: str, start: Start
) -> None:
    process = start(WAIT + "print('the step is finished')")
    process.send(number)
    assert process.end() == (f"{reason}\nthe step is finished\n", 0)


def test_a_second_interrupt_stops_at_once(start: Start) -> None:
    """And no code that catches exceptions keeps it from that."""
    process = start("""
try:
    try:
        while not stop:
            time.sleep(0.01)
        print(stop.reason, flush=True)
        while True:
            time.sleep(0.01)
    except Exception:
        print("caught")
except StopNow:
    print("now")
""")
    process.send(signal.SIGINT)
    assert process.line() == "Ctrl-C"
    process.send(signal.SIGINT)
    assert process.end() == ("now\n", 0)


def test_an_interrupt_before_there_is_anything_to_save_stops_at_once(start: Start) -> None:
    process = start("""
early = StopRequest()
early.install()
try:
    print("waiting", flush=True)
    time.sleep(60)
except StopNow:
    print("now")
""")
    assert process.line() == "waiting"
    process.send(signal.SIGINT)
    assert process.end() == ("now\n", 0)


def test_the_first_interrupt_after_another_signal_only_asks(start: Start) -> None:
    process = start(WAIT + "time.sleep(0.5)\nprint(stop.reason)")
    process.send(signal.SIGTERM)
    assert process.line() == "SIGTERM"
    process.send(signal.SIGINT)
    assert process.end() == ("Ctrl-C\n", 0)


def test_the_system_may_ask_as_often_as_it_likes(start: Start) -> None:
    again = "os.kill(os.getpid(), signal.SIGTERM)\nos.kill(os.getpid(), signal.SIGUSR1)\n"
    process = start(WAIT + again + "print('the step is finished', bool(stop))")
    process.send(signal.SIGTERM)
    assert process.end() == ("SIGTERM\nthe step is finished True\n", 0)


def test_a_forked_worker_neither_stops_nor_stops_the_run(start: Start) -> None:
    """Ctrl-C at a terminal reaches the workers of the loader as well: they read on."""
    process = start("""
wait, go = os.pipe()
worker = os.fork()
if worker == 0:
    os.read(wait, 1)
    os._exit(1 if stop else 7)
for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    os.kill(worker, number)
    time.sleep(0.05)
os.write(go, b"x")
_, status = os.waitpid(worker, 0)
print(os.waitstatus_to_exitcode(status), bool(stop))
""")
    assert process.end() == ("7 False\n", 0)
