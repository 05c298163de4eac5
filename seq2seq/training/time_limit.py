"""How long a run may take, as a person writes it; and whether it will."""

import re

from seq2seq.errors import UserError
from seq2seq.terminal import duration

_UNITS = (86400, 3600, 60, 1)
_TIME = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def seconds_allowed(written: str) -> float:
    """Read how many seconds a run may take.

    Args:
        written: a time such as `90m`, `1h30m`, `2d`.

    Raises:
        UserError: it is no time.
    """
    found = _TIME.fullmatch(written.strip())
    if found is None:
        raise UserError(f"--time-limit must be a time such as 90m, 1h30m or 2d, but is {written!r}")
    return float(
        sum(int(number or 0) * unit for number, unit in zip(found.groups(), _UNITS, strict=True))
    )


def forecast(seconds_per_step: float, step: int, steps: int, seconds_left: float) -> str:
    """Say whether the steps that are left fit in the time that is left.

    Validations are not counted: they take more or less, as the model gets better.
    """
    needed = (steps - step) * seconds_per_step
    text = f"the {steps - step:,} steps to go take {duration(needed)}, without validations"
    if needed < seconds_left:
        return f"{text}; the time limit is in {duration(seconds_left)}"
    last = step + int(seconds_left / seconds_per_step)
    return (
        f"{text}, but the time limit is in {duration(seconds_left)}: the run will be saved at about"
        f" step {last:,}, and --resume goes on"
    )
