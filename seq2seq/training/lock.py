"""The run folder's lock: one run writes to it, and one that has lost it stops.

A lease of `filelock`'s: its owner gives a sign of life every few seconds, and whoever has watched
in vain for half a minute, by a clock of its own, takes it over. An owner that has been killed is
known at once where its process can be looked at; after SLURM has started a job again, so is the
job's earlier start, by its restart count. A lease does not keep an owner from writing that was only
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
from seq2seq.parallel.slurm import job_name
from seq2seq.terminal import say

_SPACE = "/proc/self/ns/pid"  # Linux's
_LEASE = 30.0  # seconds without a sign of life after which an owner counts as gone


class Owner(NamedTuple):
    """Who has the lock, as a file beside it tells."""

    process: int
    host: str
    space: str
    """Which processes can be looked at there: a container has its own."""
    job: str = ""
    """SLURM's id of the job; empty without SLURM."""
    restarts: int = 0
    """How often SLURM has started the job again."""
    token: str = ""
    """What the lock holds as long as it is this owner's."""

    def follows(self, other: "Owner") -> bool:
        """Whether this is a later start of the same SLURM job."""
        return bool(self.job) and self.job == other.job and self.restarts > other.restarts

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
            self._sign()
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"the run folder {self._folder} can't be written: {reason}") from error

    def _sign(self) -> None:
        owner = _this_process()._replace(token=self._lease.token or "")
        write_whole(self._owner_path, json.dumps(owner._asdict()).encode())

    def release(self) -> None:
        """Leave the folder to others, if it is this process's."""
        with suppress(OSError):  # whoever comes next finds out that this process is gone
            if self._is_held():
                self._owner_path.unlink()
            self._lease.release()

    def holder(self) -> Owner | None:
        """Say which other process is at work in the folder, as far as can be told at once."""
        owner, this = self._owner(), _this_process()
        if owner is None or owner.token == self._lease.token:
            return None
        if (owner.host, owner.space) != (this.host, this.space):
            return owner
        try:
            os.kill(owner.process, 0)
        except ProcessLookupError:
            return None
        except OSError:  # it is another person's
            return owner
        return owner

    def check(self) -> None:
        """Make sure that the folder is still this process's, and known to be.

        Raises:
            ModelError: it is no more, so nothing in it may be replaced.
            OSError: that can't be found out.
        """
        if self._is_held() and self._lease.compromise is not None:
            self._renew()
        if not self._is_held():
            now = self._owner()
            taken = f"was taken over by {now}" if now else "has lost its lock"
            raise ModelError(
                f"the run folder {self._folder} {taken}: this process stops, and saves nothing"
            )

    def _renew(self) -> None:
        """Take the lease anew: the disk was away for so long that its signs of life have ended."""
        with suppress(Timeout):  # then it is another one's by now
            self._lease.release()
            self._lease.acquire(timeout=0)
            self._sign()

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
            owner, this = self._owner(), _this_process()
        if owner and this.follows(owner):
            say(f"{owner} was there before SLURM started the job again: taking its place")
            self._path.unlink(missing_ok=True)
        elif owner and (owner.host, owner.space) == (this.host, this.space):
            raise self._in_use(owner)  # its process has been looked at
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
        unknown = "" if owner else f"; if there is none, delete {self._path}"
        return ModelError(
            f"the run folder {self._folder} is in use by {owner or 'another process'}: wait for"
            f" it, or choose another training.folder{unknown}"
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
        space=os.readlink(_SPACE) if os.path.islink(_SPACE) else "",
        job=job_name(),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    )
