r"""Text files, plain or packed: opened, read line by line, and side by side.

Lines end at `\n` alone, whatever else Unicode calls a line break, and a `\r` before it belongs to
the line end. What a file is follows from its name's ending.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow

from seq2seq.errors import DataError

Pairs = Iterator[tuple[str, str]]

PACKED = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2", ".zst": "zstd"}
_FORMATS = {**PACKED, ".parquet": "Parquet", ".arrow": "Arrow"}
_CHUNK = 1 << 16
_BLOCK = 1 << 20


def ending(path: Path) -> str:
    """Return the last ending of a file's name, such as `.gz`."""
    return path.suffix.lower()


@contextmanager
def open_file(path: Path) -> Generator[io.BufferedIOBase]:
    """Open a file for reading; what is packed is unpacked on the way.

    Raises:
        DataError: it is missing or unreadable, or while it is read turns out to be damaged.
    """
    try:
        with path.open("rb") as file:
            if ending(path) in PACKED:
                with _unpack(file, ending(path)) as unpacked:
                    yield unpacked
            else:
                yield file
    except (EOFError, zlib.error, lzma.LZMAError, pyarrow.ArrowException, UnicodeError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.strerror is None:  # found by whoever unpacks, not by the system
            raise _damaged(path, error) from error
        raise DataError(f"{path} can't be read: {error.strerror}") from error


def _damaged(path: Path, error: Exception) -> DataError:
    form = _FORMATS.get(ending(path), "text")
    reason = str(error).strip().split("\n")[0]
    return DataError(f"{path} is no {form} file, is damaged, or goes on after its end: {reason}")


def _unpack(file: io.BufferedReader, packing: str) -> io.BufferedIOBase:
    if not file.peek(1):
        raise EOFError("it is empty")  # gzip and pyarrow would read an empty text
    match packing:
        case ".gz":
            return gzip.open(file)
        case ".zst":
            return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))
        case ".xz":
            return io.BufferedReader(_Streams(file, lzma.LZMADecompressor), _CHUNK)
        case _:
            return io.BufferedReader(_Streams(file, bz2.BZ2Decompressor), _CHUNK)


class _Streams(io.RawIOBase):
    """What is packed in xz or bzip2 streams that follow each other.

    The standard library's readers of these take everything from a damaged second stream on for
    padding, and end there without a word.
    """

    def __init__(self, file: io.BufferedReader, start: Callable[[], Any]):
        self._file, self._start = file, start
        self._stream = start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        unpacked = b""
        while not unpacked:
            packed = b""
            if self._stream.eof:
                packed = self._stream.unused_data or self._file.read(_CHUNK)
                if not packed:
                    return 0
                self._stream = self._start()
            elif self._stream.needs_input:
                packed = self._file.read(_CHUNK)
                if not packed:
                    raise EOFError("it ends too early")
            unpacked = self._stream.decompress(packed, len(buffer))
        buffer[: len(unpacked)] = unpacked
        return len(unpacked)


def read_parallel(source: Path, target: Path) -> Pairs:
    """Go through two text files side by side.

    Raises:
        DataError: one can't be read, or they differ in their number of lines.
    """
    lines = zip_longest(read_lines(source), read_lines(target))
    for number, (left, right) in enumerate(lines, start=1):
        if left is None or right is None:
            longer, shorter = (target, source) if left is None else (source, target)
            more = number + sum(1 for _ in lines)
            raise DataError(
                f"{shorter} has {number - 1} lines, but {longer} has {more}:"
                " parallel files must have as many lines as each other"
            )
        yield left, right


def read_lines(path: Path) -> Iterator[str]:
    """Go through a text file's lines, without their ends.

    Raises:
        DataError: the file is missing, unreadable, damaged, or not UTF-8 (with the line's number).
    """
    number = 1
    with open_file(path) as file:
        while block := file.read(_CHUNK):  # many at once take a fraction of the time
            block += file.readline()
            try:
                text = block.decode("utf-8")
            except UnicodeDecodeError:
                for place, line in enumerate(block.split(b"\n")):
                    _decoded(path, number + place, line)
                raise
            lines = (text.removeprefix("\ufeff") if number == 1 else text).split("\n")
            if text.endswith("\n"):
                lines.pop()
            yield from (line.removesuffix("\r") for line in lines) if "\r" in text else lines
            number += len(lines)


def read_whole_lines(path: Path) -> Iterator[str]:
    """Go through a text file's lines as `read_lines` does, but with their ends."""
    for number, line in enumerate(read_raw_lines(path), start=1):
        text = _decoded(path, number, line)
        yield text.removeprefix("\ufeff") if number == 1 else text


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number} is not UTF-8 (byte {error.start + 1} of the line is"
            f" 0x{line[error.start]:02x}): convert the file to UTF-8"
        ) from error


def read_raw_lines(path: Path) -> Iterator[bytes]:
    """Go through a text file's lines as they are stored, with their ends.

    Raises:
        DataError: the file is missing, unreadable or damaged.
    """
    with open_file(path) as file:
        yield from file


def count_lines(path: Path) -> int:
    """Count a text file's lines; the last one may lack its end.

    Raises:
        DataError: the file is missing, unreadable or damaged.
    """
    count, last = 0, b"\n"
    with open_file(path) as file:
        while block := file.read(_CHUNK):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")
