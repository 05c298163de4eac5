"""Where pairs of sentences come from: the embedded corpus, the Hub, text files, tables.

The only file that knows `datasets`.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from glob import iglob
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from seq2seq.config import DataConfig, HubCorpus, SampleCorpus, TableCorpus, TextCorpus
from seq2seq.data.rows import Side, Sides, needed_columns, pairs_of
from seq2seq.data.tables import read_table
from seq2seq.data.text_files import Pairs, read_parallel
from seq2seq.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


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
        case TableCorpus():
            return _Table(data, data.corpus)


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
        patterns = self._files[split]
        assert patterns is not None
        sources, targets = (_existing_files(pattern) for pattern in patterns)
        if len(sources) != len(targets):
            raise DataError(
                f"{patterns[0]} matches {len(sources)} files, but {patterns[1]} {len(targets)}:"
                " each source file needs its target file"
            )
        return chain.from_iterable(map(read_parallel, sources, targets))

    def origin(self) -> dict[str, str]:
        return _origin(self._files.values())


class _Table:
    """Tables in files."""

    def __init__(self, data: DataConfig, corpus: TableCorpus):
        splits = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
        self._files = {
            split: (files,) if isinstance(files, Path) else files for split, files in splits.items()
        }
        self._sides = _sides(data, corpus)
        self._header = corpus.header

    def has(self, split: Split) -> bool:
        return self._files[split] is not None

    def pairs(self, split: Split) -> Pairs:
        patterns = self._files[split]
        assert patterns is not None
        for path in chain.from_iterable(map(_existing_files, patterns)):
            yield from read_table(path, self._sides, header=self._header)

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
            otherwise="local files are read with data.corpus.kind=text or table",
        )
        name, sides = f"the data set '{corpus.name}'", _sides(self._data, corpus)
        # Other columns may be pictures or sound, which would be decoded for nothing.
        columns = needed_columns(rows.column_names, sides, name)
        return pairs_of(rows.select_columns(columns), sides, name)

    def origin(self) -> dict[str, str]:
        folder = Path(self._corpus.name)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return _digests(path for path in files if not _hidden(path.relative_to(folder)))


def load_set(
    name: str,
    configuration: str | None,
    split: str | None,
    *,
    revision: str | None = None,
    otherwise: str,
) -> Any:
    """Load a data set of the Hub, or a folder in its layout: a split of it, else all by name.

    Args:
        name: of the set, or of the folder.
        configuration: of the set, if it has several.
        split: as `datasets` writes it, such as `train[:1000]`.
        revision: branch, tag or commit.
        otherwise: what an error says of how other files are read.

    Raises:
        DataError: it can't be loaded.
    """
    import datasets  # slow to import; only this kind of corpus needs it
    from datasets.exceptions import DatasetsError

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(  # pyright: ignore[reportUnknownMemberType]
            name, configuration, split=split, revision=revision
        )
    except (OSError, ValueError, DatasetsError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        which = "" if split is None else f"split '{split}' of "
        raise DataError(
            f"{which}the data set '{name}' can't be loaded: {reason} ({otherwise})"
        ) from error


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
    """Name the files of a corpus of text files or tables that aren't there."""
    if not isinstance(data.corpus, TextCorpus | TableCorpus):
        return []
    corpus = data.corpus
    patterns: list[Path] = []
    for files in (corpus.train, corpus.validation, corpus.test):
        patterns += [files] if isinstance(files, Path) else files or ()
    return [pattern for pattern in patterns if not any(path.is_file() for path in _files(pattern))]


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
