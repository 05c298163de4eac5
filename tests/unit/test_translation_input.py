"""Whatever holds text: a line for each of its lines, in order, with what each asks for."""

import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import ipc, parquet

from seq2seq.errors import DataError, UserError
from seq2seq.translation import Request
from seq2seq.translation_input import Input, Line, Reading, open_input, windows
from tests.unit.data.test_text_files import PACKERS

ALL = Reading(("en", "de"))
SCORED = Reading(("en", "de"), scored=True)
TEXTS = ["one", "", "two three", "four"]


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(source: object, reading: Reading = ALL) -> list[Line]:
    return list(open_input(str(source), reading).lines())


def texts(source: object, reading: Reading = ALL) -> list[str]:
    return [line.request.text for line in lines(source, reading)]


def typed(monkeypatch: pytest.MonkeyPatch, content: bytes, **options: Any) -> Input:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    return open_input(None, **options)


def write_arrow(path: Path, table: Any) -> Path:
    with pyarrow.OSFile(str(path), "wb") as file, ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def json_lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


TABLE = pyarrow.table({"text": TEXTS, "en": ["no"] * 4, "id": [1, 2, 3, 4]})
WRITERS: dict[str, Callable[[Path], Path]] = {
    "a.txt": lambda path: write(path, "\n".join(TEXTS)),
    "a.en": lambda path: write(path, "\n".join(TEXTS) + "\n"),
    "a.jsonl": lambda path: write(path, json_lines(*[{"text": text} for text in TEXTS])),
    "a.json.gz": lambda path: write(path, gzip.compress(json_lines(*TEXTS).encode())),
    "a.csv": lambda path: write(path, 'id,text\n1,"one"\n2,\n3,two three\n4,four\n'),
    "a.tsv": lambda path: write(path, "en\ttext\nx\tone\nx\t\nx\ttwo three\nx\tfour\n"),
    "a.arrow": lambda path: write_arrow(path, TABLE),
}


def write_parquet(path: Path) -> Path:
    parquet.write_table(TABLE, path)
    return path


WRITERS["a.parquet"] = write_parquet


@pytest.mark.parametrize("name", WRITERS)
def test_any_file_has_its_lines_in_order(tmp_path: Path, name: str) -> None:
    source = open_input(str(WRITERS[name](tmp_path / name)), ALL)
    assert [line.request for line in source.lines()] == [Request(text) for text in TEXTS]
    assert [line.request.text for line in source.lines()] == TEXTS, "it can be read again"
    assert source.count() == 4
    assert source.name == name
    before = source.content()
    assert before == open_input(str(tmp_path / name), ALL).content()
    write(tmp_path / name, (tmp_path / name).read_bytes() + b"\n")
    assert source.content() != before


@pytest.mark.parametrize("packing", PACKERS)
def test_packed_text_is_unpacked_and_counted(tmp_path: Path, packing: str) -> None:
    path = write(tmp_path / f"a.txt{packing}", PACKERS[packing][1]("\n".join(TEXTS).encode()))
    assert texts(path) == TEXTS
    assert open_input(str(path), ALL).count() == 4


def test_sets_are_read_by_name_and_split(tmp_path: Path) -> None:
    columns = {"translation": [{"en": text, "de": "x"} for text in TEXTS]}
    for split in ("train", "test"):
        parquet.write_table(pyarrow.table(columns), tmp_path / f"{split}-0.parquet")
    source = open_input(f"hub:{tmp_path}:test[1:3]", ALL)
    assert [line.request.text for line in source.lines()] == ["", "two three"]
    assert source.count() == 2
    again = open_input(f"hub:{tmp_path}:test[1:3]", ALL)
    assert again.content() == source.content() != open_input(f"hub:{tmp_path}:test", ALL).content()
    with pytest.raises(DataError, match=r"has the splits train and test: choose one, as in hub:"):
        open_input(f"hub:{tmp_path}", ALL).count()
    (tmp_path / "test-0.parquet").unlink()
    assert texts(f"hub:{tmp_path}") == TEXTS
    with pytest.raises(UserError, match="must be hub:NAME, hub:NAME:SPLIT or hub:NAME:CONF"):
        open_input("hub:", ALL)


