"""Checkpoint files: whole, checksummed, and loaded without running code from them.

A file is a line that names the format, a line with the digest of all the rest, and what
`torch.save` makes of plain types and tensors. torch itself loads a file with a flipped byte without
a word.
"""

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from seq2seq.errors import ModelError
from seq2seq.files import allowed, write_whole
from seq2seq.terminal import say

FORMAT = 3
_HEAD = b"seq2seq checkpoint %d"


class DamagedCheckpointError(ModelError):
    """A checkpoint whose content isn't what was written."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """Name the file of a step."""
    return folder / f"step-{step:08d}.ckpt"


def step_of(path: Path) -> int:
    """Tell the step of a checkpoint by its name."""
    return int(path.stem.removeprefix("step-"))


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints, oldest first.

    Raises:
        ModelError: nobody may look there.
    """
    try:
        return sorted(folder.glob("step-*.ckpt"))
    except OSError as error:
        raise ModelError(f"{folder} can't be read: {error.strerror}") from error


def write_checkpoint(
    path: Path, content: dict[str, Any], *, check: Callable[[], None] = allowed
) -> None:
    """Write a checkpoint; it takes its place once it is whole.

    Args:
        path: the place.
        content: plain types and tensors.
        check: is called before it takes its place, and raises where it may not.

    Raises:
        UserError: it can't be written.
    """
    buffer = BytesIO()
    torch.save(content, buffer)
    head, payload = _HEAD % FORMAT, buffer.getvalue()
    write_whole(path, b"\n".join((head, _digest(head, payload), payload)), check=check)


def _digest(head: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(head)
    digest.update(payload)
    return digest.hexdigest().encode()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        ModelError: it can't be read, is damaged, or has another format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the checkpoint {path} can't be read: {error.strerror}") from error
    head, _, rest = content.partition(b"\n")
    digest, _, payload = rest.partition(b"\n")
    if _digest(head, payload) != digest:
        raise DamagedCheckpointError(
            f"the checkpoint {path} is damaged: its content doesn't fit its checksum"
        )
    if head != _HEAD % FORMAT:
        found = head.rpartition(b" ")[2].decode()
        raise ModelError(
            f"the checkpoint {path} has format {found}, but this version reads format {FORMAT}: go"
            " on with the version that wrote it, or choose another training.folder"
        )
    try:
        return torch.load(BytesIO(payload), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelError(f"the checkpoint {path} holds code, which is never run") from error


def evaluated_weights(saved: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return what is validated of a run: its average of the weights, if it has one."""
    return saved["average"] or saved["weights"]


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that is whole; damaged ones are named and passed over.

    Raises:
        ModelError: all are damaged; or the newest can't be read just now, or is of another version
            of the program, and must not make room for what follows an older one.
    """
    paths = checkpoints(folder)
    for path in reversed(paths):
        try:
            return read_checkpoint(path)
        except DamagedCheckpointError as error:
            say(f"{error}; trying the one before")
    if paths:
        raise ModelError(f"all checkpoints in {folder} are damaged: choose another training.folder")
    return None


def remove_checkpoints(folder: Path, *, step: int, keep_last: int, keep_steps: list[int]) -> None:
    """Delete all but the newest and those of certain steps.

    Those of later steps than `step`, which has just been saved, are damaged ones that were passed
    over: they must not count as the newest.
    """
    paths = [path for path in checkpoints(folder) if path <= checkpoint_path(folder, step)]
    kept = {*paths[-keep_last:], *(checkpoint_path(folder, best) for best in keep_steps)}
    for path in checkpoints(folder):
        if path not in kept:
            path.unlink(missing_ok=True)
