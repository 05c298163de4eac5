"""`seq2seq benchmark train`: one or two configs in turn, and what came of it."""

import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from seq2seq import __version__
from seq2seq.benchmark.training import Candidate, Result, result_of
from seq2seq.config import Config
from seq2seq.data.prepare import prepare
from seq2seq.errors import UserError
from seq2seq.files import write_whole
from seq2seq.parallel.device import choose_device, compute_deterministically, described
from seq2seq.parallel.group import Group, meet
from seq2seq.parallel.launcher import launched
from seq2seq.parallel.place import Place
from seq2seq.terminal import Progress, show_table
from seq2seq.training.precision import choose_precision


class Measured(NamedTuple):
    """What was measured, and on what."""

    machine: dict[str, Any]
    """Versions, processor, processes."""
    configs: Mapping[str, Config]
    """By names, as for the others."""
    settings: dict[str, dict[str, Any]]
    """What settings that are `auto` have come to."""
    results: dict[str, list[Result]]

    @property
    def ratios(self) -> list[float]:
        """The first config's real tokens a second by those of the second, in turn."""
        first, second = self.results.values()
        return [one.tokens / other.tokens for one, other in zip(first, second, strict=True)]

    @property
    def reached(self) -> float:
        """What a target is compared with: the median ratio of two, or tokens a second of one."""
        if len(self.results) == 2:
            return statistics.median(self.ratios)
        return statistics.median(it.tokens for taken in self.results.values() for it in taken)


def run_benchmark(
    configs: Mapping[str, Config], place: Place, *, samples: int, seconds: int
) -> Measured:
    """Train each config for a while, in turn; their data is prepared first if need be.

    Args:
        configs: one or two, by names; the first one says how many processes there are.
        place: of this process; the others are started where nobody has.
        samples: of each config.
        seconds: that a sample takes.

    Raises:
        UserError: the data can't be prepared, the device lacks a precision, or the configs want
            other devices.
    """
    first, *others = (config.trainer for config in configs.values())
    for key in ("accelerator", "devices", "threads", "deterministic"):
        if any(getattr(other, key) != getattr(first, key) for other in others):
            raise UserError(
                f"`trainer.{key}` must be the same for both, since they are measured in turn by the"
                " same processes"
            )
    device = choose_device(first.accelerator, place)
    for config in configs.values():
        choose_precision(config.trainer.precision, device)
    if first.deterministic:
        compute_deterministically()
    with launched(place) as place, meet(place, timeout=first.timeout) as meeting:
        meeting.wait_for_first("preparing the data")
        for config in configs.values():
            if place.is_first:
                prepare(config)
        meeting.tell_ready()
        with meeting.group(device) as group:
            return _measure(configs, group, device, samples=samples, seconds=seconds)


def _measure(
    configs: Mapping[str, Config],
    group: Group,
    device: torch.device,
    *,
    samples: int,
    seconds: int,
) -> Measured:
    results: dict[str, list[Result]] = {name: [] for name in configs}
    with TemporaryDirectory(prefix="seq2seq-benchmark-") as own:
        folder = Path(group.share(own))
        candidates = [
            Candidate(name, config, group, device, folder / str(number))
            for number, (name, config) in enumerate(configs.items())
        ]
        for candidate in candidates:
            candidate.fill(seconds)
        with Progress("benchmark", total=samples, unit="samples") as progress:
            for _ in range(samples):
                for candidate in candidates:
                    before = candidate.products()
                    taken = group.gather(candidate.sample())
                    products = group.gather((before + candidate.products()) / 2)
                    results[candidate.name].append(result_of(taken, products))
                progress.advance()
        group.gather(None)  # the folder is the first process's
    settings = {candidate.name: candidate.settings for candidate in candidates}
    return Measured(_machine(device, group.place.world_size), configs, settings, results)


def _machine(device: torch.device, processes: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"seq2seq": __version__}
    for package in ("torch", "pytorch-lightning"):
        facts[package] = version(package)
    facts |= {"device": described(device, device.type), "processes": processes}
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


_ROWS: dict[str, tuple[Callable[[Result], float], str]] = {
    "real tokens/s": (lambda it: it.tokens, ",.0f"),
    "  source": (lambda it: it.source_tokens, ",.0f"),
    "  target": (lambda it: it.target_tokens, ",.0f"),
    "padded tokens/s": (lambda it: it.positions, ",.0f"),
    "ms a step": (lambda it: it.milliseconds["step"], ",.2f"),
    "arithmetic, real": (lambda it: 100 * it.useful, ".1f"),
    "arithmetic, padded": (lambda it: 100 * it.computed, ".1f"),
    "products, TFLOP/s": (lambda it: it.products / 1e12, ".3g"),
    "memory of a process, GiB": (lambda it: it.memory / 2**30, ".2f"),
}
"""Rows of the table: what is shown, and how. Arithmetic is in % of square products' rate."""


def _spread(values: Sequence[float], form: str) -> str:
    median = format(statistics.median(values), form)
    return f"{median} ({format(min(values), form)} to {format(max(values), form)})"


def show_results(measured: Measured) -> None:
    """Print medians and ranges: of each config, of the parts of its step, and of the ratio."""
    results = measured.results
    print(", ".join(f"{name} {fact}" for name, fact in measured.machine.items()))
    rows = [
        [label, *(_spread([read(it) for it in taken], form) for taken in results.values())]
        for label, (read, form) in _ROWS.items()
    ]
    parts = [name for name in next(iter(results.values()))[0].milliseconds if name != "step"]
    for part in parts:
        of_part = [[it.milliseconds[part] for it in taken] for taken in results.values()]
        rows.append([f"  {part}, ms", *(_spread(values, ".2f") for values in of_part)])
    for name in ("precision", "tokens_per_device"):
        rows.append([name, *(str(chosen[name]) for chosen in measured.settings.values())])
    number = len(next(iter(results.values())))
    show_table(f"median of {number} samples (range)", ["", *results], rows)
    if len(results) == 2:
        ratio = _spread(measured.ratios, ".3f")
        print(f"{' / '.join(results)}: {ratio} × the real tokens/s")


def write_results(path: Path, measured: Measured) -> None:
    """Write all samples down, with what they were measured on.

    Raises:
        UserError: the file can't be written.
    """
    content = {
        "machine": measured.machine,
        "configs": {name: it.model_dump(mode="json") for name, it in measured.configs.items()},
        "settings": measured.settings,
        "results": {
            name: [it._asdict() for it in taken] for name, taken in measured.results.items()
        },
    }
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())
