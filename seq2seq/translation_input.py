"""What is to be translated, line by line: text, JSON lines, tables, sets of `datasets`.

Lines end at line feeds alone. No line is lost: what isn't UTF-8 in it becomes U+FFFD.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from seq2seq.config_mistakes import listed, shown
from seq2seq.data.corpus import load_set
from seq2seq.data.rows import Advice, Side, SideReader, needed_columns, texts_of
from seq2seq.data.tables import count_rows, json_value, read_rows, table_form
from seq2seq.data.text_files import count_lines, read_raw_lines
from seq2seq.errors import DataError, UserError
from seq2seq.files import digest
from seq2seq.translation import Request

_SET = "hub:"
_COLON = re.compile(r":(?![^\[]*\])")  # `train[:100]` has one of its own
JSON = (".jsonl", ".ndjson", ".json")
_TABLES = (".csv", ".tsv", ".parquet", ".arrow")
_ADVICE = Advice(column="name it with --column", language="name a column with --column", header="")
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs, which JSON can write


class Line(NamedTuple):
    """A line of the input."""

    request: Request
    targets: Sequence[str] = ()
    """Translations that are there already, where they are to be scored."""
    is_damaged: bool = False
    """Whether something in it was no text, and became U+FFFD."""


class Window(NamedTuple):
    """Lines that are translated together."""

    start: int
    """Number of the first, counted from 0."""
    lines: Sequence[Line]


class Reading(NamedTuple):
    """How lines are made of what an input holds."""

    languages: tuple[str, str]
    """Codes of source and target, which may name columns."""
    column: str | None = None
    """The column of source text; none: `text`, or the language's code."""
    scored: bool = False
    """Whether each line brings translations of itself."""
    common: Request = Request("")
    """What holds for all lines; a prefix, for those that have none of their own."""

    @property
    def source(self) -> Side:
        """Where rows have the source."""
        usual = ("source", "text") if self.scored else ("text",)
        return Side(self.languages[0], self.column, usual)

    @property
    def target(self) -> Side:
        """Where rows have a translation that is to be scored."""
        return Side(self.languages[1], None, ("target",))

    def line(self, source: str, *targets: str, is_damaged: bool = False) -> Line:
        """Make a line that asks for nothing of its own."""
        return Line(self.common._replace(text=source), targets, is_damaged)


@runtime_checkable
class Input(Protocol):
    """Something that has lines."""

    @property
    def name(self) -> str:
        """What it is called, wherever it lies."""
        ...

    def lines(self) -> Iterator[Line]:
        """Go through the lines from the start.

        Raises:
            DataError: it is missing, unreadable, damaged, or isn't what it should be.
        """
        ...

    def count(self) -> int:
        """Count the lines; 0 where nobody knows before they are read."""
        ...

    def content(self) -> str | None:
        """Tell the content from any other; none where it is there only once."""
        ...


def open_input(source: str | None, reading: Reading, *, has_json: bool = False) -> Input:
    """Find out what an input is; nothing is read yet.

    Args:
        source: a file, whose name's ending tells what it is, or `hub:NAME[[:CONFIGURATION]:SPLIT]`;
            none: standard input.
        reading: how lines are made of it.
        has_json: whether standard input has JSON lines.

    Raises:
        UserError: it can't be read so.
    """
    if source is None:
        return _StandardInput(reading, has_json=has_json)
    if has_json:
        raise UserError("--json-input is about standard input: a file's ending says what it has")
    if source.startswith(_SET):
        return _Set(source, reading)
    path = Path(source)
    if path.is_dir():
        raise DataError(
            f"{source} must be a file, but is a folder; a data set in it is {_SET}{source}"
        )
    if table_form(path) in _TABLES:
        return _Table(path, reading)
    return _LineFile(path, reading)


def windows(lines: Iterator[Line], size: int) -> Iterator[Window]:
    """Cut lines at fixed numbers."""
    start = 0
    while chosen := list(islice(lines, size)):
        yield Window(start, chosen)
        start += len(chosen)


class _StandardInput:
    name = "standard input"

    def __init__(self, reading: Reading, *, has_json: bool):
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise UserError("there is no standard input to translate: give some with < FILE")
        self._reading = reading
        self._parse = _parser(reading, has_json=has_json)

    def lines(self) -> Iterator[Line]:
        return self._parse(sys.stdin.buffer, self.name, self._reading)

    def count(self) -> int:
        return 0

    def content(self) -> None:
        return None


class _LineFile:
    """Text or JSON lines."""

    def __init__(self, path: Path, reading: Reading):
        self._path, self._reading = path, reading
        self.name = path.name
        self._parse = _parser(reading, has_json=table_form(path) in JSON)

    def lines(self) -> Iterator[Line]:
        return self._parse(read_raw_lines(self._path), str(self._path), self._reading)

    def count(self) -> int:
        return count_lines(self._path) if self._path.is_file() else 0

    def content(self) -> str | None:
        return _digest(self._path)


class _Table:
    """A table in a file."""

    def __init__(self, path: Path, reading: Reading):
        self._path, self._reading = path, reading
        self.name = path.name

    def lines(self) -> Iterator[Line]:
        sides = _sides(self._reading)
        rows = read_rows(self._path, sides, advice=_ADVICE)
        for texts in texts_of(rows, sides, str(self._path), _ADVICE):
            yield self._reading.line(*texts)

    def count(self) -> int:
        return count_rows(self._path)

    def content(self) -> str | None:
        return _digest(self._path)


