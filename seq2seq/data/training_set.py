"""The training set: parts of text → blocks of ids → one Arrow file.

A block holds what has become of so many pairs, and is there whole or not at all: making a set that
was interrupted goes on after the last one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy
import numpy.typing
import pyarrow
from pydantic import BaseModel, ConfigDict

from seq2seq.data.cleaning import Examples, Pair, add_times, add_up
from seq2seq.data.encoding import Encoded, Encoder, in_order
from seq2seq.data.overlap import Found, HeldOut
from seq2seq.data.prepared import FlatIds
from seq2seq.data.repetition import Seen
from seq2seq.files import whole_file, write_whole
from seq2seq.unknown_characters import Characters

_CHUNK = 2000  # pairs that a worker gets at a time
_CHUNKS = 25  # of a block

Bools = numpy.typing.NDArray[numpy.bool_]


class Block(BaseModel):
    """What a finished block says of itself."""

    model_config = ConfigDict(frozen=True)

    part: int
    """Number of the part."""
    read: int
    """Pairs of text."""
    pairs: int
    """That are left of them."""
    pieces: tuple[int, int]
    """Of source and target."""
    removed: dict[str, Examples]
    """By rule."""
    seconds: dict[str, float]
    """That each rule took, over all processes."""
    characters: tuple[Characters, Characters]
    """Of source and target."""
    held_out: Found


class TrainingSet:
    """The training set that is being made in a folder."""

    def __init__(self, folder: Path, held_out: HeldOut, *, removes_overlap: bool):
        """Take up what is there.

        Args:
            folder: of the blocks, which must be of this text and of these settings.
            held_out: pairs that are looked for in the text.
            removes_overlap: whether they are left out.
        """
        self._folder, self._held_out, self._removes = folder, held_out, removes_overlap
        self._seen = Seen()
        self.blocks: list[Block] = []
        while self._path(".json").exists():
            self._seen.add(numpy.load(self._path(".npy")))
            self.blocks.append(Block.model_validate_json(self._path(".json").read_bytes()))

    def _path(self, ending: str, number: int | None = None) -> Path:
        """Name a file of a block, by default of the next one."""
        return self._folder / f"{len(self.blocks) if number is None else number:06}{ending}"

    def add(
        self,
        part: int,
        pairs: Iterable[Pair],
        encoder: Encoder,
        *,
        workers: int,
        advance: Callable[[int], None],
    ) -> None:
        """Make the blocks of a part that aren't there yet.

        Args:
            part: its number.
            pairs: its text.
            encoder: what makes ids of it.
            workers: processes that do so.
            advance: is told of pairs that are done.

        Raises:
            UserError: nothing can be written.
        """
        done = sum(block.read for block in self.blocks if block.part == part)
        advance(done)
        results = in_order(encoder, chunks(islice(pairs, done, None)), workers)
        while taken := list(islice(results, _CHUNKS)):
            self._write(part, taken)
            advance(self.blocks[-1].read)

    def _write(self, part: int, taken: Sequence[tuple[Sequence[Pair], Encoded]]) -> None:
        removed: dict[str, Examples] = {}
        seconds: dict[str, float] = {}
        found, digests = Found(), [numpy.zeros(0, numpy.uint64)]
        characters = (Characters(), Characters())
        kept: list[tuple[FlatIds, FlatIds]] = []
        for chunk, encoded in taken:
            add_up(removed, encoded.removed)
            add_times(seconds, encoded.seconds)
            characters = more_characters(characters, encoded.characters)
            pairs = [chunk[number] for number in encoded.numbers.tolist()]
            wanted = numpy.ones(len(pairs), dtype=bool)
            if encoded.near is not None and pairs:
                is_held_out, more = self._held_out.find(encoded.near, pairs)
                found = found.with_more(more)
                if self._removes:
                    self._leave_out(removed, "overlap", is_held_out, pairs)
                    wanted &= ~is_held_out
            if encoded.digests is not None:
                again = self._seen.add(encoded.digests)
                digests.append(encoded.digests)
                self._leave_out(removed, "duplicates", again & wanted, pairs)
                wanted &= ~again
            kept.append((encoded.source.chosen(wanted), encoded.target.chosen(wanted)))
        with whole_file(self._path(".arrow")) as file:
            _write_columns(file, kept)
        with whole_file(self._path(".npy")) as file:
            numpy.save(file, numpy.concatenate(digests))
        block = Block(
            part=part,
            read=sum(len(chunk) for chunk, _ in taken),
            pairs=sum(len(source.lengths) for source, _ in kept),
            pieces=(
                sum(len(source.ids) for source, _ in kept),
                sum(len(target.ids) for _, target in kept),
            ),
            removed=removed,
            seconds=seconds,
            characters=characters,
            held_out=found,
        )
        write_whole(self._path(".json"), block.model_dump_json().encode())  # the last of them
        self.blocks.append(block)

    @staticmethod
    def _leave_out(
        removed: dict[str, Examples], rule: str, unfit: Bools, pairs: Sequence[Pair]
    ) -> None:
        if unfit.any():
            add_up(removed, {rule: [*compress(pairs, unfit.tolist())]})

    def save(self, path: Path) -> None:
        """Put all blocks into one file."""
        with pyarrow.OSFile(str(path), "wb") as file:
            writer = None
            for number in range(len(self.blocks)):
                with pyarrow.memory_map(str(self._path(".arrow", number))) as block:
                    reader = pyarrow.ipc.open_file(block)
                    writer = writer or pyarrow.ipc.new_file(file, reader.schema)
                    for index in range(reader.num_record_batches):
                        writer.write_batch(reader.get_batch(index))
            if writer is not None:
                writer.close()


def more_characters(
    first: tuple[Characters, Characters], second: tuple[Characters, Characters]
) -> tuple[Characters, Characters]:
    """Add up the characters of two texts, by side."""
    return first[0].with_more(second[0]), first[1].with_more(second[1])


def chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Divide pairs into what is worked on at a time."""
    rest = iter(pairs)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def _write_columns(file: Any, kept: Sequence[tuple[FlatIds, FlatIds]]) -> None:
    """Write a block's ids as one batch."""
    columns = [
        FlatIds(
            numpy.concatenate([side.ids for side in sides]),
            numpy.concatenate([side.lengths for side in sides]),
        ).as_column()
        for sides in zip(*kept, strict=True)
    ]
    batch = pyarrow.RecordBatch.from_arrays(columns, ["source", "target"])
    with pyarrow.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
