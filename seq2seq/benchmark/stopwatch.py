"""Where the time of a training step goes, noted while Lightning trains."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as lightning
import torch
from torch.utils.data import DataLoader

from seq2seq.benchmark.arithmetic import Work
from seq2seq.data.batch import Step
from seq2seq.parallel.device import finish

PARTS = ("wait", "forward", "backward", "optimizer", "frame")
WARM_UP = 2  # steps of each sample that aren't counted


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
        if batch_idx + 1 in (WARM_UP, trainer.num_training_batches):
            finish(self._device)
        self.lap("frame")
        if batch_idx >= WARM_UP:
            self.work = self.work.with_step(batch)
        elif batch_idx + 1 == WARM_UP:
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
