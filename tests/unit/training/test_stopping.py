"""Requests to stop: real signals to real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from seq2seq.training import stopping
from seq2seq.training.stopping import StopNow, StopRequest

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
    time.sleep(1.1)
    process.send(signal.SIGINT)
    assert process.end() == ("now\n", 0)


def test_two_interrupts_in_a_moment_are_one(start: Start) -> None:
    """torchrun hands on to its processes the Ctrl-C that the terminal has sent them already."""
    process = start(WAIT + "time.sleep(0.5)\nprint('the step is finished')")
    process.send(signal.SIGINT)
    assert process.line() == "Ctrl-C"
    process.send(signal.SIGINT)
    assert process.end() == ("the step is finished\n", 0)


def test_what_is_done_after_the_second_interrupt_is_not_cut_off(start: Start) -> None:
    process = start("""
early = StopRequest()
early.install()
try:
    print("waiting", flush=True)
    time.sleep(60)
except StopNow:
    print("now", flush=True)
    time.sleep(1.5)
    print("tidied up")
""")
    assert process.line() == "waiting"
    process.send(signal.SIGINT)
    assert process.line() == "now"
    time.sleep(1.1)
    process.send(signal.SIGINT)
    assert process.end() == ("tidied up\n", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_work_of_which_nothing_is_lost_is_cut_off_at_once(
    number: signal.Signals, start: Start
) -> None:
    process = start("""
def work():
    print("at work", flush=True)
    time.sleep(60)
    return 1
print(stop.unless_asked(work), stop.reason)
print(stop.unless_asked(work), flush=True)
time.sleep(0.3)
""")
    assert process.line() == "at work"
    process.send(number)
    assert process.line() == f"None {number.name}"
    assert process.line() == "None", "it is not begun any more"
    process.send(number)
    assert process.end() == ("", 0), "and what follows is not cut off"


def test_tidying_up_after_work_that_was_cut_off_is_not_cut_off(start: Start) -> None:
    process = start("""
def work():
    try:
        print("at work", flush=True)
        time.sleep(60)
    finally:
        print("tidying up", flush=True)
        time.sleep(0.5)
        print("tidy", flush=True)
print(stop.unless_asked(work))
""")
    assert process.line() == "at work"
    process.send(signal.SIGTERM)
    assert process.line() == "tidying up"
    process.send(signal.SIGTERM)
    assert process.end() == ("tidy\nNone\n", 0)


def test_waiting_for_a_process_that_does_not_come_ends_some_time_after_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = StopRequest()
    stop.give_up()
    before = signal.getsignal(signal.SIGUSR1)
    stop.install()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        stop.give_up()  # it may come yet
        monkeypatch.setattr(stopping, "_GRACE", 0.0)
        with pytest.raises(StopNow):
            stop.give_up()
    finally:
        for number in stopping.SIGNALS:
            signal.signal(number, before if number == signal.SIGUSR1 else signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_work_that_nobody_asks_to_stop_is_done() -> None:
    assert StopRequest().unless_asked(lambda: "done") == "done"


def test_the_time_limit_leaves_time_to_save() -> None:
    stop = StopRequest()
    stop.limit(None)
    assert not stop
    assert stop.seconds_left is None
    stop.limit(100.0)
    assert not stop
    stop.step_takes(20.0)  # two steps, and five seconds to spare
    assert not stop
    stop.saving_takes(30.0)
    assert stop
    assert stop.reason == "the time limit"


def test_signals_that_were_held_back_come_when_there_are_handlers() -> None:
    script = """
import os, signal
from seq2seq.training.stopping import SIGNALS, StopRequest
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
os.kill(os.getpid(), signal.SIGTERM)
stop = StopRequest()
stop.install()
print(stop.reason)
"""
    end = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (end.returncode, end.stdout) == (0, "SIGTERM\n")


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
