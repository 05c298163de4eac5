"""Training as it is, but for validations and checkpoints, with a stopwatch."""

import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as lightning
import torch
from torch.utils.data import DataLoader

from seq2seq.benchmark.arithmetic import Weights, Work, best_products
from seq2seq.config import Config, Constant
from seq2seq.data.batch import Step
from seq2seq.data.loader import Position
from seq2seq.data.prepared import PreparedData
from seq2seq.parallel.device import finish, forget_peak, peak_memory
from seq2seq.parallel.group import Group
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

PARTS = ("wait", "forward", "backward", "optimizer", "frame")
_WARM_UP = 2  # steps of each sample that aren't counted
_LEAST = 5  # steps of a sample


class Stopwatch(lightning.Callback):
    """Notes where the time of a step goes."""

    def __init__(self, device: torch.device, *, exact: bool):
        """Start with nothing.

        Args:
            device: that computes.
            exact: wait at each lap until it has done what it was told, which a GPU is otherwise
                spared; the whole takes longer then.
        """
        self._device, self._exact = device, exact
        self._last = time.perf_counter()
        self.parts: dict[str, float] = defaultdict(float)
        self.work = Work()

    def lap(self, part: str) -> None:
        """Count the time since the last lap to a part of the step."""
        if self._exact:
            finish(self._device)
        now = time.perf_counter()
        self.parts[part] += now - self._last
        self._last = now

    def watch(self, loader: DataLoader[Step]) -> "_Watched":
        """Let a loader be waited for by this watch."""
        return _Watched(loader, self)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start a step, all that belongs to the last one being over."""
        self.lap("frame")

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Step, batch_idx: int
    ) -> None:
        """End a step; the first ones count for nothing."""
        if batch_idx + 1 in (_WARM_UP, trainer.num_training_batches):
            finish(self._device)
        self.lap("frame")
        if batch_idx >= _WARM_UP:
            self.work = self.work.with_step(batch)
        elif batch_idx + 1 == _WARM_UP:
            self.parts.clear()


class _Watched:
    """A loader that a stopwatch waits for."""

    def __init__(self, loader: DataLoader[Step], stopwatch: Stopwatch):
        self._loader, self._stopwatch = loader, stopwatch

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Step]:
        steps = iter(self._loader)
        for _ in range(len(self)):
            self._stopwatch.lap("frame")
            step = next(steps)
            self._stopwatch.lap("wait")
            yield step


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
            config, self._steps, place, self._device, state.position, _WARM_UP + number
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
