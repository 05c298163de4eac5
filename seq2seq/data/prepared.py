"""The data folder as training and evaluation read it: manifest, vocabularies, mapped ids."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy
import numpy.typing
import pyarrow
from pydantic import BaseModel, ConfigDict, ValidationError

from seq2seq.data.corpus import Split
from seq2seq.data.overlap import Overlap
from seq2seq.errors import DataError
from seq2seq.vocabulary import Vocabularies

FORMAT = 2
MANIFEST = "manifest.json"

Ids = numpy.typing.NDArray[numpy.integer[Any]]
Integers = numpy.typing.NDArray[numpy.integer[Any]]


def split_path(folder: Path, split: Split) -> Path:
    """Name the file of one split."""
    return folder / f"{split}.arrow"


class SplitCounts(BaseModel):
    """What one split holds and what was left out, by rule."""

    model_config = ConfigDict(frozen=True)

    pairs: int = 0
    source_pieces: int = 0
    target_pieces: int = 0
    removed: dict[str, int] = {}
    """Training pairs by the rule that left them out."""
    examples: dict[str, tuple[tuple[str, str], ...]] = {}
    """Three of these."""
    microseconds: dict[str, float] = {}
    """That each rule took for a pair, on one CPU."""
    unknown: tuple[float, float] | None = None
    """Shares of the source's and of the target's characters that the vocabularies don't know."""


class PreparedPart(BaseModel):
    """A corpus of the mix, or the only one, whose training pairs lie together."""

    model_config = ConfigDict(frozen=True)

    name: str
    source: str
    target: str
    pairs: int
    """Of the training set."""


class DataFolder(BaseModel):
    """What a data folder of any format says of itself."""

    model_config = ConfigDict(frozen=True)

    format: int
    version: str
    fingerprint: str

    @staticmethod
    def load(folder: Path) -> "DataFolder":
        """Read a folder's manifest, whatever its format.

        Raises:
            DataError: the folder is no data folder.
        """
        return _read_manifest(DataFolder, folder)


class Manifest(DataFolder):
    """What a data folder of this format says of itself."""

    source: str
    target: str
    settings: dict[str, Any]
    origin: dict[str, str]
    splits: dict[Split, SplitCounts]
    parts: tuple[PreparedPart, ...] = ()
    overlaps: tuple[Overlap, ...] = ()

    def save(self, folder: Path) -> None:
        """Write the manifest; the last file of a folder that is being made."""
        (folder / MANIFEST).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Manifest":
        """Read a folder's manifest.

        Raises:
            DataError: the folder is no data folder, or one of another format.
        """
        made = DataFolder.load(folder)
        if made.format != FORMAT:
            newer = f"seq2seq {made.version} has made it: update seq2seq, or "
            raise DataError(
                f"the data folder {folder} has format {made.format}, but this version reads"
                f" format {FORMAT}: {newer if made.format > FORMAT else ''}make it anew with"
                " `seq2seq prepare --overwrite`"
            )
        return _read_manifest(Manifest, folder)

    def summary(self) -> str:
        """Say in a line what the folder holds."""
        parts = [f"{counts.pairs:,} {split} pairs" for split, counts in self.splits.items()]
        removed = self.splits["train"].removed
        left_out = ", ".join(
            f"{number:,} {rule.replace('_', ' ')}" for rule, number in removed.items()
        )
        return ", ".join(parts) + (f"; left out of training: {left_out}" if left_out else "")


_Kind = TypeVar("_Kind", bound=DataFolder)


def _read_manifest(kind: type[_Kind], folder: Path) -> _Kind:
    try:
        return kind.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise DataError(
            f"{folder} is no data folder (no readable {MANIFEST} in it): choose another"
            " data.folder, or make one with `seq2seq prepare`"
        ) from error


class FlatIds(NamedTuple):
    """Sentences, one after the other."""

    ids: Ids
    lengths: numpy.typing.NDArray[numpy.int64]

    @staticmethod
    def of(sentences: Sequence[Ids]) -> "FlatIds":
        """Put sentences, at least one, into one array."""
        lengths = numpy.fromiter(map(len, sentences), numpy.int64, len(sentences))
        return FlatIds(numpy.concatenate(sentences), lengths)

    def chosen(self, wanted: numpy.typing.NDArray[numpy.bool_]) -> "FlatIds":
        """Leave sentences out."""
        return FlatIds(self.ids[numpy.repeat(wanted, self.lengths)], self.lengths[wanted])

    def as_column(self) -> Any:
        """Make a column of an Arrow table."""
        offsets = numpy.concatenate(([0], numpy.cumsum(self.lengths))).astype(numpy.int32)
        return pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(self.ids))


