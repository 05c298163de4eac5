"""Lines of plain and packed text, and what is wrong with others."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from seq2seq.data.text_files import read_lines, read_parallel
from seq2seq.errors import DataError

TEXT = b"one\ntwo\nthree\n"
Pack = Callable[[bytes], bytes]


def pack_zstd(content: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(content, asbytes=True)


PACKERS: dict[str, tuple[str, Pack]] = {
    ".gz": ("gzip", gzip.compress),
    ".xz": ("xz", lzma.compress),
    ".bz2": ("bzip2", bz2.compress),
    ".zst": ("zstd", pack_zstd),
}
each_packing = pytest.mark.parametrize("packing", list(PACKERS))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\n\r\ntwo\r\n", ["one", "", "two"]),
        (b"one\r\ntwo\r", ["one", "two"]),
        (b"one\rmore\ntwo\n", ["one\rmore", "two"]),
        (b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n", ["one", "\ufefftwo"]),
        ("a\u2028b\u2029c\x85d\x0ce\nf\n".encode(), ["a\u2028b\u2029c\x85d\x0ce", "f"]),
        ("  Grüße \t\n漢字\n".encode(), ["  Grüße \t", "漢字"]),
    ],
)
def test_lines_end_at_line_feeds_alone(tmp_path: Path, content: bytes, lines: list[str]):
    assert list(read_lines(write(tmp_path / "text.en", content))) == lines
    for packing, (_, pack) in PACKERS.items():
        assert list(read_lines(write(tmp_path / f"text.en{packing}", pack(content)))) == lines


@each_packing
def test_all_parts_of_a_packed_file_are_read(tmp_path: Path, packing: str):
    _, pack = PACKERS[packing]
    parts = b"".join(pack(part) for part in (b"one\ntw", b"", b"o\n", b"three\n"))
    path = write(tmp_path / f"TEXT{packing.upper()}", parts)
    assert list(read_lines(path)) == ["one", "two", "three"]


@each_packing
def test_much_text_is_unpacked(tmp_path: Path, packing: str):
    _, pack = PACKERS[packing]
    lines = [f"{number**5} " * (number % 17) for number in range(9000)]
    half = "".join(f"{line}\n" for line in lines[:5000]).encode()
    rest = "".join(f"{line}\n" for line in lines[5000:]).encode()
    path = write(tmp_path / f"text{packing}", pack(half) + pack(rest))
    assert list(read_lines(path)) == lines


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes, Pack], bytes]] = {
    "cut": lambda whole, _: whole[:-10],
    "cut at its last byte": lambda whole, _: whole[:-1],
    "cut in its head": lambda whole, _: whole[:3],
    "second part cut": lambda whole, pack: whole + pack(TEXT)[:12],
    "second part's head cut": lambda whole, pack: whole + pack(TEXT)[:3],
    "second part damaged": lambda whole, pack: whole + flipped(pack(TEXT), 1),
    "rubbish after": lambda whole, _: whole + b"rubbish",
    "text after": lambda whole, _: whole + TEXT,
    "plain text": lambda _whole, _pack: TEXT,
    "empty file": lambda _whole, _pack: b"",
}


@each_packing
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_damaged_files_are_refused(
    tmp_path: Path, packing: str, damage: Callable[[bytes, Pack], bytes]
):
    kind, pack = PACKERS[packing]
    path = write(tmp_path / f"text.en{packing}", damage(pack(TEXT), pack))
    with pytest.raises(DataError) as error:
        list(read_lines(path))
    assert str(error.value).startswith(
        f"{path} is no {kind} file, is damaged, or goes on after its end: "
    )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("packing", [".gz", ".xz", ".bz2"])  # zstd has no checksum by default
@pytest.mark.parametrize("place", [15, -6])
def test_flipped_bits_are_noticed(tmp_path: Path, packing: str, place: int):
    kind, pack = PACKERS[packing]
    path = write(tmp_path / f"text{packing}", flipped(pack(TEXT), place))
    with pytest.raises(
        DataError, match=f"is no {kind} file, is damaged, or goes on after its end: "
    ):
        list(read_lines(path))


@pytest.mark.parametrize("packing", ["", *PACKERS])
def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path, packing: str):
    content = "gut\nsch\u00f6n\nGrüße\n".encode("latin-1")
    packed = PACKERS[packing][1](content) if packing else content
    path = write(tmp_path / f"text.de{packing}", packed)
    with pytest.raises(DataError) as error:
        list(read_lines(path))
    assert str(error.value).startswith(
        f"{path}, line 2 is not UTF-8 (byte 4 of the line is 0xf6): convert"
    )


@pytest.mark.parametrize("packing", ["", *PACKERS])
def test_files_that_cannot_be_read(tmp_path: Path, packing: str):
    name = f"text.en{packing}"
    with pytest.raises(DataError, match=f"{name} can't be read: No such file"):
        list(read_lines(tmp_path / name))
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"{name} can't be read: Is a directory"):
        list(read_lines(tmp_path / name))


def test_files_side_by_side(tmp_path: Path):
    source = write(tmp_path / "text.en", b"one\ntwo\n\n")
    target = write(tmp_path / "text.de.gz", gzip.compress(b"eins\r\n\r\ndrei"))
    assert list(read_parallel(source, target)) == [("one", "eins"), ("two", ""), ("", "drei")]
    nothing = write(tmp_path / "nothing", b"")
    assert list(read_parallel(nothing, nothing)) == []


@pytest.mark.parametrize(("short", "long"), [(0, 1), (0, 7), (3, 4), (3, 7)])
def test_files_of_unlike_length_are_named_with_both_lengths(tmp_path: Path, short: int, long: int):
    shorter = write(tmp_path / "shorter", b"x\n" * short)
    longer = write(tmp_path / "longer", b"x\n" * long)
    for files in ((shorter, longer), (longer, shorter)):
        with pytest.raises(DataError) as error:
            list(read_parallel(*files))
        assert str(error.value).startswith(
            f"{shorter} has {short} lines, but {longer} has {long}: parallel files must"
        )
