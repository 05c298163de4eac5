"""The run folder's lock: one run writes to it, and one that has lost it stops.

A lease of `filelock`'s: its owner gives a sign of life every few seconds, and whoever has watched
in vain for half a minute, by a clock of its own, takes it over. An owner on this machine that has
been killed is known at once, by its process; after SLURM has started a job again, so is the job's
earlier start, by its restart count. A lease does not keep an owner from writing that was only
thought dead: hence `check`, before anything takes its place in the folder.
"""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import SoftFileLease, Timeout

from seq2seq.errors import ModelError, UserError
from seq2seq.files import write_whole
from seq2seq.terminal import say

_LEASE = 30.0  # seconds without a sign of life after which an owner counts as gone


class Owner(NamedTuple):
    """Who has the lock, as a file beside it tells."""

    process: int
    host: str
    job: str = ""
    """SLURM's id of the job; empty without SLURM."""
    restarts: int = 0
    """How often SLURM has started the job again."""
    token: str = ""
    """What the lock holds as long as it is this owner's."""

    def __str__(self) -> str:
        """Name the owner for a person."""
        job = f", job {self.job}" if self.job else ""
        return f"process {self.process} on {self.host}{job}"


class RunLock:
    """Keeps a run folder to one process."""

    def __init__(self, folder: Path, *, lease: float = _LEASE):
        """Say which folder.

        Args:
            folder: the run folder; it is made if it isn't there.
            lease: seconds without a sign of life after which an owner counts as gone. All who
                want the folder must give the same.
        """
        self._folder, self._path = folder, folder / "lock"
        self._patience = lease + 5.0
        self._lease = SoftFileLease(self._path, lease_duration=lease)

    def acquire(self) -> None:
        """Make the folder this process's.

        Raises:
            UserError: another process is at work in the folder, or it can't be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._take_lease()
            owner = _this_process()._replace(token=self._lease.token or "")
            write_whole(self._owner_path, json.dumps(owner._asdict()).encode())
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"the run folder {self._folder} can't be written: {reason}") from error

    def release(self) -> None:
        """Leave the folder to others, if it is this process's."""
        if self._is_held():
            with suppress(OSError):
                self._owner_path.unlink()
        self._lease.release()

    def check(self) -> None:
        """Make sure that the folder is still this process's.

        Raises:
            ModelError: it is no more, so nothing in it may be replaced.
        """
        if not self._is_held():
            now = self._owner()
            taken = f"was taken over by {now}" if now else "has lost its lock"
            raise ModelError(
                f"the run folder {self._folder} {taken}: this process stops, and saves nothing"
            )

    def _is_held(self) -> bool:
        token = self._lease.token
        return token is not None and token in self._content()

    @property
    def _owner_path(self) -> Path:
        return self._folder / "owner.json"

    def _take_lease(self) -> None:
        try:
            self._lease.acquire(timeout=0)
            return
        except Timeout:
            owner = self._owner()
        if owner and owner.job and owner.job == _this_process().job:
            if owner.restarts < _this_process().restarts:
                say(f"{owner} was there before SLURM started the job again: taking its place")
                self._path.unlink(missing_ok=True)
        elif owner and owner.host == socket.gethostname():
            raise self._in_use(owner)
        else:
            say(f"the run folder {self._folder} belongs to {owner or 'another process'}: waiting")
        self._wait(owner)

    def _wait(self, owner: Owner | None) -> None:
        """Watch for a sign of life; without one, the lease becomes this process's."""
        last = self._sign_of_life()
        try:
            self._lease.acquire(
                timeout=self._patience, cancel_check=lambda: self._sign_of_life() != last
            )
        except Timeout as error:
            raise self._in_use(owner) from error

    def _sign_of_life(self) -> float:
        try:
            return self._path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _in_use(self, owner: Owner | None) -> ModelError:
        return ModelError(
            f"the run folder {self._folder} is in use by {owner or 'another process'}: wait for"
            " it, or choose another training.folder"
        )

    def _content(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _owner(self) -> Owner | None:
        """Say who has the lock; nothing where that isn't known (yet)."""
        try:
            owner = Owner(**json.loads(self._owner_path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return owner if owner.token and owner.token in self._content() else None


def _this_process() -> Owner:
    return Owner(
        process=os.getpid(),
        host=socket.gethostname(),
        job=os.environ.get("SLURM_JOB_ID", ""),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    )