class Sentences(Sequence[Ids]):
    """One column of ids, memory-mapped: nothing is read before it is asked for."""

    def __init__(self, column: Any):
        chunks = column.chunks
        self._ids = [chunk.values.to_numpy() for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._starts = numpy.cumsum([0] + [len(chunk) for chunk in chunks])

    @property
    def lengths(self) -> numpy.typing.NDArray[numpy.int64]:
        """The number of ids of each sentence."""
        parts = [numpy.diff(offsets) for offsets in self._offsets]
        return (
            numpy.concatenate(parts).astype(numpy.int64) if parts else numpy.zeros(0, numpy.int64)
        )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: Any) -> Any:
        chunk = int(numpy.searchsorted(self._starts, index, side="right")) - 1
        row = index - self._starts[chunk]
        start, end = self._offsets[chunk][row : row + 2]
        return self._ids[chunk][start:end]

    def lengths_of(self, examples: Integers) -> numpy.typing.NDArray[numpy.int64]:
        """The number of ids of some sentences; only theirs are read."""
        found = [end - start for _, start, end in self._places(examples)]
        return numpy.array(found, dtype=numpy.int64)

    def gather(self, examples: Integers) -> FlatIds:
        """Read some sentences, at least one."""
        found = [self._ids[chunk][start:end] for chunk, start, end in self._places(examples)]
        return FlatIds.of(found)

    def _places(self, examples: Integers) -> Iterator[tuple[int, int, int]]:
        """Find sentences: the chunk, and where they start and end in it."""
        chunks = numpy.searchsorted(self._starts, examples, side="right") - 1
        rows = examples - self._starts[chunks]
        for chunk, row in zip(chunks.tolist(), rows.tolist(), strict=True):
            offsets = self._offsets[chunk]
            yield chunk, int(offsets[row]), int(offsets[row + 1])


class PreparedSplit(NamedTuple):
    """The pairs of one split, as ids."""

    source: Sentences
    target: Sentences


class PreparedText(NamedTuple):
    """The raw text of a split that scores are taken on."""

    source: list[str]
    target: list[str]


class PreparedData(NamedTuple):
    """A data folder that has been opened."""

    folder: Path
    manifest: Manifest
    vocabularies: Vocabularies

    @staticmethod
    def open(folder: Path) -> "PreparedData":
        """Open a data folder.

        Raises:
            DataError: it is no data folder, or not whole.
        """
        return PreparedData(folder, Manifest.load(folder), Vocabularies.load(folder))

    def split(self, split: Split) -> PreparedSplit:
        """Map the ids of a split, but for pairs that are empty on a side: they have no loss."""
        table = _table(self.folder, split)
        pairs = PreparedSplit(Sentences(table["source"]), Sentences(table["target"]))
        if split == "train":  # has none, and may be too large to be looked through
            return pairs
        full = numpy.minimum(pairs.source.lengths, pairs.target.lengths) > 0
        table = table.filter(pyarrow.array(full))
        return PreparedSplit(Sentences(table["source"]), Sentences(table["target"]))

    def text(self, split: Split) -> PreparedText:
        """Read the raw text of the validation or the test set."""
        table = _table(self.folder, split)
        return PreparedText(table["source_text"].to_pylist(), table["target_text"].to_pylist())

    def directions(self, split: Split) -> list[tuple[str, str]]:
        """Say from which language into which each pair of the validation or the test set goes."""
        parts = self.manifest.parts
        numbers = _table(self.folder, split)["part"].to_pylist()
        return [(parts[number].source, parts[number].target) for number in numbers]


def _table(folder: Path, split: Split) -> Any:
    path = split_path(folder, split)
    try:
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(
            f"the data folder {folder} has no readable {split} set ({path.name}): prepare it with"
            " that split, or again"
        ) from error
