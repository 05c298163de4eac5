"""What a run tells: the bar, lines about validations, `metrics.jsonl`."""

import json
import math
import time
from itertools import count
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from seq2seq.data.batch import Step, padded_size
from seq2seq.data.loader import Position
from seq2seq.errors import UserError
from seq2seq.files import write_whole
from seq2seq.parallel.device import peak_memory
from seq2seq.parallel.group import Group
from seq2seq.terminal import Progress, say
from seq2seq.training.divergence import Computed, Watch
from seq2seq.training.monitoring import Monitor
from seq2seq.training.run_folder import RunFolder
from seq2seq.training.state import RunState
from seq2seq.training.validation import Validation

_UNSENT = {"epoch", "signature"}  # to the loggers: their axis is the step, and texts are no points


class Report:
    """Collects what the steps give, and reads it back from the device once in a while."""

    def __init__(
        self,
        folder: RunFolder,
        group: Group,
        *,
        log_every: int,
        progress: Progress,
        monitor: Monitor | None,
        watch: Watch,
    ):
        """Begin to collect.

        Args:
            folder: the run folder.
            group: the processes of the run.
            log_every: steps between two entries.
            progress: the bar.
            monitor: the loggers, which the first process has.
            watch: looks whether the run still learns.
        """
        self._folder, self._group = folder, group
        self._log_every, self._progress, self._monitor = log_every, progress, monitor
        self._watch = watch
        self._outputs: list[dict[str, Tensor]] = []
        self._positions: list[Position] = []
        self._tokens = self._padded = self._epoch = 0
        self._waited = 0.0
        self.pace: float | None = None
        """Seconds that a step took when it was last known, on a GPU with all that it has to do."""
        self._since = self._waiting_since = time.monotonic()

    def begin(self, state: RunState) -> None:
        """Drop the lines of steps that are going to be computed again; all must call it."""
        self._group.first_does(lambda: self._drop_lines_after(state.step))
        self._since = self._waiting_since = time.monotonic()

    def _drop_lines_after(self, step: int) -> None:
        path = self._folder.metrics
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if (_step_of(line) or math.inf) <= step]
            write_whole(path, b"".join(kept))

    def batch_arrived(self) -> None:
        """Count the time since the last step was over as waiting for data."""
        self._waited += time.monotonic() - self._waiting_since

    def wait_for_batch(self) -> None:
        """Note that all is done that belongs to the last step."""
        self._waiting_since = time.monotonic()

    def step(
        self, state: RunState, position: Position, step: Step, outputs: dict[str, Tensor]
    ) -> None:
        """Take in one optimizer step.

        Args:
            state: after it.
            position: of the step.
            step: that was computed.
            outputs: what the module made of it.
        """
        self._outputs.append(outputs)
        self._positions.append(position)
        self._tokens += step.source_tokens + step.target_tokens
        self._padded += sum(map(padded_size, step.batches))
        self._epoch = step.epoch
        self._progress.advance(1, epoch=str(step.epoch + 1))
        if state.step % self._log_every == 0:
            self.read_back(state)

    def read_back(self, state: RunState) -> None:
        """Log the steps since the last time, and show them; all processes must call it.

        Raises:
            CommonError: the run doesn't learn any more.
        """
        if not self._outputs:
            return
        collected = {
            name: torch.stack([outputs[name] for outputs in self._outputs]).cpu().double()
            for name in self._outputs[0]
        }
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        own = (collected["loss"].tolist(), self._padded, self._waited / seconds, _memory())
        shares, padded, waits, memories = zip(*self._group.gather(own), strict=True)
        losses = [sum(parts) for parts in zip(*shares, strict=True)]
        first = state.step - len(losses) + 1
        skipped = collected["skipped"].bool().tolist()
        rows = zip(count(first), self._positions, losses, skipped, strict=False)
        self._watch.look([Computed(*row) for row in rows])
        entry = {
            "epoch": self._epoch,
            "loss": fmean(losses),
            "learning_rate": collected["rate"].mean().item(),
            "gradient_norm": _mean_of_finite(collected["norm"]),
            "tokens_per_second": round(self._tokens / seconds),
            "padded_tokens_per_second": round(sum(padded) / seconds),
            "data_wait": max(waits),
            "memory": max(memories),
        }
        self.pace = seconds / len(self._outputs)
        self._write("train", state.step, entry)
        rate = f"{self._tokens / seconds:,.0f}"
        self._progress.advance(0, **{"loss": f"{entry['loss']:.3f}", "tokens/s": rate})
        self._outputs, self._positions = [], []
        self._tokens, self._padded, self._waited = 0, 0, 0.0
        self._since = now

    def validation(self, state: RunState, result: Validation, *, improved: bool) -> None:
        """Tell what a validation found; its time doesn't count as training."""
        scores = result.scores
        entry = {
            "bleu": scores.bleu.value,
            "chrf": scores.chrf.value,
            "exact": scores.exact.value,
            "loss": result.loss,
            "signature": scores.bleu.signature,
        }
        self._write("validation", state.step, entry)
        if self._monitor is not None:
            self._monitor.show(state.step, result.samples, result.pictures)
        say(
            f"step {state.step:,}: BLEU {scores.bleu.value:.2f}, chrF2 {scores.chrf.value:.2f},"
            f" loss {result.loss:.3f}" + (", the best so far" if improved else "")
        )
        for sample in result.samples:
            say(f"  source       {sample.source}")
            say(f"  translation  {sample.translation}")
            say(f"  reference    {sample.reference}")
        self._progress.advance(0, bleu=f"{scores.bleu.value:.2f}")
        self._since = time.monotonic()

    def _write(self, kind: str, step: int, entry: dict[str, Any]) -> None:
        """Log an entry; all processes must call it, and the first one does it."""
        self._group.first_does(lambda: self._append(kind, step, entry))

    def _append(self, kind: str, step: int, entry: dict[str, Any]) -> None:
        assert self._monitor is not None, "the first process has it"
        self._folder.check()
        numbers = {f"{kind}/{name}": float(entry[name]) for name in entry.keys() - _UNSENT}
        self._monitor.log(step, numbers)
        try:
            with self._folder.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, "step": step, **entry}) + "\n")
        except OSError as error:
            name = self._folder.metrics
            raise UserError(f"{name} can't be written: {error.strerror}") from error


def _mean_of_finite(numbers: Tensor) -> float:
    """The mean of those that are finite: a step that was left out, in float16, has no norm."""
    finite = numbers[numbers.isfinite()]
    return finite.mean().item() if len(finite) else 0.0


def _memory() -> float:
    """The most memory this process has had, in GiB: the GPU's where it computes on one."""
    return peak_memory(torch.device("cuda" if torch.cuda.is_initialized() else "cpu")) / 2**30


def _step_of(line: bytes) -> int | None:
    """The step that a line is about; none for one that a kill cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
