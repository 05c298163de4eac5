"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from seq2seq.errors import UserError


@contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """Give a folder to fill that takes its place, or the old one's, once it is whole.

    Raises:
        UserError: nothing can be written there.
    """
    folder = Path(os.path.realpath(folder))  # a link stays, and what it leads to is replaced
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        for path in (*partial.iterdir(), partial):
            _flush(path)
        _replace(partial, folder)
    except OSError as error:
        raise UserError(f"{folder} can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, flush it to disk, and rename it.

    Raises:
        UserError: it can't be written, or something else than a file is there.
    """
    path = Path(os.path.realpath(path))  # a link stays, and what it leads to is replaced
    if path.exists() and not path.is_file():
        raise UserError(f"{path} can't be written: it is no plain file")
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        _flush(partial)
        partial.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _replace(partial: Path, folder: Path) -> None:
    """Put the new folder in the old one's place; a rename can't replace a folder with files."""
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.is_dir():  # a file there makes the second rename fail
        folder.rename(old)
    try:
        partial.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    _flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
