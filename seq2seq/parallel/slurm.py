"""What SLURM tells a process about its job, and how a job is started again."""

import os
import shutil
import subprocess
from collections.abc import Mapping

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
        failure = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failure = str(error)
    if failure:
        say(f"SLURM does not start job {name} again ({failure}): submit it again")
        return False
    say(f"SLURM starts job {name} again")
    return True


def one_task_of_several(environment: Mapping[str, str] = os.environ) -> str:
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


def without_srun(environment: Mapping[str, str] = os.environ) -> str:
    """Say that a job has several tasks, of which a process started without srun knows nothing."""
    tasks = environment.get("SLURM_NTASKS", "1")
    if "SLURM_JOB_ID" not in environment or "SLURM_STEP_ID" in environment or tasks == "1":
        return ""
    return (
        f"SLURM_NTASKS={tasks}, but SLURM_STEP_ID is not set: seq2seq was started without srun, so"
        " it is one process; in the job script, write `srun --kill-on-bad-exit=1 seq2seq …`, or set"
        " trainer.devices"
    )


def bound_to_fewer(usable: int, environment: Mapping[str, str] = os.environ) -> str:
    """Say that this task is bound to fewer CPUs than the job has for it.

    Args:
        usable: CPUs that the process may run on.
        environment: SLURM's variables.
    """
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
