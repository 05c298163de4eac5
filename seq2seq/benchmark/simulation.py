"""A corpus of any size that is not there: lengths as translations have them, ids all the same."""

import time
from pathlib import Path
from typing import Any

import numpy
import pyarrow

from seq2seq.data.loader import StepDataset
from seq2seq.data.plan_files import PlanFiles
from seq2seq.data.prepared import PreparedSplit, Sentences
from seq2seq.errors import UserError

_PIECE = 2**22  # pairs of a chunk
_LONGEST = 200
AT_ONCE = 4096
"""Positions of a micro-batch, where no config says how many."""


def simulate(folder: Path, pairs: int) -> None:
    """Write the places of the ids of so many pairs, of 22 to 24 pieces in the mean.

    Raises:
        UserError: they can't be written.
    """
    try:
        _write(folder, pairs)
    except OSError as error:
        raise UserError(f"{folder} can't be written: {error.strerror}") from error


def _write(folder: Path, pairs: int) -> None:
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


def plan_simulated(folder: Path, tokens_per_step: int) -> tuple[float, int]:
    """Plan an epoch of what `simulate` has written; the seconds, and the process's most bytes."""
    steps = simulated_steps(folder, tokens_per_step)
    began = time.perf_counter()
    steps.epoch_length(0)
    return time.perf_counter() - began, _peak_memory()


def simulated_steps(folder: Path, tokens_per_step: int) -> StepDataset:
    """Give the steps of what `simulate` has written; their plans are in files beside it."""
    return StepDataset(
        simulated(folder),
        seed=1,
        tokens_per_step=max(tokens_per_step, _LONGEST + 1),
        tokens_per_device=AT_ONCE,
        files=PlanFiles(folder / "plans", "node", least=0),
    )


def _peak_memory() -> int:
    """The most bytes this process has had; what `getrusage` tells goes back to its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
