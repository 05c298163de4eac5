"""`seq2seq benchmark train`: one or two configs in turn, and what came of it."""

import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from seq2seq import __version__
from seq2seq.benchmark.training import PARTS, Candidate, Result, result_of
from seq2seq.config import Config
from seq2seq.data.prepare import prepare
from seq2seq.errors import UserError
from seq2seq.files import write_whole
from seq2seq.parallel.device import choose_device
from seq2seq.parallel.group import Group, meet
from seq2seq.parallel.launcher import launched
from seq2seq.parallel.place import Place
from seq2seq.terminal import Progress, show_table


def run_benchmark(
    configs: Mapping[str, Config], place: Place, *, samples: int, seconds: float
) -> dict[str, list[Result]]:
    """Train each config for a while, in turn; their data is prepared first if need be.

    Args:
        configs: one or two, by names; the first one says how many processes there are.
        place: of this process; the others are started where nobody has.
        samples: of each config.
        seconds: that a sample takes.

    Returns:
        What was reached, by names.

    Raises:
        UserError: the data can't be prepared, or the configs want other devices.
    """
    first, *others = configs.values()
    for other in others:
        if (other.trainer.accelerator, other.trainer.devices, other.trainer.threads) != (
            first.trainer.accelerator,
            first.trainer.devices,
            first.trainer.threads,
        ):
            raise UserError(
                "`trainer.accelerator`, `devices` and `threads` must be the same for both, since"
                " they are measured in turn by the same processes"
            )
    device = choose_device(first.trainer.accelerator, place)
    with launched(place) as place, meet(place, timeout=first.trainer.timeout) as meeting:
        meeting.wait_for_first(f"preparing {first.data.folder}")
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
    seconds: float,
) -> dict[str, list[Result]]:
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
    return results


def ratios(results: dict[str, list[Result]]) -> list[float]:
    """Compare the real tokens a second of the first config with those of the second, in turn."""
    first, second = results.values()
    return [one.tokens / other.tokens for one, other in zip(first, second, strict=True)]


def reached(results: dict[str, list[Result]]) -> float:
    """Say what a target is compared with: the median ratio of two configs, or tokens a second."""
    if len(results) == 2:
        return statistics.median(ratios(results))
    return statistics.median(it.tokens for taken in results.values() for it in taken)


_ROWS: dict[str, tuple[Callable[[Result], float], str]] = {
    "real tokens/s": (lambda it: it.tokens, ",.0f"),
    "  source": (lambda it: it.source_tokens, ",.0f"),
    "  target": (lambda it: it.target_tokens, ",.0f"),
    "padded tokens/s": (lambda it: it.positions, ",.0f"),
    "ms a step": (lambda it: it.milliseconds["step"], ",.2f"),
    "arithmetic, real": (lambda it: 100 * it.useful, ".1f"),
    "arithmetic, padded": (lambda it: 100 * it.computed, ".1f"),
    "memory, GiB": (lambda it: it.memory / 2**30, ".2f"),
}
"""Rows of the table: what is shown, and how. Arithmetic is in % of square products' rate."""


def _spread(values: Sequence[float], form: str) -> str:
    median = format(statistics.median(values), form)
    return f"{median} ({format(min(values), form)} to {format(max(values), form)})"


def show_results(results: dict[str, list[Result]]) -> None:
    """Print medians and ranges: of each config, of the parts of its step, and of the ratio."""
    rows = [
        [label, *(_spread([read(it) for it in taken], form) for taken in results.values())]
        for label, (read, form) in _ROWS.items()
    ]
    for part in (*PARTS, "exchange"):
        cells = [
            _spread([it.milliseconds[part] for it in taken], ".2f")
            for taken in results.values()
            if part in taken[0].milliseconds
        ]
        if cells:
            rows.append([f"  {part}, ms", *cells])
    number = len(next(iter(results.values())))
    show_table(f"median of {number} samples (range)", ["", *results], rows)
    if len(results) == 2:
        print(f"{' / '.join(results)}: {_spread(ratios(results), '.3f')} × the real tokens/s")


def write_results(
    path: Path, configs: Mapping[str, Config], results: dict[str, list[Result]]
) -> None:
    """Write all samples down, with what they were measured on.

    Raises:
        UserError: the file can't be written.
    """
    content: dict[str, Any] = {
        "versions": {"seq2seq": __version__, "torch": torch.__version__},
        "machine": platform.platform(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "configs": {name: config.model_dump(mode="json") for name, config in configs.items()},
        "results": {name: [it._asdict() for it in taken] for name, taken in results.items()},
    }
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def processor() -> str:
    """Name the GPU that is computed on, else the CPU."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return torch.backends.cpu.get_cpu_capability() + " " + (platform.processor() or "CPU")
