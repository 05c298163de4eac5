"""The data folder, and the run folder's disk: the same for all nodes, writable, large, fast."""

import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal as shown

from seq2seq.config import Config, HubCorpus
from seq2seq.data.corpus import missing_files
from seq2seq.data.prepare import prepared_before, prepared_by_another
from seq2seq.data.prepared import PreparedData
from seq2seq.doctor.findings import Finding, failure, failure_of, fine, remark
from seq2seq.errors import UserError
from seq2seq.parallel.group import Group
from seq2seq.training.boundary import end_reason
from seq2seq.training.checkpoint import newest_checkpoint
from seq2seq.training.compatibility import Facts, check_checkpoint, difference
from seq2seq.training.lock import RunLock
from seq2seq.training.run_folder import Room, RunFolder
from seq2seq.training.state import RunState

_WRITTEN = 64 * 2**20  # bytes, at most, to see how fast the disk is
_BLOCK = 2**20  # bytes
_LONG = 60.0  # seconds that saving may take before it is worth a word
_DISK_DELAY = 30.0  # seconds until other nodes see a new file on a shared disk
_LOOK = 0.2  # seconds between two looks


class Prepared(NamedTuple):
    """What a process finds where the data folder should be."""

    host: str
    there: bool
    mistake: str
    """Why it can't be used; empty where it can."""
    facts: Facts


def check_data(config: Config, group: Group) -> tuple[list[Finding], str]:
    """Look at the data folder, which must be the same for all processes; all must call it.

    Returns:
        The findings, and the fingerprint of the data; empty where it can't be used (yet).
    """
    fingerprint, mistake = "", ""
    there = config.data.folder.exists()
    if there:
        try:
            find = prepared_before if group.place.is_first else prepared_by_another
            fingerprint = find(config).fingerprint
            PreparedData.open(config.data.folder).split("train")
        except UserError as error:
            mistake = str(error)
    own = Prepared(socket.gethostname(), there, mistake, Facts.of(config, RunState()))
    everyone = group.gather(own)
    findings = _unlike(config.data.folder, everyone)
    if not everyone[0].there and not findings:
        return _to_be_prepared(config, group), ""
    told = [fine("data", f"{config.data.folder} is prepared, and the same for all processes")]
    if len(everyone) == 1:
        told = [fine("data", f"{config.data.folder} is prepared")]
    return findings or told, "" if findings else fingerprint


def _unlike(folder: Path, everyone: list[Prepared]) -> list[Finding]:
    first, *others = everyone
    cure = "put data.folder on a disk that all nodes share, or copy it to each"
    findings: list[Finding] = []
    for rank, process in enumerate(everyone):
        where = f"{process.host} (rank {rank})"
        if first.there and not process.there:
            found = f"there is no folder {process.facts.settings['data']['folder']} on {where}"
            findings.append(failure("data", found, cure))
        elif process.there and not first.there:
            found = f"{folder} is on {where}, but rank 0 on {first.host} has none"
            findings.append(failure("data", found, cure))
        elif process.mistake:
            found = failure_of("data", UserError(process.mistake), cure)
            seen = f"{found.found} (seen from {where})"
            mended = found.cure if process is first or first.mistake else cure
            findings.append(failure("data", seen, mended))
    if findings:
        return findings
    for rank, process in enumerate(others, start=1):
        if unlike := difference(first.facts, process.facts):
            both = f"rank {rank} on {process.host} and rank 0 on {first.host} can't train together"
            what = "settings" if first.facts.files == process.facts.files else "data"
            findings.append(failure_of(what, UserError(f"{both}: {unlike}"), cure))
    return findings


def _to_be_prepared(config: Config, group: Group) -> list[Finding]:
    """Say that the data is still to be prepared, and whether there is something to be read."""
    gone = group.share(missing_files(config.data))
    if gone:
        found = f"no file {', '.join(map(str, gone))}, seen from {os.getcwd()}"
        return [failure("data", found, "mend the paths in data.corpus, or put the files there")]
    corpus = config.data.corpus
    source = ""
    if isinstance(corpus, HubCorpus) and not Path(corpus.name).exists():
        source = f", from the Hub's {corpus.name}, which needs a network"
    found = f"{config.data.folder} isn't prepared: the first process will do it{source}"
    cure = (
        "run `seq2seq prepare` with this config before, so that no processes wait for it; then"
        " memory and time can be tried here, too"
    )
    return [remark("data", found, cure)]


class Disk(NamedTuple):
    """What the first process has found of the run folder's disk."""

    mistake: str
    token: str
    """What all nodes must find in the file."""
    speed: float
    """Bytes a second that it takes, flushed."""


