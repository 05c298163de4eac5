r"""Where pairs of sentences come from: the embedded corpus, the Hub, text files.

The only file that knows `datasets`. Lines end at `\n` alone, whatever else Unicode calls a line
break, and a `\r` before it belongs to the line end.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

from seq2seq.config import DataConfig, HubCorpus, SampleCorpus, TextCorpus
from seq2seq.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Pairs = Iterator[tuple[str, str]]


@runtime_checkable
class Corpus(Protocol):
    """Parallel text in up to three splits."""

    def has(self, split: Split) -> bool:
        """Whether there is such a split."""
        ...

    def pairs(self, split: Split) -> Pairs:
        """Go through the pairs of source and target text, in the corpus's order.

        Raises:
            DataError: the text can't be read, or isn't parallel.
        """
        ...

    def origin(self) -> dict[str, str]:
        """Name the files that the text comes from, with the digests of their content."""
        ...


def open_corpus(data: DataConfig, seed: int) -> Corpus:
    """Make the corpus that the config describes; nothing is read yet."""
    match data.corpus:
        case SampleCorpus():
            return _Sample(data, data.corpus, seed)
        case HubCorpus():
            return _Hub(data, data.corpus)
        case TextCorpus():
            return _Text(data.corpus)


class _Sample:
    """The embedded corpus."""

    def __init__(self, data: DataConfig, corpus: SampleCorpus, seed: int):
        self._data, self._corpus, self._seed = data, corpus, seed

    @cached_property
    def _splits(self) -> dict[Split, list[tuple[str, str]]]:
        from seq2seq.data.sample_corpus import sample_corpus  # Babel takes a moment to load

        corpus = self._corpus
        splits = sample_corpus(
            self._data.source,
            self._data.target,
            pairs=corpus.pairs,
            held_out=corpus.held_out,
            seed=self._seed,
        )
        by_name = zip(SPLITS, (splits.train, splits.validation, splits.test), strict=True)
        return {name: [(pair.source, pair.target) for pair in split] for name, split in by_name}

    def has(self, split: Split) -> bool:
        return True

    def pairs(self, split: Split) -> Pairs:
        return iter(self._splits[split])

    def origin(self) -> dict[str, str]:
        return {}


class _Text:
    """Parallel text files."""

    def __init__(self, corpus: TextCorpus):
        self._files = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}

    def has(self, split: Split) -> bool:
        return self._files[split] is not None

    def pairs(self, split: Split) -> Pairs:
        files = self._files[split]
        assert files is not None
        return read_parallel(*files)

    def origin(self) -> dict[str, str]:
        """Name each file with the digest of its content."""
        return _digests(file for pair in self._files.values() if pair for file in pair)


class _Hub:
    """A data set of the Hugging Face Hub, or a local folder in its layout."""

    def __init__(self, data: DataConfig, corpus: HubCorpus):
        self._data, self._corpus = data, corpus
        self._splits = {
            "train": corpus.train,
            "validation": corpus.validation,
            "test": corpus.test,
        }

    def has(self, split: Split) -> bool:
        return self._splits[split] is not None

    def pairs(self, split: Split) -> Pairs:
        rows = self._load(cast(str, self._splits[split]))
        source = self._column(rows, self._corpus.source_column, self._data.source)
        target = self._column(rows, self._corpus.target_column, self._data.target)
        # Other columns may be pictures or sound, which would be decoded for nothing.
        for row in rows.select_columns(sorted({source[0], target[0]})):
            left, right = (self._text(row, column) for column in (source, target))
            yield left, right

    def origin(self) -> dict[str, str]:
        folder = Path(self._corpus.name)
        return _digests(path for path in sorted(folder.rglob("*")) if path.is_file())

    def _load(self, split: str) -> Any:
        import datasets  # slow to import; only this kind of corpus needs it
        from datasets.exceptions import DatasetsError

        corpus = self._corpus
        datasets.disable_progress_bars()
        try:
            return datasets.load_dataset(  # pyright: ignore[reportUnknownMemberType]
                corpus.name, corpus.configuration, split=split, revision=corpus.revision
            )
        except (OSError, ValueError, DatasetsError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise DataError(
                f"split '{split}' of the data set '{corpus.name}' can't be loaded: {reason}"
                " (local files are read with data.corpus.kind=text)"
            ) from error

    def _column(self, rows: Any, named: str | None, language: str) -> tuple[str, ...]:
        """Find the way to one side's text in a row: a column, or a language in `translation`."""
        columns: list[str] = rows.column_names
        if named is not None and named in columns:
            return (named,)
        if named is None and language in columns:
            return (language,)
        if named is None and "translation" in columns:
            return ("translation", language)
        raise DataError(
            f"the data set '{self._corpus.name}' has no column '{named or language}';"
            f" it has {', '.join(columns)}: set data.corpus.source_column and target_column"
        )

    def _text(self, row: Any, column: tuple[str, ...]) -> str:
        value = row
        for key in column:
            if value is None:
                break
            if not isinstance(value, dict) or key not in value:
                named = cast(Any, value)
                known = ", ".join(named) if isinstance(value, dict) else type(named).__name__
                raise DataError(
                    f"the data set '{self._corpus.name}' has a row without '{key}' in"
                    f" `{column[0]}`; it has {known}"
                )
            value = cast(Any, value)[key]
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"column '{column[0]}' of the data set '{self._corpus.name}' must hold text, but"
                f" holds {type(value).__name__}"
            )
        return value or ""


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
    """Go through a text file's lines, without their ends; `.gz` files are unpacked.

    Raises:
        DataError: the file is missing, unreadable, damaged, or not UTF-8 (with the line's number).
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
                yield text.removeprefix("\ufeff") if number == 1 else text
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number} is not UTF-8 (byte {error.start + 1} of the line is"
            f" 0x{error.object[error.start]:02x}): convert the file to UTF-8"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged, or no gzip file: {error}") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error


def _digests(files: Iterable[Path]) -> dict[str, str]:
    """Digest the files that are there; a missing one is found when it is read."""
    digests: dict[str, str] = {}
    for path in files:
        try:
            with path.open("rb") as file:
                digests[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    return digests
