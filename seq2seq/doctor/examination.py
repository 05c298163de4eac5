"""The doctor's round: each check in its turn, by all processes together, and one report."""

import signal
import time
from collections.abc import Sequence
from typing import Any

import torch

from seq2seq.config import Config
from seq2seq.doctor import folders, machine, network, rehearsal
from seq2seq.doctor.findings import Finding, show_findings, would_run
from seq2seq.doctor.rehearsal import Times
from seq2seq.errors import CommonError, LostProcessError, UserError
from seq2seq.parallel.group import Group, meet
from seq2seq.parallel.launcher import launched
from seq2seq.parallel.place import Place
from seq2seq.parallel.slurm import seconds_in_all
from seq2seq.terminal import complain
from seq2seq.training.run import SAVED
from seq2seq.training.run_folder import Room
from seq2seq.training.state import RunState

_HELD = (signal.SIGINT, signal.SIGTERM)  # until a process that is started can end orderly


def examine(
    settings: Config,
    place: Place,
    mistakes: Sequence[str],
    *,
    complete: bool,
    patience: float,
    began: float,
) -> bool:
    """Look at everything that a training job needs, and report it in the first process.

    Args:
        settings: of the job.
        place: of this process; the others are started where nobody has.
        mistakes: contradictions that this process has found in its variables.
        complete: whether to look at data, run folder, memory and time, too.
        patience: seconds that a process waits for the others.
        began: when this process did, by the monotonic clock.

    Returns:
        Whether a job would run.

    Raises:
        UserError: the variables of a process contradict each other.
        LostProcessError: another process hasn't come, or has gone.
    """
    if mistakes and (place.world_size == 1 or not place.launcher):
        raise UserError("\n".join(mistakes))
    return _Round(settings, place, complete, patience, began).go(mistakes)


class _Round:
    """What one process has found so far."""

    def __init__(
        self, settings: Config, place: Place, complete: bool, patience: float, began: float
    ):
        self._settings, self._place, self._complete = settings, place, complete
        self._patience, self._began = patience, began
        self._own = machine.look(place, settings.trainer)
        self._processes = [self._own]
        self._findings: list[Finding] = []
        self._mistakes: dict[str, str] = {}  # contradictions, and where each was found first
        torch.set_num_threads(self._own.threads)

    def go(self, mistakes: Sequence[str]) -> bool:
        """Go through all checks, as far as the processes come together."""
        if unresolved := network.unresolved(self._place):
            return self._alone(unresolved[0])
        met = False
        try:
            with (
                launched(self._place, hold=_HELD) as self._place,
                meet(self._place, timeout=self._patience / 60, limit_name="--timeout") as meeting,
                meeting.group(torch.device("cpu")) as group,
            ):
                met = True
                self._together(group, mistakes)
        except UserError as error:
            if met:
                raise
            return self._alone(network.not_met(self._place, error))
        except LostProcessError as error:
            self._alone(network.not_met(self._place, error), told=True)
            raise
        if self._mistakes:
            told = [f"{where}: {mistake}" for mistake, where in self._mistakes.items()]
            raise CommonError("\n".join(told))
        return would_run(self._findings)

    def _alone(self, finding: Finding, *, told: bool = False) -> bool:
        """Report what this process has seen by itself, since it couldn't meet the others.

        Args:
            finding: why.
            told: whether it is said once more by whoever called.
        """
        if not self._findings:
            self._look_at_machines()
        self._findings.append(finding)
        if self._place.is_first:
            self._report()
        elif not told:
            complain(f"{finding.found}: {finding.cure}")
        return False

    def _together(self, group: Group, mistakes: Sequence[str]) -> None:
        """Go through the checks for which the processes need each other."""
        starting = time.monotonic() - self._began
        everyones = group.gather((self._own, list(mistakes)))
        self._processes = [process for process, _ in everyones]
        for process, found in everyones:
            for mistake in found:
                self._mistakes.setdefault(mistake, f"rank {process.rank} on {process.host}")
        if self._mistakes:
            return
        self._look_at_machines()
        self._findings += network.met(self._place, starting)
        channel: Any = None
        if would_run(self._findings):
            device = machine.chosen_device(self._own)
            channel = network.open_channel(self._place, device, self._patience)
            self._findings += network.check_exchange(group, self._processes, channel)
        if self._complete:
            self._look_at_run(group, channel, starting)
        if self._place.is_first:
            self._report()
        group.gather(None)  # a launcher ends the others when one ends with a failure

    def _look_at_machines(self) -> None:
        self._findings += machine.check_versions(self._processes)
        accelerator = self._settings.trainer.accelerator
        self._findings += machine.check_devices(self._processes, accelerator)
        self._findings += machine.check_cpus(self._processes)

    def _look_at_run(self, group: Group, channel: Any, starting: float) -> None:
        """Look at the folders, and then compute some steps, if that can be done."""
        config = self._settings
        found, fingerprint = folders.check_data(config, group)
        self._findings += found
        room = group.first_does(lambda: Room.of(config, rehearsal.sketch(config)))
        found, speed = folders.check_disk(config, group, room, self._patience)
        self._findings += found
        found, state = folders.check_run(config, group, fingerprint)
        self._findings += found
        done = state.step >= config.training.steps
        if done or not (fingerprint and would_run(self._findings)):
            return
        saving = room.checkpoint / (speed or SAVED)
        self._rehearse(group, channel, state, Times(starting, 0.0, saving))

    def _rehearse(self, group: Group, channel: Any, state: RunState, times: Times) -> None:
        device = machine.chosen_device(self._own)
        tried = rehearsal.Rehearsal(self._settings, group, device, channel)
        self._findings += tried.compute_largest(state, self._processes)
        if not would_run(self._findings):
            return
        times = times._replace(start=max(group.gather(times.start)), step=tried.time_steps())
        steps, limit = self._settings.training.steps - state.step, group.share(seconds_in_all())
        self._findings += rehearsal.judge_times(times, steps, limit)

    def _report(self) -> None:
        machine.show_nodes(self._processes)
        print()
        show_findings(self._findings)
