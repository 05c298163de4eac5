"""Training as it is, but for validations and checkpoints, with a stopwatch."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from seq2seq.benchmark.arithmetic import Weights, Work, best_products
from seq2seq.benchmark.comparison import Measured, Row, machine, rows_of, take_in_turn
from seq2seq.benchmark.stopwatch import PARTS, WARM_UP, Stopwatch
from seq2seq.config import Config, Constant
from seq2seq.data.loader import Position
from seq2seq.data.prepare import prepare
from seq2seq.data.prepared import PreparedData
from seq2seq.errors import UserError
from seq2seq.parallel.device import (
    choose_device,
    compute_deterministically,
    forget_peak,
    peak_memory,
)
from seq2seq.parallel.group import Group, meet
from seq2seq.parallel.launcher import launched
from seq2seq.parallel.place import Place
from seq2seq.terminal import Progress
from seq2seq.training.boundary import Boundary
from seq2seq.training.capacity import Capacity
from seq2seq.training.divergence import Watch
from seq2seq.training.monitoring import Monitor
from seq2seq.training.parts import new_loader, new_module, new_steps
from seq2seq.training.precision import allow_products, choose_precision
from seq2seq.training.report import Report
from seq2seq.training.run_folder import RunFolder
from seq2seq.training.state import RunState
from seq2seq.training.stopping import StopRequest
from seq2seq.training.trainer import make_trainer
from seq2seq.training.validation import Validator

_LEAST = 5  # steps of a sample


class Sample(NamedTuple):
    """What some steps have taken, in one process; plain types, so that it can tell the others."""

    work: Work
    operations: int
    """Floating-point operations that real tokens need, over all processes."""
    computed: int
    """Those of this process, on padding too."""
    seconds: float
    parts: dict[str, float]
    """Seconds a step."""
    memory: int
    """Most bytes: of a GPU, else of the process."""


class Candidate:
    """A config, ready to train in a process, again and again."""

    def __init__(self, name: str, config: Config, group: Group, device: torch.device, folder: Path):
        """Set all up; the data must be prepared, and all processes must do it.

        Args:
            name: for the tables.
            config: whose schedule, validations and checkpoints don't count.
            group: the processes.
            device: what this one computes on.
            folder: for what a run writes.
        """
        self.name, self._group, self._device = name, group, device
        self._config = config = _endless(config, folder)
        self._precision = choose_precision(config.trainer.precision, device)
        self._data = PreparedData.open(config.data.folder)
        self._folder = RunFolder(config, resume=True)
        steps, state = new_steps(config, self._data, group.place), RunState()
        self._module = new_module(config, self._data, steps, group, self._precision, state)
        network = self._module.network
        capacity = Capacity(network, steps, config, group, device, self._precision, epoch=0)
        self._steps = capacity.cut(state)
        self._weights = Weights.of(network)
        self.settings = {
            "precision": self._precision.name,
            "tokens_per_device": self._steps.tokens_per_device,
        }
        """What `auto` has come to."""
        self.steps = _LEAST
        """Number of steps of a sample."""

    def products(self) -> float:
        """Measure the operations a second that this process could reach; all must call it."""
        allow_products(self._precision)
        kind = self._precision.products or self._precision.weights
        self._group.gather(None)  # at the same time, since they share the machine
        return best_products(self._device, kind)

    def fill(self, seconds: int) -> None:
        """Choose how many steps a sample has, so that it takes so long; all must call it."""
        took = max(self._group.gather(self._train(_LEAST, exact=False).seconds)) / _LEAST
        self.steps = max(_LEAST, round(seconds / took))

    def take(self) -> "Result":
        """Take a sample, and what products reach before and after it; all must call it."""
        before = self.products()
        samples = self._group.gather(self.sample())
        products = self._group.gather((before + self.products()) / 2)
        return result_of(samples, products)

    def sample(self) -> Sample:
        """Train some steps; where a part of them is to be told from another, a few more."""
        forget_peak(self._device)
        start = self._module.state.position
        sample = self._train(self.steps, exact=False)
        on_cpu = self._device.type == "cpu"
        number = self.steps if on_cpu else _LEAST
        if not on_cpu:
            sample = sample._replace(parts=self._again(start, number))
        if self._group.place.world_size > 1:
            self._module.exchanging = False
            alone = self._again(start, number)["backward"]
            self._module.exchanging = True
            exchange = sample.parts["backward"] - alone
            sample = sample._replace(parts=sample.parts | {"backward": alone, "exchange": exchange})
        return sample

    def _again(self, start: Position, number: int) -> dict[str, float]:
        """Train the same steps, waiting for the device where its parts are told apart."""
        state = self._module.state
        state.epoch, state.batch = start
        return self._train(number, exact=True).parts

    def _train(self, number: int, *, exact: bool) -> Sample:
        """Train some steps, after a few that don't count."""
        allow_products(self._precision)
        config, place, state = self._config, self._group.place, self._module.state
        stopwatch = Stopwatch(self._device, exact=exact)
        self._module.lap = stopwatch.lap
        loader = new_loader(
            config, self._steps, place, self._device, state.position, WARM_UP + number
        )
        with self._folder.held(self._group), self._reporting(number) as report:
            boundary = Boundary(
                config,
                self._steps,
                self._group,
                validator=Validator(self._data, config, self._group, self._steps.tokens_per_device),
                report=report,
                stop=StopRequest(),
                save=lambda: None,
                save_best=lambda _: None,
            )
            trainer = make_trainer(config, [boundary, stopwatch], place, self._device)
            trainer.fit(self._module, stopwatch.watch(loader))
        work, seconds = stopwatch.work, sum(stopwatch.parts.values())
        real = (work.source_tokens, work.target_tokens, work.target_tokens)
        padded = (work.source_positions, work.target_positions, work.scored_tokens)
        return Sample(
            work,
            self._weights.operations(*real),
            self._weights.operations(*padded),
            seconds,
            {part: stopwatch.parts[part] / work.steps for part in PARTS},
            peak_memory(self._device),
        )

    @contextmanager
    def _reporting(self, number: int) -> Generator[Report]:
        """Report as a run does, to nobody."""
        config, state = self._config, self._module.state
        monitor = Monitor(config, step=state.step) if self._group.place.is_first else None
        guessing = log(len(self._data.vocabularies.target))
        with Progress(self.name, total=number, unit="steps") as progress:
            yield Report(
                self._folder,
                self._group,
                log_every=config.training.log_every,
                progress=progress,
                monitor=monitor,
                watch=Watch(self._folder, self._group, self._steps, guessing),
            )


