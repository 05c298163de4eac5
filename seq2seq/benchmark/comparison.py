"""One or two candidates measured in turn, and what came of it: a table, a ratio, a file."""

import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from seq2seq import __version__
from seq2seq.files import write_whole
from seq2seq.parallel.device import described
from seq2seq.terminal import Progress, show_table

Result = TypeVar("Result")
Row = tuple[Callable[[Any], float], str]
"""What a row of the table reads from a result, and the form it is written in."""


class Table(NamedTuple):
    """What is shown beside what is compared."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class Measured(NamedTuple):
    """What was measured, and on what."""

    title: str
    """Of the table."""
    rows: list[list[str]]
    """Its rows: a label, and what is said of each candidate."""
    rates: dict[str, list[float]]
    """What is compared, the more the better: for each candidate, by name, that of each sample."""
    unit: str
    """Of the rates."""
    record: dict[str, Any]
    """All of it, for a file: the machine, what was measured, every sample."""
    tables: tuple[Table, ...] = ()
    """What else was found out, to be shown first."""

    @property
    def ratios(self) -> list[float]:
        """The first candidate's rate by that of the second, in turn."""
        first, second = self.rates.values()
        return [one / other for one, other in zip(first, second, strict=True)]

    @property
    def reached(self) -> float:
        """What a target is compared with: the median ratio of two, or the median rate of one."""
        if len(self.rates) == 2:
            return statistics.median(self.ratios)
        return statistics.median(rate for rates in self.rates.values() for rate in rates)


def take_in_turn(
    takes: Mapping[str, Callable[[], Result]], samples: int
) -> dict[str, list[Result]]:
    """Take samples of all candidates in turn, since a shared machine changes its speed.

    Args:
        takes: what takes a sample of a candidate, by name.
        samples: of each.
    """
    results: dict[str, list[Result]] = {name: [] for name in takes}
    with Progress("benchmark", total=samples, unit="samples") as progress:
        for _ in range(samples):
            for name, take in takes.items():
                results[name].append(take())
            progress.advance()
    return results


def machine(device: torch.device, *packages: str) -> dict[str, Any]:
    """Describe what is measured on: versions, also of these packages, and the processor."""
    facts: dict[str, Any] = {"seq2seq": __version__}
    for package in packages:
        facts[package] = version(package)
    facts["device"] = described(device, device.type)
    if device.type == "cuda":
        return facts | {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
    return facts | {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    """Name the CPU, as far as the system tells."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def rows_of(results: Mapping[str, Sequence[Any]], rows: Mapping[str, Row]) -> list[list[str]]:
    """Make rows by their labels: of each candidate, the median of its results and their range."""
    return [
        [label, *(_spread([read(result) for result in taken], form) for taken in results.values())]
        for label, (read, form) in rows.items()
    ]


def _spread(values: Sequence[float], form: str) -> str:
    median = format(statistics.median(values), form)
    return f"{median} ({format(min(values), form)} to {format(max(values), form)})"


def show_results(measured: Measured) -> None:
    """Print medians and ranges: of each candidate, and of the ratio of two."""
    print(", ".join(f"{name} {fact}" for name, fact in measured.record["machine"].items()))
    for table in measured.tables:
        show_table(*table)
    show_table(measured.title, ["", *measured.rates], measured.rows)
    if len(measured.rates) == 2:
        ratio = _spread(measured.ratios, ".3f")
        print(f"{' / '.join(measured.rates)}: {ratio} × the {measured.unit}")


def write_results(path: Path, measured: Measured) -> None:
    """Write all samples down, with what they were measured on.

    Raises:
        UserError: the file can't be written.
    """
    write_whole(path, (json.dumps(measured.record, indent=1) + "\n").encode())
