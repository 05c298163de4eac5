"""Rows of named columns → texts: the column, or the part of `translation`, that holds a side."""

import reprlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from seq2seq.data.text_files import Pairs
from seq2seq.errors import DataError

_TRANSLATION = "translation"


class Advice(NamedTuple):
    """What errors say of how to name the columns."""

    column: str
    """Where there is no column for a side."""
    language: str
    """Where the column `translation` has no text in a side's language."""
    header: str
    """What follows on "the first line must name the columns"."""


OF_CONFIG = Advice(
    column="set data.corpus.source_column and target_column",
    language=("set data.source and data.target, or data.corpus.source_column and target_column"),
    header=" unless data.corpus.header is false",
)


class Side(NamedTuple):
    """What tells a side's text: its column, or else its language's code.

    The code is a column, or stands in the column `translation`, which holds texts by language.
    """

    language: str
    column: str | None = None
    usual: tuple[str, ...] = ()
    """Columns that are looked for before the language's code, unless one is asked for."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that would hold this side's text alone, the first that is there counts."""
        return (*self.usual, self.language) if self.column is None else (self.column,)

    def by_default(self, column: str) -> "Side":
        """Look in this column, unless another is asked for."""
        return self if self.column is not None else self._replace(column=column)

    def column_in(self, columns: Container[str]) -> str | None:
        """Choose the column among those of a table or a row; none if it has none for this side."""
        for name in self.names:
            if name in columns:
                return name
        return _TRANSLATION if self.column is None and _TRANSLATION in columns else None


Sides = tuple[Side, Side]


def needed_columns(
    columns: Sequence[str],
    sides: Sequence[Side],
    name: str,
    known: str | None = None,
    advice: Advice = OF_CONFIG,
) -> list[str]:
    """Choose the columns of a table that hold its texts.

    Args:
        columns: the columns it has.
        sides: what is looked for.
        name: what an error calls the table.
        known: what an error says of its columns, if not their names.
        advice: what an error says of a remedy.

    Raises:
        DataError: there is none for a side, or several of the same name.
    """
    needed: set[str] = set()
    for side in sides:
        column = side.column_in(columns)
        if column is None:
            known = known or f"it has {', '.join(columns)}"
            raise DataError(f"{name} has no column {_either(side)}; {known}: {advice.column}")
        if columns.count(column) > 1:
            raise DataError(f"{name} has several columns '{column}': one must be named otherwise")
        needed.add(column)
    return sorted(needed)


def _either(side: Side) -> str:
    return " or ".join(f"'{name}'" for name in side.names)


def pairs_of(rows: Iterable[Mapping[str, Any]], sides: Sides, name: str) -> Pairs:
    """Take the pairs out of a table's rows, as `texts_of` does."""
    return ((source, target) for source, target in texts_of(rows, sides, name))


def texts_of(
    rows: Iterable[Mapping[str, Any]],
    sides: Sequence[Side],
    name: str,
    advice: Advice = OF_CONFIG,
) -> Iterator[list[str]]:
    """Take the text of each side out of a table's rows; empty where a row lacks a side.

    Raises:
        DataError: a row holds something other than text, or no row has a side.
    """
    readers = [SideReader(side, name, advice) for side in sides]
    row = None
    for number, row in enumerate(rows, start=1):
        yield [reader.text(row, number) for reader in readers]
    if row is not None:
        for reader in readers:
            reader.check()


class SideReader:
    """Takes one side's text out of rows, and knows in the end whether any row had it."""

    def __init__(self, side: Side, name: str, advice: Advice):
        self._side, self._name, self._advice = side, name, advice
        self._found = self._translated = False
        self._columns: set[str] = set()
        self._languages: set[str] = set()

    def text(self, row: Mapping[str, Any], number: int) -> str:
        """Return the side's text; empty where the row has none."""
        column = self._side.column_in(row)
        if column is None:
            self._columns.update(row)
            return ""
        if column in self._side.names:
            self._found, value = True, row[column]
        else:
            value = self._translation(row[_TRANSLATION], number)
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"column '{column}' of {self._name} must hold text, but holds"
                f" {type(value).__name__} in row {number}"
            )
        return value or ""

    def check(self) -> None:
        """Refuse rows of which none had this side."""
        if self._found:
            return
        if self._translated:
            known = ", ".join(sorted(self._languages)) or "no language"
            raise DataError(
                f"{self._name} has no '{self._side.language}' in `{_TRANSLATION}`; it has {known}:"
                f" {self._advice.language}"
            )
        known = ", ".join(sorted(self._columns)) or "none"
        raise DataError(
            f"{self._name} has no column {_either(self._side)}; it has {known}:"
            f" {self._advice.column}"
        )

    def _translation(self, cell: Any, number: int) -> Any:
        texts = _by_language(cell)
        if texts is None:
            raise DataError(
                f"column '{_TRANSLATION}' of {self._name} must hold texts by language, but holds"
                f" {reprlib.repr(cell)} in row {number}"
            )
        self._translated = True
        self._languages.update(map(str, texts))
        self._found |= self._side.language in texts
        return texts.get(self._side.language)


def _by_language(cell: Any) -> Mapping[str, Any] | None:
    """Bring a cell of `translation` to texts by language; none where it has none of its forms."""
    match cell:
        case None:
            return {}
        case {
            "language": list(languages),
            "translation": list(texts),
        }:  # several of one language, too
            if len(languages) != len(texts):
                return None
            return dict(zip(reversed(languages), reversed(texts), strict=True))  # the first counts
        case dict():
            return cast(dict[str, Any], cell)
        case list() if all(isinstance(entry, tuple) for entry in cell):  # a map of Arrow's
            return dict(cell)
        case _:
            return None