def _endless(config: Config, folder: Path) -> Config:
    """Leave validations, checkpoints and loggers out of a config."""
    never = 10**9
    checkpoint = config.training.checkpoint.model_copy(update={"every": never, "minutes": None})
    # A schedule that ends has nothing to go by in a run that doesn't.
    optimizer = config.training.optimizer.model_copy(update={"schedule": Constant(kind="constant")})
    training = {"folder": folder, "steps": never, "checkpoint": checkpoint, "optimizer": optimizer}
    return config.model_copy(
        update={
            "training": config.training.model_copy(update=training),
            "validation": config.validation.model_copy(update={"every": never}),
            "monitoring": config.monitoring.model_copy(update={"loggers": ()}),
        }
    )


class Result(NamedTuple):
    """What all processes together have reached in one sample."""

    source_tokens: float
    """Real ones a second; the same for the others."""
    target_tokens: float
    positions: float
    """Padded ones, of both sides."""
    milliseconds: dict[str, float]
    """Of a step: of the slowest process, and of its parts in the first."""
    useful: float
    """Share of what square products reach that real tokens need."""
    computed: float
    """The same with all that is computed, padding too."""
    products: float
    """Operations a second that square products reach."""
    memory: int

    @property
    def tokens(self) -> float:
        """Real tokens a second, of both sides."""
        return self.source_tokens + self.target_tokens


def result_of(samples: Sequence[Sample], products: Sequence[float]) -> Result:
    """Put the samples of all processes together.

    Args:
        samples: one of each process, at the same time.
        products: operations a second that each could reach, at the same time.
    """
    first, slowest = samples[0], max(sample.seconds for sample in samples)
    steps, best = first.work.steps, sum(products)
    positions = sum(s.work.source_positions + s.work.target_positions for s in samples)
    return Result(
        first.work.source_tokens / slowest,
        first.work.target_tokens / slowest,
        positions / slowest,
        {"step": 1000 * slowest / steps}
        | {part: 1000 * seconds for part, seconds in first.parts.items()},
        first.operations / slowest / best,
        sum(sample.computed for sample in samples) / slowest / best,
        best,
        max(sample.memory for sample in samples),
    )


_ROWS: dict[str, Row] = {
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
"""Arithmetic is in % of square products' rate."""


def measure_training(
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
    with TemporaryDirectory(prefix="seq2seq-benchmark-") as own:
        folder = Path(group.share(own))
        candidates = {
            name: Candidate(name, config, group, device, folder / str(number))
            for number, (name, config) in enumerate(configs.items())
        }
        for candidate in candidates.values():
            candidate.fill(seconds)
        results = take_in_turn({name: it.take for name, it in candidates.items()}, samples)
        group.gather(None)  # the folder is the first process's
    settings = {name: candidate.settings for name, candidate in candidates.items()}
    facts = machine(device, "torch", "pytorch-lightning")
    return Measured(
        title=f"median of {samples} samples (range)",
        rows=_rows(results, settings),
        rates={name: [it.tokens for it in taken] for name, taken in results.items()},
        unit="real tokens/s",
        record={
            "machine": facts | {"processes": group.place.world_size},
            "configs": {name: config.model_dump(mode="json") for name, config in configs.items()},
            "settings": settings,
            "results": {name: [it._asdict() for it in taken] for name, taken in results.items()},
        },
    )


def _rows(
    results: Mapping[str, Sequence[Result]], settings: Mapping[str, Mapping[str, object]]
) -> list[list[str]]:
    milliseconds = next(iter(results.values()))[0].milliseconds
    parts: dict[str, Row] = {
        f"  {part}, ms": (lambda it, part=part: it.milliseconds[part], ".2f")
        for part in milliseconds
        if part != "step"
    }
    chosen = [
        [name, *(str(values[name]) for values in settings.values())]
        for name in ("precision", "tokens_per_device")
    ]
    return rows_of(results, _ROWS) + rows_of(results, parts) + chosen
