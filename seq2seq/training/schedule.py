"""Learning rates, as pure functions of the step."""

from seq2seq.config import InverseSquareRoot, Linear, Plateau


def rate_factor(
    schedule: InverseSquareRoot | Linear | Plateau, step: int, *, steps: int, cuts: int
) -> float:
    """Say what the highest rate is multiplied with.

    Args:
        schedule: the kind and its settings.
        step: the step that is about to be computed, counted from 1.
        steps: number of steps of the whole run, and of the base's run where that goes on.
        cuts: how often validations have stopped getting better, for `plateau`.
    """
    if step < schedule.warmup:
        return step / schedule.warmup
    match schedule:
        case InverseSquareRoot():
            return (schedule.warmup / step) ** 0.5
        case Linear():
            return max(0.0, (steps + 1 - step) / (steps + 1 - schedule.warmup))
        case Plateau():
            return schedule.factor**cuts