def test_standard_input_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = typed(monkeypatch, b"one\n\ntwo", reading=ALL)
    assert [line.request.text for line in source.lines()] == ["one", "", "two"]
    assert source.count() == 0, "nobody knows"
    assert source.content() is None
    source = typed(monkeypatch, b'"one"\n{"text": "two"}', reading=ALL, has_json=True)
    assert [line.request.text for line in source.lines()] == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\r\nb\r\n\r\n", ["a", "b", ""]),
        (b"a\rb\r", ["a\rb"]),
        ("a\u2028b\x85c\x0cd\x0be\x1cf\0g\n".encode(), ["a\u2028b\x85c\x0cd\x0be\x1cf\0g"]),
        (b"\xef\xbb\xbfa\n", ["\ufeffa"]),  # the vocabulary takes it away
    ],
)
def test_lines_end_at_line_feeds_alone(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    path = write(tmp_path / "a.txt", content)
    assert texts(path) == expected
    assert open_input(str(path), ALL).count() == len(expected)


def test_what_is_no_text_is_replaced_and_marked(tmp_path: Path) -> None:
    found = lines(write(tmp_path / "a.txt", b"fine\ncaf\xe9 cr\xc3\xa8me\n\xff\xfe\n"))
    assert [line.request.text for line in found] == ["fine", "caf\ufffd crème", "\ufffd\ufffd"]
    assert [line.is_damaged for line in found] == [False, True, True]
    text = '"\\ud83d\\ude00"\n{"text": "\\ud800a", "require": ["\\udfff"]}\n"caf\xe9"\n'
    found = lines(write(tmp_path / "a.jsonl", text.encode("latin-1")))
    assert [line.request.text for line in found] == ["😀", "\ufffda", "caf\ufffd"]
    assert found[1].request.require == ("\ufffd",)
    assert [line.is_damaged for line in found] == [False, True, True]


def test_a_line_of_json_says_what_it_asks_for(tmp_path: Path) -> None:
    common = Request("", prefix="Ja", require=("x",), avoid=("y", "z"))
    rows = [
        {"text": "one", "prefix": "Nein", "require": "a b", "avoid": ["c", "d"], "more": 7},
        {"text": "two", "prefix": None, "require": None},
        "three",
    ]
    path = write(tmp_path / "a.jsonl", "\ufeff" + json_lines(*rows))
    assert [line.request for line in lines(path, Reading(("en", "de"), common=common))] == [
        Request("one", "Nein", ("x", "a b"), ("y", "z", "c", "d")),
        common._replace(text="two"),
        common._replace(text="three"),
    ]


def test_the_column_of_the_text(tmp_path: Path) -> None:
    rows = [{"text": "a", "en": "b", "other": "c"}, {"en": "d"}, {"translation": {"en": "e"}}]
    path = write(tmp_path / "a.jsonl", json_lines(*rows))
    assert texts(path) == ["a", "d", "e"]
    assert texts(path, Reading(("en", "de"), column="other")) == ["c", "", ""]
    path = write(tmp_path / "a.csv", "en,de\none,eins\n")
    assert texts(path) == ["one"]
    assert texts(path, Reading(("en", "de"), column="de")) == ["eins"]
    assert texts(path, Reading(("de", "en"))) == ["eins"]


def test_what_is_scored_stands_beside_its_source(tmp_path: Path) -> None:
    def pairs(name: str, content: str) -> list[tuple[str, list[str]]]:
        found = lines(write(tmp_path / name, content), SCORED)
        return [(line.request.text, list(line.targets)) for line in found]

    assert pairs("a.txt", "one\teins\ntwo\tzwei\tdrei\n\t\n") == [
        ("one", ["eins"]),
        ("two", ["zwei\tdrei"]),
        ("", [""]),
    ]
    assert pairs("a.tsv", "de\ten\neins\tone\n") == [("one", ["eins"])]
    assert pairs("b.tsv", "target\ttext\neins\tone\n") == [("one", ["eins"])]
    rows = [
        {"text": "one", "target": "eins"},
        {"en": "one", "de": "eins"},
        {"translation": {"en": "one", "de": "eins"}},
        {"text": "one", "hypotheses": ["eins", {"text": "ein", "score": -1}]},
        {"source": "one", "text": "eins", "score": -2},  # as they are written
        {"source": "one", "text": "eins", "hypotheses": [{"text": "eins"}, {"text": "ein"}]},
    ]
    both, one = ("one", ["eins", "ein"]), ("one", ["eins"])
    assert pairs("a.jsonl", json_lines(*rows)) == [one, one, one, both, one, both]


REFUSED: dict[str, tuple[str, str, Reading, str]] = {
    "no tab": ("a.txt", "a\tb\nc\n", SCORED, r"a\.txt, line 2 must be a text and its translation"),
    "no target": ("a.jsonl", '{"text": "a"}', SCORED, "line 1 has no translation to score: give"),
    "no targets": ("a.jsonl", '{"text": "a", "hypotheses": []}', SCORED, "line 1 has no transl"),
    "not JSON": ("a.jsonl", '"a"\n{"text"\n', ALL, "line 2 must be a JSON object, whole in this"),
    "a number": ("a.jsonl", '"a"\n7\n', ALL, "line 2 must be a JSON object or a text, but is 7"),
    "no text": ("a.jsonl", '{"text": 7}', ALL, "column 'text' of .* must hold text, but holds int"),
    "a blank line": ("a.jsonl", '"a"\n\n', ALL, "line 2 must be a JSON object"),
    "odd prefix": (
        "a.jsonl",
        '{"text": "a", "prefix": ["b"]}',
        ALL,
        "`prefix` must be a text, but",
    ),
    "odd language": ("a.jsonl", '{"text": "a", "to": 3}', ALL, "`to` must be a text, but is 3"),
    "odd words": (
        "a.jsonl",
        '{"text": "a", "avoid": [7]}',
        ALL,
        "`avoid` must be a text or a list",
    ),
    "no column": ("a.jsonl", '{"a": "b"}\n', ALL, "no column 'text' or 'en'; it has a: name it wi"),
    "no header": ("a.csv", "a,b\nc,d\n", ALL, r"'a,b', which must name the columns: name it with"),
    "no language": ("a.jsonl", '{"translation": {}}', ALL, "has no 'en' in .*: name a column with"),
    "no columns": ("a.txt", "", ALL._replace(column="x"), "--column has no effect on plain text"),
    "not UTF-8": ("a.csv", "text\n\udce9\n", ALL, "line 2 is not UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_named(tmp_path: Path, case: str) -> None:
    name, content, reading, message = REFUSED[case]
    path = write(tmp_path / name, content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message):
        lines(path, reading)


def test_windows_are_cut_at_fixed_lines_and_read_no_further() -> None:
    source = iter([Line(Request(str(number))) for number in range(7)])
    found = windows(source, 3)
    first = next(found)
    assert (first.start, [line.request.text for line in first.lines]) == (0, ["0", "1", "2"])
    assert next(source).request.text == "3", "it isn't read yet"
    assert [(window.start, len(window.lines)) for window in found] == [(3, 3)]