class _Set:
    """A data set of the Hugging Face Hub, or a local folder in its layout."""

    def __init__(self, source: str, reading: Reading):
        self._reading, self.name = reading, source
        name, *rest = _COLON.split(source.removeprefix(_SET))
        if not name or len(rest) > 2:
            raise UserError(
                f"{source} must be hub:NAME, hub:NAME:SPLIT or hub:NAME:CONFIGURATION:SPLIT"
            )
        self._set = name
        self._configuration = rest[0] if len(rest) == 2 else None
        self._split = rest[-1] if rest else None

    @cached_property
    def _rows(self) -> Any:
        """The rows of the split that is asked for, or of the only one there is."""
        otherwise = "a file is given by its path alone"
        found = load_set(self._set, self._configuration, self._split, otherwise=otherwise)
        if self._split is not None:
            return found
        if len(found) > 1:
            raise DataError(
                f"the data set '{self._set}' has the splits {listed(list(found), 'and')}: choose"
                f" one, as in {_SET}{self._set}:{next(iter(found))}"
            )
        return next(iter(found.values()))

    def lines(self) -> Iterator[Line]:
        sides, name = _sides(self._reading), f"the data set '{self._set}'"
        columns = needed_columns(self._rows.column_names, sides, name, advice=_ADVICE)
        for texts in texts_of(self._rows.select_columns(columns), sides, name, _ADVICE):
            yield self._reading.line(*texts)

    def count(self) -> int:
        return len(self._rows)

    def content(self) -> str | None:
        return self._rows._fingerprint  # of the files that it was made of


def _sides(reading: Reading) -> list[Side]:
    return [reading.source, reading.target] if reading.scored else [reading.source]


def _digest(path: Path) -> str | None:
    if path.exists() and not path.is_file():
        return None
    try:
        return digest(path)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from error


_Parser = Callable[[Iterable[bytes], str, Reading], Iterator[Line]]


def _parser(reading: Reading, *, has_json: bool) -> _Parser:
    if reading.column is not None and not has_json:
        raise UserError("--column has no effect on plain text, which has no columns")
    return _json_lines if has_json else _text_lines


def _text_lines(lines: Iterable[bytes], name: str, reading: Reading) -> Iterator[Line]:
    for number, line in enumerate(lines, start=1):
        text, is_damaged = _decoded(line)
        if not reading.scored:
            yield reading.line(text, is_damaged=is_damaged)
            continue
        source, tab, target = text.partition("\t")
        if not tab:
            raise DataError(
                f"{name}, line {number} must be a text and its translation with a tab between"
                f" them, but is {shown(text)}"
            )
        yield reading.line(source, target, is_damaged=is_damaged)


def _decoded(line: bytes) -> tuple[str, bool]:
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode("utf-8"), False
    except UnicodeDecodeError:
        return line.decode("utf-8", "replace"), True


def _json_lines(lines: Iterable[bytes], name: str, reading: Reading) -> Iterator[Line]:
    reader, number = _JsonReader(name, reading), 0
    for number, line in enumerate(lines, start=1):
        text, is_damaged = _decoded(line)
        place = f"{name}, line {number}"
        found = json_value(text.removeprefix("\ufeff") if number == 1 else text, place)
        mended = _mended(found) if "\\u" in text else found
        read = reader.line(mended, number, place)
        yield read._replace(is_damaged=is_damaged or mended != found)
    if number:
        reader.check()


def _mended(value: Any) -> Any:
    match value:
        case str():
            return _HALVES.sub("\ufffd", value)
        case list():
            return [_mended(part) for part in value]
        case dict():
            return {key: _mended(part) for key, part in value.items()}
        case _:
            return value


class _JsonReader:
    """Makes lines of texts, or of objects that have one and may have what it is to heed."""

    def __init__(self, name: str, reading: Reading):
        self._reading = reading
        self._source = SideReader(reading.source, name, _ADVICE)
        self._target = SideReader(reading.target, name, _ADVICE)

    def line(self, value: Any, number: int, place: str) -> Line:
        """Make a line of what is in a line."""
        row = {self._reading.source.names[0]: value} if isinstance(value, str) else value
        if not isinstance(row, dict):
            raise DataError(f"{place} must be a JSON object or a text, but is {shown(value)}")
        common = self._reading.common
        prefix = row.get("prefix") or common.prefix
        to = row.get("to") or common.to
        for key, text in (("prefix", prefix), ("to", to)):
            if not isinstance(text, str | None):
                raise DataError(f"{place}: `{key}` must be a text, but is {shown(text)}")
        request = Request(
            self._source.text(row, number),
            prefix,
            (*common.require, *_texts(row, "require", place)),
            (*common.avoid, *_texts(row, "avoid", place)),
            to,
        )
        return Line(request, self._targets(row, number, place) if self._reading.scored else ())

    def _targets(self, row: Mapping[str, Any], number: int, place: str) -> Sequence[str]:
        """Take the translations of a line; those that `translate --json` has written, too."""
        if found := row.get("hypotheses"):
            found = found if isinstance(found, list) else [found]
            return _texts({"hypotheses": [_text_of(entry) for entry in found]}, "hypotheses", place)
        if "target" not in row and {"source", "text"} <= row.keys():
            return _texts(row, "text", place)
        if self._reading.target.column_in(row) is None:
            raise DataError(f"{place} has no translation to score: give `target` or `hypotheses`")
        return (self._target.text(row, number),)

    def check(self) -> None:
        """Refuse lines of which none had a text."""
        self._source.check()


def _text_of(hypothesis: Any) -> Any:
    return hypothesis.get("text") if isinstance(hypothesis, dict) else hypothesis


def _texts(row: Mapping[str, Any], key: str, place: str) -> tuple[str, ...]:
    value = row.get(key)
    texts = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{place}: `{key}` must be a text or a list of texts, but is {shown(value)}"
        )
    return tuple(texts)
