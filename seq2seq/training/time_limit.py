"""How long a run may take: as the person or SLURM says."""

import os
import re
import time
from collections.abc import Mapping

from seq2seq.errors import UserError
from seq2seq.terminal import duration

_UNITS = (86400, 3600, 60, 1)
_TIME = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def seconds_allowed(
    written: str | None, environment: Mapping[str, str] = os.environ
) -> float | None:
    """Say how many seconds from now a run may take.

    Args:
        written: a time such as `90m`, `1h30m`, `2d`; none: until the end of the SLURM job.
        environment: variables, of which newer SLURMs set SLURM_JOB_END_TIME, a Unix time, and
            slurm/train.sbatch for older ones.

    Returns:
        Seconds; none without a limit.

    Raises:
        UserError: what is written is no time.
    """
    if written is None:
        end = environment.get("SLURM_JOB_END_TIME", "")
        return float(end) - time.time() if end.isascii() and end.isdigit() else None
    found = _TIME.fullmatch(written.strip())
    if found is None:
        raise UserError(f"--time-limit must be a time such as 90m, 1h30m or 2d, but is {written!r}")
    return float(
        sum(int(number or 0) * unit for number, unit in zip(found.groups(), _UNITS, strict=True))
    )


def seconds_of_job(environment: Mapping[str, str] = os.environ) -> float | None:
    """Say how many seconds this SLURM job may take; none without a limit.

    They count from its start, or from now where an older SLURM doesn't tell when that was.
    """
    left = seconds_allowed(None, environment)
    start = environment.get("SLURM_JOB_START_TIME", "")
    if left is None or not (start.isascii() and start.isdigit()):
        return left
    return float(environment["SLURM_JOB_END_TIME"]) - float(start)


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
