"""Learning rates, as pure functions of the step."""

import math
from typing import NamedTuple

from seq2seq.config import (
    Constant,
    Cosine,
    Gnmt,
    InverseSquareRoot,
    Length,
    Linear,
    Plateau,
    Schedule,
)
from seq2seq.terminal import say

_KEY = "training.optimizer.schedule"
_FIRST = 0.01
"""What an exponential warm-up begins with."""


class Extent(NamedTuple):
    """What lengths are measured by."""

    steps: int
    """Of the whole run, and of the base's run where that goes on."""
    epoch_steps: int
    """Of the first epoch."""
    epoch_tokens: int
    """Real target tokens of an epoch, ends of sentence counted."""

    def steps_of(self, length: Length) -> int:
        """Turn a length into a number of steps, to the nearest, but at least one."""
        each = {
            "steps": 1.0,
            "epochs": self.epoch_steps,
            "tokens": self.epoch_steps / self.epoch_tokens,
            "%": self.steps / 100,
        }
        return max(1, round(length.amount * each[length.unit]))


def in_steps(schedule: Schedule, extent: Extent) -> Schedule:
    """Turn the lengths of a schedule into steps; tell what they are, and what can't be meant."""
    lengths = {name: value for name, value in schedule if isinstance(value, Length)}
    steps = {name: extent.steps_of(length) for name, length in lengths.items()}
    for name, length in lengths.items():
        if length.unit != "steps":
            say(f"{_KEY}.{name} is {length.written()}: {steps[name]:,} steps")
    warmup = steps["warmup"]
    if warmup > extent.steps:
        say(
            f"{_KEY}.warmup is {warmup:,} steps, but the run has {extent.steps:,}: the rate never"
            " gets to its highest"
        )
    elif steps.get("start", 0) >= extent.steps:
        say(
            f"{_KEY}.start is {steps['start']:,} steps, but the run has {extent.steps:,}: the rate"
            " is never cut"
        )
    elif warmup > steps.get("start", warmup):
        say(
            f"{_KEY}.start is {steps['start']:,} steps, but the warm-up takes {warmup:,}: the rate"
            " never stays at its highest"
        )
    return schedule.model_copy(update={name: Length(number) for name, number in steps.items()})


def rate_factor(schedule: Schedule, step: int, *, steps: int, cuts: int) -> float:
    """Say what the highest rate is multiplied with.

    Args:
        schedule: the kind and its settings, all lengths in steps.
        step: the step that is about to be computed, counted from 1.
        steps: number of steps of the whole run, and of the base's run where that goes on.
        cuts: how often validations have stopped getting better, for `plateau`.
    """
    warmup = schedule.warmup.steps
    if step < warmup:
        exponential = isinstance(schedule, Gnmt) and schedule.growth == "exponential"
        return _FIRST ** (1 - step / warmup) if exponential else step / warmup
    match schedule:
        case InverseSquareRoot():
            return (warmup / step) ** 0.5
        case Linear():
            return _left(step, warmup, steps)
        case Cosine(end=end):  # Loshchilov and Hutter, "SGDR", 2017, equation 5
            return end + (1 - end) * (1 - math.cos(math.pi * _left(step, warmup, steps))) / 2
        case Constant():
            return 1.0
        case Plateau():
            return schedule.factor**cuts
        case Gnmt():
            return schedule.factor ** _cuts(schedule, step, steps)


def _left(step: int, warmup: int, steps: int) -> float:
    """Say what share of the way from the warm-up's end to the run's end is left at a step."""
    return max(0, steps + 1 - step) / max(1, steps + 1 - warmup)


def _cuts(schedule: Gnmt, step: int, steps: int) -> int:
    """Count the cuts before a step; without an interval they are spread over the rest."""
    start, cuts = schedule.start.steps, schedule.cuts
    if step <= start:
        return 0
    interval = schedule.interval.steps if schedule.interval else max(1, (steps - start) // cuts)
    return min(cuts, 1 + (step - start - 1) // interval)
