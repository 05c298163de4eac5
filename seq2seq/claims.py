"""Pieces of work in a shared folder, each of which one process has at a time.

A claim is a lease of `filelock`'s: its owner gives a sign of life every few seconds. It keeps work
from being done twice and nothing more: an owner that was only thought dead goes on, so what two of
them do must be the same.
"""

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLease, Timeout

from seq2seq.errors import UserError

LEASE = 30.0  # seconds without a sign of life after which an owner counts as gone
# Seconds more, after which a claim goes that nobody can take over: its owner was killed before it
# had signed.
_GRACE = 5.0
_NONE = 0.0


class Claims:
    """The claims of all processes that work in a folder."""

    def __init__(self, folder: Path, *, lease: float = LEASE):
        """Say which folder.

        Args:
            folder: where the claims are files; it is made if it isn't there.
            lease: seconds without a sign of life after which an owner counts as gone. All who
                work in the folder must give the same.
        """
        self._folder, self._seconds = folder, lease

    @contextmanager
    def take(self, name: str) -> Generator[bool]:
        """Claim a piece of work for as long as the block lasts; say whether that worked.

        It does where nobody has claimed it, and where its owner was a process of this machine that
        is gone.

        Raises:
            UserError: nothing can be written in the folder.
        """
        lease = self._lease(name)
        try:
            yield self._acquire(lease)
        finally:
            with suppress(OSError):  # whoever comes next finds out that this process is gone
                lease.release()

    @contextmanager
    def take_over(self, name: str) -> Generator[bool]:
        """Claim as `take` does, and what an owner elsewhere has who gives no sign of life, too.

        Raises:
            UserError: nothing can be written in the folder.
        """
        while True:
            with self.take(name) as is_ours:
                if is_ours:
                    yield True
                    return
            if name not in self.wait([name]):
                yield False
                return

    def wait(self, names: Iterable[str]) -> set[str]:
        """Watch other processes' claims until each has shown a sign of life or come to its end.

        Returns:
            Those that have come to their end: given back, or taken from an owner that was silent.

        Raises:
            UserError: nothing can be written in the folder.
        """
        watched = {name: (self._lease(name), self._sign_of_life(name)) for name in names}
        deadline = time.monotonic() + self._seconds + _GRACE
        ended = set[str]()
        while watched:
            for name, (lease, last) in list(watched.items()):
                if self._acquire(lease):
                    lease.release()
                    ended.add(name)
                elif self._sign_of_life(name) in (last, _NONE):
                    if time.monotonic() < deadline:
                        continue
                    self._path(name).unlink(missing_ok=True)
                    ended.add(name)
                del watched[name]
            if watched:
                time.sleep(self._seconds / 60)
        return ended

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.claim"

    def _lease(self, name: str) -> SoftFileLease:
        return SoftFileLease(self._path(name), lease_duration=self._seconds)

    def _acquire(self, lease: SoftFileLease) -> bool:
        try:
            lease.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{self._folder} can't be written: {reason}") from error
        return True

    def _sign_of_life(self, name: str) -> float:
        try:
            return self._path(name).stat().st_mtime
        except FileNotFoundError:
            return _NONE
