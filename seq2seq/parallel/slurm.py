"""What SLURM tells a process about its job, and how a job is started again."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from typing import NamedTuple

from seq2seq.terminal import say

_PATIENCE = 60.0  # seconds that scontrol may take: its server may be busy


def job_name(environment: Mapping[str, str] = os.environ) -> str:
    """Name this job as scontrol wants it; empty outside of SLURM.

    A task of an array is named by the array and its number: the last task's own id is the array's,
    which stands for all of its tasks.
    """
    array = environment.get("SLURM_ARRAY_JOB_ID")
    if array and "SLURM_ARRAY_TASK_ID" in environment:
        return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID", "")


def start_again(environment: Mapping[str, str] = os.environ) -> bool:
    """Ask SLURM to put this job back into the queue, which ends it; say so, or why it can't be.

    Returns:
        Whether SLURM does it.
    """
    name = job_name(environment)
    if shutil.which("scontrol") is None:
        say(
            f"SLURM's scontrol is not on PATH here, so job {name} must be put back into the queue"
            " from outside: by slurm/train.sbatch, or by submitting it again"
        )
        return False
    try:
        done = subprocess.run(
            ["scontrol", "requeue", name], capture_output=True, text=True, timeout=_PATIENCE
        )
        failure = ""
        if done.returncode:
            failure = done.stderr.strip() or f"status {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        failure = str(error)
    if failure:
        say(f"SLURM does not start job {name} again ({failure}): submit it again")
        return False
    say(f"SLURM starts job {name} again")
    return True


def seconds_to_end(environment: Mapping[str, str] = os.environ) -> float | None:
    """Say how many seconds are left until this job must end.

    SLURM tells it by a variable, older ones only when asked.

    Returns:
        Seconds; none without a limit, outside of a job, and where there is nobody to ask.
    """
    end = environment.get("SLURM_JOB_END_TIME", "")
    if end.isascii() and end.isdigit():
        return float(end) - time.time()
    name = job_name(environment)
    if not name or shutil.which("squeue") is None:
        return None
    # What a person has set for their own eyes is left out.
    kept = {key: value for key, value in environment.items() if not key.startswith("SQUEUE_")}
    try:
        done = subprocess.run(
            ["squeue", "--noheader", f"--job={name}", "--format=%e"],
            env=kept | {"SLURM_TIME_FORMAT": "%s"},
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    end = done.stdout.strip()
    return float(end) - time.time() if end.isascii() and end.isdigit() else None


def seconds_in_all(environment: Mapping[str, str] = os.environ) -> float | None:
    """Say how many seconds this job may take; none without a limit.

    They count from its start, or from now where an older SLURM doesn't tell when that was.
    """
    left, start = seconds_to_end(environment), environment.get("SLURM_JOB_START_TIME", "")
    if left is None or not (start.isascii() and start.isdigit()):
        return left
    return left + time.time() - float(start)


class Contradictions(NamedTuple):
    """Sentences on variables of a job that disagree, each with what to change in its script."""

    mistakes: list[str]
    """Of what training can't go on with."""
    remarks: list[str]
    """Of what leaves devices idle, or CPUs."""


def contradictions(
    devices: int | None, usable: int, environment: Mapping[str, str] = os.environ
) -> Contradictions:
    """Find what disagrees in SLURM's variables.

    Args:
        devices: as in `trainer.devices`.
        usable: CPUs that this process may run on.
        environment: the variables; where torchrun or `seq2seq` has started the process, it is they
            that count the processes.
    """
    if "WORLD_SIZE" in environment:
        return Contradictions([], [])
    mistakes = [_one_task_of_several(environment)] if devices != 1 else []
    remarks = [_without_srun(environment)] if devices is None else []
    remarks.append(_bound_to_fewer(usable, environment))
    return Contradictions(list(filter(None, mistakes)), list(filter(None, remarks)))


def unseen_gpus(environment: Mapping[str, str] = os.environ) -> str:
    """Say that the job has GPUs on this node, for where torch has found none."""
    given = environment.get("SLURM_GPUS_ON_NODE")
    if not given:
        return ""
    return (
        f"SLURM_GPUS_ON_NODE={given}, but torch finds no GPU, so the CPU trains; with"
        " trainer.accelerator=cuda that would be refused"
    )


def _one_task_of_several(environment: Mapping[str, str]) -> str:
    """Say that srun has started one task where the job script asks for several on each node.

    That is the trace of a `--ntasks` that contradicts `--ntasks-per-node`; the others would be
    waited for in vain, or be missed without a word.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", ""))
    per_node = environment.get("SLURM_NTASKS_PER_NODE", "1")
    if "SLURM_STEP_ID" not in environment or tasks != "1" or per_node == "1":
        return ""
    return (
        f"srun has started one task (SLURM_NTASKS=1), but SLURM_NTASKS_PER_NODE={per_node}: in the"
        f" job script, write `#SBATCH --ntasks-per-node={per_node}` without --ntasks, and give srun"
        " neither; or set trainer.devices=1 if one task is meant"
    )


def _without_srun(environment: Mapping[str, str]) -> str:
    """Say that a job has several tasks, of which a process started without srun knows nothing."""
    tasks = environment.get("SLURM_NTASKS", "1")
    if "SLURM_JOB_ID" not in environment or "SLURM_STEP_ID" in environment or tasks == "1":
        return ""
    return (
        f"SLURM_NTASKS={tasks}, but SLURM_STEP_ID is not set: seq2seq was started without srun, so"
        " it is one process; in the job script, write `srun --kill-on-bad-exit=1 seq2seq …`, or set"
        " trainer.devices"
    )


def _bound_to_fewer(usable: int, environment: Mapping[str, str]) -> str:
    """Say that this task is bound to fewer CPUs than the job has for it."""
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    there = os.cpu_count() or 1
    if "SLURM_STEP_ID" not in environment or not given.isdigit():
        return ""
    if usable >= min(int(given), there):
        return ""
    passed_on = environment.get("SRUN_CPUS_PER_TASK")
    variable = "not set" if passed_on is None else passed_on
    return (
        f"SLURM_CPUS_PER_TASK={given}, but this task is bound to {usable} of the node's {there}"
        f" CPUs (SRUN_CPUS_PER_TASK is {variable}): since SLURM 22.05 srun doesn't take the number"
        " over from `#SBATCH --cpus-per-task`; before srun, write"
        " `export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK` in the job script"
    )