def check_disk(
    config: Config, group: Group, room: Room, patience: float
) -> tuple[list[Finding], float | None]:
    """Write to the run folder, and see that all nodes see it; all must call it.

    Nothing of it stays, nor do folders that were made for it.

    Args:
        config: of the run.
        group: the processes.
        room: what the run's files take, and what is free.
        patience: seconds that a process waits for the others.

    Returns:
        The findings, and the bytes a second that the disk takes; none where it takes nothing.
    """
    folder = config.training.folder
    name = group.share(f".doctor.partial-{os.getpid()}")  # train would clear it away
    with _removed(folder / name, group):
        disk = Disk("", "", 0.0)
        if group.place.is_first:
            disk = _write(folder / name, min(_WRITTEN, room.checkpoint, room.free // 2))
        disk = group.share(disk)
        if disk.mistake:
            cure = "choose a training.folder that can be written, or make room on its disk"
            return [failure("run folder", disk.mistake, cure)], None
        wait = min(_DISK_DELAY, patience / 4)
        sees = _sees(folder / name, disk.token, wait)
        seen = group.gather((socket.gethostname(), str(folder), sees))
    first = f"{seen[0][1]} on {seen[0][0]} (rank 0)"
    blind = [(rank, *found) for rank, found in enumerate(seen) if not found[-1]]
    findings = [
        failure(
            "run folder",
            f"{there} on {host} (rank {rank}) doesn't show what is written to {first}",
            "put training.folder on a disk that all nodes share",
        )
        for rank, host, there, _ in blind
    ]
    return findings or [_disk_speed(folder, disk.speed, room), *_judge(room)], disk.speed


@contextmanager
def _removed(path: Path, group: Group) -> Generator[None]:
    """Let the first process make a file; afterwards remove it, and the folders made for it."""
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        yield
    finally:
        if group.place.is_first:
            with suppress(OSError):
                path.unlink()
            with suppress(OSError):  # another run may have begun to use one
                for folder in made:
                    folder.rmdir()


def _write(path: Path, size: int) -> Disk:
    """Write a file of some bytes, and flush it; the token is its beginning."""
    token = f"{socket.gethostname()} {os.getpid()} {time.time()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        with path.open("wb") as file:
            file.write(token.encode() + b"\n")
            block = os.urandom(_BLOCK)  # a disk may pack what is all the same
            for start in range(0, size, _BLOCK):
                file.write(block[: size - start])
            file.flush()
            os.fsync(file.fileno())
            written = file.tell()
    except OSError as error:
        return Disk(f"{path.parent} can't be written: {error.strerror or error}", "", 0.0)
    return Disk("", token, written / max(time.perf_counter() - began, 1e-6))


def _sees(path: Path, token: str, wait: float) -> bool:
    """Look for a file with a token until it is seen, or the wait in seconds is over."""
    deadline = time.monotonic() + wait
    while True:
        with suppress(OSError), path.open("rb") as file:
            if file.readline() == token.encode() + b"\n":
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK)


def _disk_speed(folder: Path, speed: float, room: Room) -> Finding:
    seconds = room.checkpoint / speed
    found = f"{folder} takes {shown(int(speed))}/s, so a checkpoint {seconds:.1f} s"
    if seconds > _LONG:
        cure = "choose a training.folder on a faster disk, or raise training.checkpoint.every"
        return remark("run folder", found, cure)
    return fine("run folder", found)


def _judge(room: Room) -> list[Finding]:
    """Compare what the run's files take with what is free."""
    if room.too_small:
        return [failure_of("disk space", UserError(room.too_small), "make room")]
    if room.may_get_full:
        told = f"{room.may_get_full.partition(': ')[0]}: {room.summary()}"
        return [remark("disk space", told, room.may_get_full.partition(": ")[2])]
    return [fine("disk space", room.summary())]


def check_run(config: Config, group: Group, fingerprint: str) -> tuple[list[Finding], RunState]:
    """Look for a run in the folder, and whether it could go on; all must call it.

    Args:
        config: of the run.
        group: the processes.
        fingerprint: of the prepared data; empty where there is none.

    Returns:
        The findings, and where the run stands.
    """
    found = _look_for_run(config, fingerprint) if group.place.is_first else None
    return group.share(found)


def _look_for_run(config: Config, fingerprint: str) -> tuple[list[Finding], RunState]:
    folder, state = config.training.folder, RunState()
    findings: list[Finding] = []
    if (owner := RunLock(folder).holder()) is not None:
        told = f"{folder} is in use by {owner}: another job would be refused"
        cure = "wait for it, or choose another training.folder"
        findings.append(remark("run", told, cure))
    try:
        saved = newest_checkpoint(RunFolder(config, resume=True).checkpoints)
        if saved is None:
            return findings, state
        if fingerprint:
            check_checkpoint(saved, config, fingerprint)
        state = RunState.from_plain(saved["state"])
    except UserError as error:
        return [*findings, failure_of("run", error, "choose another training.folder")], state
    return [*findings, _goes_on(config, state)], state


def _goes_on(config: Config, state: RunState) -> Finding:
    folder = config.training.folder
    reason = "" if state.validation_due else end_reason(state, config)
    if reason:
        found = f"the run in {folder} has ended at step {state.step:,}: {reason}"
        return remark("run", found, "raise that to go on, or choose another training.folder")
    found = f"the run in {folder} goes on from step {state.step:,} of {config.training.steps:,}"
    cure = "give --resume, as slurm/train.sbatch does, without which it would be refused"
    return remark("run", found, cure)
