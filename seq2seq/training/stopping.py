"""Requests to stop, by signal. The handler sets a flag, nothing more."""

import os
import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopNow(BaseException):
    """Ctrl-C came twice, or before there was anything to save: stop at once."""


class StopRequest:
    """Whether this process has been asked to stop.

    Training looks at it after each step, validation between batches. Workers that are forked
    inherit the handler, but not its effect.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._process = os.getpid()
        self._at_once = True

    def __bool__(self) -> bool:
        return self.reason is not None

    def install(self) -> None:
        """Handle SIGINT, SIGTERM and SIGUSR1 from here on; Ctrl-C stops at once."""
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def begin(self) -> None:
        """From here on there is something to save: only the second Ctrl-C stops at once."""
        self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        self.reason = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if number == signal.SIGINT:
            if self._at_once:
                raise StopNow
            self._at_once = True
