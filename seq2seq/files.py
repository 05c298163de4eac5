"""Files and folders that appear whole or not at all."""

import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from seq2seq.errors import UserError

_BLOCK, _BLOCKS = 2**16, 1024  # bytes, and how many of them are digested


def allowed() -> None:
    """Hold nobody back: what `check` is where anyone may write."""


@contextmanager
def whole_folder(folder: Path, *, check: Callable[[], None] = allowed) -> Generator[Path]:
    """Give a folder to fill that takes its place, or the old one's, once it is whole.

    Args:
        folder: the place.
        check: is called before anything there is replaced, and raises where it may not be.

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
        check()
        _replace(partial, folder)
    except OSError as error:
        raise UserError(f"{folder} can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def whole_file(path: Path, *, check: Callable[[], None] = allowed) -> Generator[BinaryIO]:
    """Give a file to fill that takes its place, or the old one's, once it is whole.

    It is written beside its place, flushed to disk, and renamed.

    Args:
        path: the place.
        check: is called before anything there is replaced, and raises where it may not be.

    Raises:
        UserError: it can't be written, or something else than a file is there.
    """
    path = Path(os.path.realpath(path))  # a link stays, and what it leads to is replaced
    if path.exists() and not path.is_file():
        raise UserError(f"{path} can't be written: it is no plain file")
    with _beside(path) as partial:
        with partial.open("wb") as file:
            yield file
        _flush(partial)
        check()
        partial.replace(path)


@contextmanager
def _beside(path: Path) -> Generator[Path]:
    """Give a place beside a file's to write at and to move from; nothing stays there."""
    # By chance, since processes of several machines may have the same number.
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(8)}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _flush(path.parent)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def write_whole(path: Path, content: bytes, *, check: Callable[[], None] = allowed) -> None:
    """Write a file that appears whole; the arguments and errors are those of `whole_file`."""
    with whole_file(path, check=check) as file:
        file.write(content)


def create_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole; one that is there already, or comes first, stays.

    Raises:
        UserError: it can't be written.
    """
    with _beside(path) as partial:
        partial.write_bytes(content)
        _flush(partial)
        with suppress(FileExistsError):
            os.link(partial, path)


def digest(path: Path) -> str:
    """Digest a file's size and up to 64 MiB of it: blocks at even distances."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, 2)
        found.update(str(size).encode())
        for start in range(0, size, max(_BLOCK, -(-size // _BLOCKS))):
            file.seek(start)
            found.update(file.read(_BLOCK))
    return found.hexdigest()


def clear_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what a kill left behind where files and folders were being written.

    A folder that was moved aside, and whose successor had not yet taken its place, moves back.
    Nobody else may be writing in `folder`, or what is called `name` there.
    """
    pattern = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{pattern}.partial-*"):
        _remove(path)
    for old in folder.glob(f".{pattern}.old-*"):
        place = folder / old.name[1:].rpartition(".old-")[0]
        if place.exists():
            _remove(old)
        else:
            old.rename(place)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _replace(partial: Path, folder: Path) -> None:
    """Put the new folder in the old one's place; a rename can't replace a folder with files."""
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    try:
        if folder.is_dir():  # a file there makes the second rename fail
            folder.rename(old)
        partial.rename(folder)
    except BaseException:  # Ctrl-C too, which may come right after either
        if old.exists() and not folder.exists():
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
