"""Requests to stop: by signal, whose handler sets a flag and nothing more, or by a time limit."""

import math
import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What asks a run to stop."""
_CTRL_C = "Ctrl-C"
_GRACE = 20.0  # seconds that a process which was asked to stop waits for one that hasn't come
_AGAIN = 1.0  # seconds until Ctrl-C counts as a second one
_LONG = 900.0  # seconds before a time limit at which nothing asks because of it
_SPARE = 5.0  # seconds a process may take from the last save to its end


Result = TypeVar("Result")


def seconds_to_stop(step: float, saving: float) -> float:
    """Say how long before its time limit a run begins to stop.

    Two steps, since the processes agree one late; saving may take longer than last time.

    Args:
        step: seconds that a step takes.
        saving: seconds that a checkpoint takes.
    """
    return 2 * step + 2 * saving + _SPARE


class StopNow(BaseException):
    """Stop at once: Ctrl-C came twice, or there is nothing yet that would have to be saved."""


class StopRequest:
    """Whether this process has been asked to stop.

    Training looks at it after each step, validation between batches. Workers that are forked
    inherit the handler, but not its effect.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._process = os.getpid()
        self._early = True
        self._asked_at = self._interrupted = math.inf
        self._over = False
        self._idle = False
        self._deadline: float | None = None
        self._step = self._saving = 0.0  # seconds

    def __bool__(self) -> bool:
        needed = seconds_to_stop(self._step, self._saving)
        if self.reason is None and self.seconds_left is not None and self.seconds_left < needed:
            self.reason = "the time limit"
        return self.reason is not None

    @property
    def by_hand(self) -> bool:
        """Whether a person at the terminal has asked."""
        return self.reason == _CTRL_C

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the time limit; none where there is no limit."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    @property
    def is_long_before_limit(self) -> bool:
        """Whether it can't be the time limit that has asked, nor SLURM's signal before it."""
        return self.seconds_left is not None and self.seconds_left > _LONG

    def limit(self, seconds: float | None) -> None:
        """Ask to stop so early that all is saved in this time from now, if there is a limit.

        The clock is one that is never set, so that nobody who sets the other one stops a run.
        """
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def step_takes(self, seconds: float) -> None:
        """Note how long a step took, so that the limit is not noticed too late."""
        self._step = seconds

    def saving_takes(self, seconds: float) -> None:
        """Note how long saving takes."""
        self._saving = seconds

    def install(self) -> None:
        """Handle SIGINT, SIGTERM and SIGUSR1 from here on; Ctrl-C stops at once."""
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the launcher holds them back

    def begin(self) -> None:
        """From here on there is something to save: only the second Ctrl-C stops at once."""
        self._early = False

    def unless_asked(self, work: Callable[[], Result]) -> Result | None:
        """Do work that any request may cut off, since nothing of it would be lost.

        It is cut off between two lines of Python; a long call of a library's is waited for.

        Returns:
            The work's result; nothing if it was cut off, or not begun because a request had come.
        """
        try:
            self._idle = True
            return None if self else work()
        except StopNow:
            if self.by_hand:
                raise
            return None
        finally:
            self._idle = False

    def give_up(self) -> None:
        """End waiting for a process that doesn't come, some time after a request to stop.

        It may have been asked too, before it had its handlers, and so is gone.

        Raises:
            StopNow: this process was asked long ago.
        """
        if self.reason is not None and time.monotonic() - self._asked_at > _GRACE:
            raise StopNow

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        if self.reason is None:
            self._asked_at = time.monotonic()
        self.reason = _CTRL_C if number == signal.SIGINT else signal.Signals(number).name
        by_hand_again = number == signal.SIGINT and self._is_repeated()
        if (self._idle or by_hand_again) and not self._over:
            # What is done after it, to tidy up, is not to be cut off once more.
            self._idle, self._over = False, self.by_hand
            raise StopNow

    def _is_repeated(self) -> bool:
        """Whether this Ctrl-C is one too many: the second one, or any while nothing is to be saved.

        Two in a second are one: torchrun hands on to its processes what they have had already.
        """
        now = time.monotonic()
        self._interrupted = min(self._interrupted, now)
        return self._early or now - self._interrupted > _AGAIN
