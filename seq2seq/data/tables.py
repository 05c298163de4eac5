"""Tables of text: Parquet, Arrow, JSON lines, CSV and TSV.

Every cell is taken as it is written: no word stands for a missing value, no code for a number.
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pyarrow import ipc, parquet

from seq2seq.config_mistakes import shown
from seq2seq.data.rows import OF_CONFIG, Advice, Side, Sides, needed_columns, pairs_of
from seq2seq.data.text_files import (
    PACKED,
    Pairs,
    count_lines,
    ending,
    open_file,
    read_lines,
    read_whole_lines,
)
from seq2seq.errors import DataError

Rows = Iterator[dict[str, Any]]
Records = Iterator[tuple[int, list[str]]]  # the cells with the number of the line they begin in

CELLS = (".csv", ".tsv")
_AT_ONCE = 2000  # rows that are brought from Arrow to Python at a time
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


def read_table(path: Path, sides: Sides, *, header: bool) -> Pairs:
    """Go through the pairs of a table.

    Args:
        path: the file; its name's ending tells what it is, and whether it is packed.
        sides: the columns that are looked for.
        header: whether the first line of CSV and TSV names the columns; else their names are 1, 2 …

    Raises:
        DataError: it can't be read, or has no such columns.
    """
    if table_form(path) in CELLS and not header:
        source, target = sides
        sides = source.by_default("1"), target.by_default("2")
    return pairs_of(read_rows(path, sides, header=header), sides, str(path))


def table_form(path: Path) -> str:
    """Return the ending that tells what a table is: that of the packed file, where it is packed."""
    return ending(path.with_suffix("")) if ending(path) in PACKED else ending(path)


def read_rows(
    path: Path, sides: Sequence[Side], *, header: bool = True, advice: Advice = OF_CONFIG
) -> Rows:
    """Go through the rows of a table, each with the columns of these sides.

    Raises:
        DataError: it can't be read, or has no such columns.
    """
    match table_form(path):
        case ".csv" | ".tsv":
            return _cell_rows(path, sides, advice, header=header)
        case ".jsonl" | ".ndjson" | ".json":
            return _json_rows(path)
        case ".parquet" if ending(path) not in PACKED:
            return _parquet_rows(path, sides, advice)
        case ".arrow" if ending(path) not in PACKED:
            return _arrow_rows(path, sides, advice)
        case _:
            raise DataError(
                f"{path} must end in .parquet, .arrow, .jsonl, .ndjson, .json, .csv or .tsv, or, of"
                f" these, a text's ending and {', '.join(PACKED)}: the ending tells how it is read"
            )


def count_rows(path: Path) -> int:
    """Count the rows of a table that has its columns' names, if it has any.

    Raises:
        DataError: it can't be read.
    """
    match table_form(path):
        case ".parquet":
            with open_file(path) as file, parquet.ParquetFile(file) as table:
                return table.metadata.num_rows
        case ".arrow":
            with open_file(path) as file:
                return sum(batch.num_rows for batch in _open_arrow(file)[1])
        case ".csv":
            return max(0, sum(1 for _ in _csv_records(path)) - 1)
        case ".tsv":
            return max(0, count_lines(path) - 1)
        case _:
            return count_lines(path)


def _cell_rows(path: Path, sides: Sequence[Side], advice: Advice, *, header: bool) -> Rows:
    form = table_form(path)
    records = _csv_records(path) if form == ".csv" else _tsv_records(path)
    first = next(records, None)
    if first is None:
        return
    cells = first[1]
    separator = "," if form == ".csv" else "\t"
    line = f"its first line is {shown(separator.join(cells))}"
    if header:
        names = cells
        line += f", which must name the columns{advice.header}"
    else:
        names = [str(number) for number in range(1, len(cells) + 1)]
        records = chain([first], records)
    needed_columns(names, sides, str(path), line, advice)
    for number, cells in records:
        if len(cells) != len(names):
            raise DataError(
                f"{path}, line {number} must have {len(names)} fields as the first line has, but"
                f" has {len(cells)}: mend the line, or take it out"
            )
        yield dict(zip(names, cells, strict=True))


def _tsv_records(path: Path) -> Records:
    """Split lines at tabs, which nothing can quote."""
    for number, line in enumerate(read_lines(path), start=1):
        yield number, line.split("\t")


def _csv_records(path: Path) -> Records:
    """Read cells as RFC 4180 has them; one in quotes may hold line ends."""
    reader = csv.reader(read_whole_lines(path), strict=True)
    number = 1
    try:
        for cells in reader:
            yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        reason = str(error).partition(" - ")[0]  # what follows is advice on opening files
        raise DataError(
            f"{path}, line {number} begins a row that isn't CSV: {reason}; quotes must be closed,"
            " doubled inside of quotes, and stand around a cell with line ends"
        ) from error


def json_value(line: str, place: str) -> Any:
    """Read a line of JSON.

    Raises:
        DataError: it isn't JSON.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", error)
        raise DataError(
            f"{place} must be a JSON object, whole in this line, but isn't JSON: {reason}"
        ) from error


def _json_rows(path: Path) -> Rows:
    for number, line in enumerate(read_lines(path), start=1):
        place = f"{path}, line {number}"
        row = json_value(line, place)
        if not isinstance(row, dict):
            raise DataError(f"{place} must be a JSON object, but is {shown(line)}")
        if "\\u" in line:
            _refuse_half_characters(row, place)
        yield row


def _refuse_half_characters(row: dict[str, Any], place: str) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start]).strip("'")
        raise DataError(
            f"{place} holds {half}, half of a surrogate pair, which is no character: mend it"
        ) from error


def _parquet_rows(path: Path, sides: Sequence[Side], advice: Advice) -> Rows:
    with open_file(path) as file, parquet.ParquetFile(file) as table:
        columns = needed_columns(table.schema_arrow.names, sides, str(path), advice=advice)
        yield from _rows(table.iter_batches(_AT_ONCE, columns=columns))


def _arrow_rows(path: Path, sides: Sequence[Side], advice: Advice) -> Rows:
    with open_file(path) as file:
        names, batches = _open_arrow(file)
        columns = needed_columns(names, sides, str(path), advice=advice)
        yield from _rows(batch.select(columns) for batch in batches)


def _open_arrow(file: io.BufferedIOBase) -> tuple[list[str], Iterator[Any]]:
    """Give the names of the columns, and the batches of rows."""
    is_stream = file.read(6) != b"ARROW1"
    file.seek(0)
    reader = ipc.open_stream(file) if is_stream else ipc.open_file(file)

    def batches() -> Iterator[Any]:
        if is_stream:
            yield from reader
            _check_end(file)
        else:
            yield from map(reader.get_batch, range(reader.num_record_batches))

    return reader.schema.names, batches()


def _check_end(stream: io.BufferedIOBase) -> None:
    """Refuse a stream that was cut between two batches, which pyarrow takes for its end."""
    stream.seek(-len(_STREAM_END), os.SEEK_END)
    if stream.read() != _STREAM_END:
        raise EOFError("the mark of its end is missing")


def _rows(batches: Iterable[Any]) -> Rows:
    for batch in batches:
        for start in range(0, batch.num_rows, _AT_ONCE):
            yield from batch.slice(start, _AT_ONCE).to_pylist()
