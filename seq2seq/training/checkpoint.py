"""Checkpoint files: whole, checksummed, and loaded without running code from them.

A file is a line that names the format, a line with the digest of the rest, and what `torch.save`
makes of plain types and tensors. torch itself loads a file with a flipped byte without a word.
"""

import hashlib
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from seq2seq.errors import ModelError
from seq2seq.files import write_whole
from seq2seq.terminal import say

FORMAT = 1
_MAGIC = b"seq2seq checkpoint "


def checkpoint_path(folder: Path, step: int) -> Path:
    """Name the file of a step."""
    return folder / f"step-{step:08d}.ckpt"


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints, oldest first."""
    return sorted(folder.glob("step-*.ckpt"))


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint; it takes its place once it is whole."""
    buffer = BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest().encode()
    write_whole(path, _MAGIC + str(FORMAT).encode() + b"\n" + digest + b"\n" + payload)


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
    if head != _MAGIC + str(FORMAT).encode():
        raise ModelError(f"{path} is no checkpoint of format {FORMAT}, which this version reads")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise ModelError(f"the checkpoint {path} is damaged: its content doesn't fit its checksum")
    try:
        return torch.load(BytesIO(payload), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelError(f"the checkpoint {path} holds code, which is never run") from error


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that is whole; damaged ones are named and passed over.

    Raises:
        ModelError: there are checkpoints, but none can be read.
    """
    paths = checkpoints(folder)
    for path in reversed(paths):
        try:
            return read_checkpoint(path)
        except ModelError as error:
            say(f"{error}; trying the one before")
    if paths:
        raise ModelError(f"none of the checkpoints in {folder} can be read")
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
