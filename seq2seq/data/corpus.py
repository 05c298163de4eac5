"""Where pairs of sentences come from: the embedded corpus, the Hub, files, a mix of these.

The only file that knows `datasets`.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from glob import iglob
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from seq2seq.config import (
    DataConfig,
    HubCorpus,
    MixCorpus,
    SampleCorpus,
    TableCorpus,
    Tables,
    TextCorpus,
    TmxCorpus,
)
from seq2seq.data.rows import Side, Sides, needed_columns, pairs_of
from seq2seq.data.tables import read_table
from seq2seq.data.text_files import Pairs, count_lines, read_parallel
from seq2seq.data.tmx import read_tmx
from seq2seq.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_COMMIT = re.compile("[0-9a-f]{40}")


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

    def count(self, split: Split) -> int | None:
        """Count the pairs of a split, where that is quicker than to read them; else none."""
        ...

    def origin(self) -> dict[str, str]:
        """Name the files that the text comes from, with the digests of their content.

        A set of the Hub has its commit.
        """
        ...


class CorpusPart(NamedTuple):
    """A corpus of a mix, or the only one there is."""

    name: str
    """Empty, where it is the only one."""
    corpus: Corpus
    source: str
    target: str
    limit: int | None
    """Most training pairs that are taken, the first ones; none: all."""


def open_corpora(data: DataConfig, seed: int) -> Sequence[CorpusPart]:
    """Make the corpora that the config describes; nothing is read yet."""
    limits = {}
    if isinstance(data.corpus, MixCorpus):
        limits = {name: part.limit for name, part in data.corpus.parts.items()}
    return [
        CorpusPart(name, _open(name, part, seed), part.source, part.target, limits.get(name))
        for name, part in data.parts.items()
    ]


def _open(name: str, data: DataConfig, seed: int) -> Corpus:
    match data.corpus:
        case SampleCorpus():
            corpus = _Sample(data, data.corpus, seed)
        case HubCorpus():
            corpus = _Hub(data, data.corpus)
        case TextCorpus():
            corpus = _Text(data.corpus)
        case TableCorpus(header=header):
            read = partial(read_table, sides=_sides(data, data.corpus), header=header)
            corpus = _Files(data.corpus, read)
        case TmxCorpus():
            corpus = _Files(data.corpus, partial(read_tmx, languages=(data.source, data.target)))
        case MixCorpus():
            raise AssertionError("a part of a mix is no mix")
    return _Named(name, corpus) if name else corpus


class _Named:
    """A corpus of several, whose mistakes are told with its name."""

    def __init__(self, name: str, corpus: Corpus):
        self._name, self._corpus = name, corpus

    def has(self, split: Split) -> bool:
        return self._corpus.has(split)

    def pairs(self, split: Split) -> Pairs:
        try:
            yield from self._corpus.pairs(split)
        except DataError as error:
            raise DataError(f"data.corpus.parts.{self._name}: {error}") from error

    def count(self, split: Split) -> int | None:
        return self._corpus.count(split)

    def origin(self) -> dict[str, str]:
        return self._corpus.origin()


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

    def count(self, split: Split) -> int:
        return len(self._splits[split])

    def origin(self) -> dict[str, str]:
        return {}


class _Text:
    """Parallel text files."""

    def __init__(self, corpus: TextCorpus):
        self._files = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}

    def has(self, split: Split) -> bool:
        return self._files[split] is not None

    def pairs(self, split: Split) -> Pairs:
        patterns = self._files[split]
        assert patterns is not None
        sources, targets = (_existing_files(pattern) for pattern in patterns)
        if len(sources) != len(targets):
            raise DataError(
                f"{patterns[0]} matches {len(sources)} files, but {patterns[1]} {len(targets)}:"
                " each source file needs its target file"
            )
        return chain.from_iterable(map(read_parallel, sources, targets))

    def count(self, split: Split) -> int:
        patterns = self._files[split]
        assert patterns is not None
        return sum(map(count_lines, _existing_files(patterns[0])))

    def origin(self) -> dict[str, str]:
        return _origin(self._files.values())


class _Files:
    """Files that hold both sides."""

    def __init__(self, corpus: TableCorpus | TmxCorpus, read: Callable[[Path], Pairs]):
        self._files = {
            "train": _patterns(corpus.train),
            "validation": _patterns(corpus.validation),
            "test": _patterns(corpus.test),
        }
        self._read = read

    def has(self, split: Split) -> bool:
        return bool(self._files[split])

    def pairs(self, split: Split) -> Pairs:
        for path in chain.from_iterable(map(_existing_files, self._files[split])):
            yield from self._read(path)

    def count(self, split: Split) -> int | None:
        return None

    def origin(self) -> dict[str, str]:
        return _origin(self._files.values())


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
        corpus = self._corpus
        rows = load_set(
            corpus.name,
            corpus.configuration,
            self._splits[split],
            revision=corpus.revision,
            streaming=corpus.streaming,
            otherwise="local files are read with data.corpus.kind=text, table or tmx",
        )
        name, sides = f"the data set '{corpus.name}'", _sides(self._data, corpus)
        # Other columns may be pictures or sound, which would be decoded for nothing. Of JSON that
        # is streamed nobody knows the columns before its end.
        if rows.column_names is not None:
            columns = needed_columns(rows.column_names, sides, name)
            rows = rows.select_columns(columns)
        return pairs_of(_arriving(rows, name) if corpus.streaming else rows, sides, name)

    def count(self, split: Split) -> int | None:
        return None

    def origin(self) -> dict[str, str]:
        corpus, folder = self._corpus, Path(self._corpus.name)
        if not folder.is_dir():
            commit = _commit(corpus)
            return {f"hub:{corpus.name}": commit} if commit else {}
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return _digests(path for path in files if not _hidden(path.relative_to(folder)))


def _arriving(rows: Iterable[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """Go through rows that are streamed.

    Raises:
        DataError: the rest of them can't be had.
    """
    from datasets.exceptions import DatasetsError

    number = 0
    try:
        for row in rows:
            yield row
            number += 1
    except (OSError, ValueError, DatasetsError) as error:  # Arrow's are of the second kind
        raise DataError(
            f"the rows of {name} can't be read on after row {number:,}: {_reason(error)}; preparing"
            " starts again from the first"
        ) from error


def _commit(corpus: HubCorpus) -> str | None:
    """Find the commit that a set of the Hub is at; none where it can't be reached.

    Without a network it is that of the copy which the library keeps.
    """
    if corpus.revision is not None and _COMMIT.fullmatch(corpus.revision):
        return corpus.revision
    import datasets  # slow to import; only this kind of corpus needs it
    from datasets.exceptions import DatasetsError

    try:
        builder = datasets.load_dataset_builder(  # pyright: ignore[reportUnknownMemberType]
            corpus.name, corpus.configuration, revision=corpus.revision
        )
    except (OSError, ValueError, DatasetsError):
        return None  # whoever reads it is told why
    found = str(builder.hash)
    return found if _COMMIT.fullmatch(found) else None


def load_set(
    name: str,
    configuration: str | None,
    split: str | None,
    *,
    revision: str | None = None,
    streaming: bool = False,
    otherwise: str,
) -> Any:
    """Load a data set of the Hub, or a folder in its layout: a split of it, else all by name.

    Args:
        name: of the set, or of the folder.
        configuration: of the set, if it has several.
        split: as `datasets` writes it, such as `train[:1000]`.
        revision: branch, tag or commit.
        streaming: whether rows are read as they arrive; then the split is a whole one.
        otherwise: what an error says of how other files are read.

    Raises:
        DataError: it can't be loaded.
    """
    import datasets  # slow to import; only this kind of corpus needs it
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(  # pyright: ignore[reportUnknownMemberType]
            name, configuration, split=split, revision=revision, streaming=streaming
        )
    except (OSError, ValueError, DatasetsError) as error:
        if isinstance(error, DatasetNotFoundError):
            otherwise += "; private and gated sets need a token, in HF_TOKEN or by `hf auth login`"
        which = "" if split is None else f"split '{split}' of "
        raise DataError(
            f"{which}the data set '{name}' can't be loaded: {_reason(error)} ({otherwise})"
        ) from error


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)


def _sides(data: DataConfig, corpus: HubCorpus | TableCorpus) -> Sides:
    return Side(data.source, corpus.source_column), Side(data.target, corpus.target_column)


def _hidden(path: Path) -> bool:
    """Whether `datasets` passes over a file: what lies in `.git` isn't the set's content."""
    return any(part.startswith(".") for part in path.parts)


def _files(pattern: Path) -> list[Path]:
    """List the files that a path or a pattern names; a path that is there is no pattern."""
    name = str(pattern)
    if os.path.exists(name) or not set("*?[") & set(name):
        return [pattern]
    return [Path(found) for found in sorted(iglob(name, recursive=True)) if os.path.isfile(found)]


def _existing_files(pattern: Path) -> list[Path]:
    files = _files(pattern)
    if not files:
        raise DataError(
            f"{pattern} matches no file, seen from the folder {os.getcwd()}: mend the pattern"
        )
    return files


def missing_files(data: DataConfig) -> list[Path]:
    """Name the files of corpora that aren't there."""
    patterns: list[Path] = []
    for part in data.parts.values():
        if isinstance(part.corpus, TextCorpus | TableCorpus | TmxCorpus):
            corpus = part.corpus
            for files in (corpus.train, corpus.validation, corpus.test):
                patterns += _patterns(files)
    return [pattern for pattern in patterns if not any(path.is_file() for path in _files(pattern))]


def _patterns(files: Tables | None) -> tuple[Path, ...]:
    return (files,) if isinstance(files, Path) else files or ()


def _origin(splits: Iterable[Sequence[Path] | None]) -> dict[str, str]:
    patterns = chain.from_iterable(split or () for split in splits)
    return _digests(chain.from_iterable(map(_files, patterns)))


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
