"""A corpus of any size that is not there: lengths as translations have them, ids all the same."""

from pathlib import Path
from typing import Any

import numpy
import pyarrow

from seq2seq.data.prepared import PreparedSplit, Sentences

_PIECE = 2**22  # pairs of a chunk
_LONGEST = 200


def simulate(folder: Path, pairs: int) -> None:
    """Write the places of the ids of so many pairs, of 22 to 24 pieces in the mean."""
    random = numpy.random.default_rng(1)
    files = [(folder / f"{side}.offsets").open("wb") for side in ("source", "target")]
    longest = 0
    for start in range(0, pairs, _PIECE):
        number = min(_PIECE, pairs - start)
        both = random.lognormal(3.0, 0.5, number)
        for file in files:
            lengths = numpy.clip(both * random.lognormal(0.0, 0.15, number), 1, _LONGEST)
            ends = numpy.cumsum(lengths.astype(numpy.int32), dtype=numpy.int32)
            file.write(numpy.concatenate(([0], ends)).astype(numpy.int32).tobytes())
            longest = max(longest, int(ends[-1]))
    for file in files:
        file.close()
    with (folder / "ids").open("wb") as file:
        file.truncate(2 * longest)  # a hole, that takes no room: each chunk has the same ids


def simulated(folder: Path) -> PreparedSplit:
    """Map what `simulate` has written."""
    ids = pyarrow.array(numpy.memmap(folder / "ids", numpy.uint16, "r"))
    return PreparedSplit(*(_side(folder / f"{side}.offsets", ids) for side in ("source", "target")))


def _side(path: Path, ids: Any) -> Sentences:
    offsets = numpy.memmap(path, numpy.int32, "r")
    starts = range(0, len(offsets), _PIECE + 1)
    chunks = [
        pyarrow.ListArray.from_arrays(pyarrow.array(offsets[start : start + _PIECE + 1]), ids)
        for start in starts
    ]
    return Sentences(pyarrow.chunked_array(chunks))
