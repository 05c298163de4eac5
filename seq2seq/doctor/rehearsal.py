"""Steps that are computed to see what they take, of memory and of time, and then forgotten."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as distributed
from rich.filesize import decimal as shown

from seq2seq.config import Config, VocabularyConfig
from seq2seq.data.batch import Step, to_device
from seq2seq.data.given_vocabularies import given_vocabularies
from seq2seq.data.loader import Position
from seq2seq.data.prepared import PreparedData
from seq2seq.doctor.findings import Finding, failure, failure_of, fine, remark
from seq2seq.doctor.machine import Process
from seq2seq.errors import UserError
from seq2seq.model.network import Network, build_network
from seq2seq.model_folder import new_network
from seq2seq.parallel.device import finish
from seq2seq.parallel.group import Group
from seq2seq.terminal import duration
from seq2seq.training.base import freeze
from seq2seq.training.capacity import Capacity, Memory
from seq2seq.training.module import batch_loss
from seq2seq.training.optimizer import new_optimizer
from seq2seq.training.parts import new_steps
from seq2seq.training.precision import allow_products, choose_precision, weights_type
from seq2seq.training.state import RunState
from seq2seq.training.stopping import seconds_to_stop
from seq2seq.vocabulary import NUM_SPECIAL

_STEPS = 5
_SECONDS = 20.0  # after which no further step is tried
_NEARLY = 0.9  # share of the memory from which on a word is due


def sketch(config: Config) -> Network:
    """Make the network of a config whose data is still to be prepared."""
    if vocabularies := given_vocabularies(config):
        source, target = map(len, vocabularies)
    else:
        assert isinstance(config.vocabulary, VocabularyConfig)
        source = target = config.vocabulary.size
    return build_network(
        config.model, source_size=source, target_size=target, num_special=NUM_SPECIAL
    ).to(weights_type(config.trainer.precision))


class Rehearsal:
    """A network and its steps, as a training process would have them."""

    def __init__(self, config: Config, group: Group, device: torch.device, channel: Any):
        """Set all up; the data must be prepared.

        Args:
            config: of the run.
            group: the processes.
            device: what this one computes on.
            channel: torch's group through which gradients go.
        """
        self._config, self._group, self._device = config, group, device
        self._channel = channel
        data = PreparedData.open(config.data.folder)
        torch.manual_seed(config.seed)
        self.network = new_network(config, data.vocabularies)
        self._precision = choose_precision(config.trainer.precision, device)
        allow_products(self._precision)
        self.network.to(self._precision.weights)
        if config.base is not None:
            freeze(self.network, config.base.freeze)
        self._steps = new_steps(config, data, group.place)

    def compute_largest(self, state: RunState, processes: Sequence[Process]) -> list[Finding]:
        """Compute the longest batches of an epoch; all processes must call it.

        Args:
            state: where the run stands.
            processes: all of them.
        """
        config, device = self._config, self._device
        capacity = Capacity(
            self.network,
            self._steps,
            config,
            self._group,
            device,
            self._precision,
            epoch=state.epoch,
        )
        try:
            tokens, why = capacity.choose(state)
        except UserError as error:
            return [failure_of("memory", error, "train a smaller model")]
        self._steps = self._steps.cut_for(tokens)
        findings = judge_memory(capacity.try_everywhere(tokens), processes, tokens)
        return [fine("memory", why), *findings] if why else findings

    def time_steps(self) -> float:
        """Compute a few steps that are spread over an epoch; all processes must call it.

        Returns:
            The seconds that one takes: of each, those of the slowest process.
        """
        self._optimizer = new_optimizer(self.network, self._config.training.optimizer)
        number = self._steps.epoch_length(0)
        places = [Position(0, int((part + 0.5) * number / _STEPS)) for part in range(_STEPS)]
        taken: list[float] = []
        self._time(places[0])  # the first one makes connections, and chooses kernels
        for place in places:
            taken.append(max(self._group.gather(self._time(place))))
            if sum(taken) > _SECONDS:
                break
        return sum(taken) / len(taken)

    def _time(self, place: Position) -> float:
        step: Any = None
        if self._device.type != "cpu":  # there, other processes make the steps ahead of time
            step = self._steps[place]
        self._group.gather(None)  # so that the slowest doesn't slow down the next step, too
        finish(self._device)
        began = time.perf_counter()
        self._compute(self._steps[place] if step is None else step)
        finish(self._device)
        return time.perf_counter() - began

    def _compute(self, step: Step) -> None:
        training = self._config.training
        self.network.train()
        for batch in step.batches:
            there = to_device(batch, self._device)
            loss = batch_loss(
                self.network,
                there,
                step.target_tokens,
                smoothing=training.label_smoothing,
                precision=self._precision,
            )
            loss.backward()
        if self._group.place.world_size > 1:
            self._exchange()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), training.optimizer.clip)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _exchange(self) -> None:
        """Add up as many numbers as there are gradients; DDP does it while it computes others."""
        learnt = [weights for weights in self.network.parameters() if weights.requires_grad]
        number = sum(weights.numel() for weights in learnt)
        numbers = torch.zeros(number, dtype=learnt[0].dtype, device=self._device)
        distributed.all_reduce(numbers, group=self._channel)


def judge_memory(
    memories: Sequence[Memory], processes: Sequence[Process], tokens_per_device: int
) -> list[Finding]:
    """Compare what the largest micro-batches have taken with what there is.

    Args:
        memories: of each process.
        processes: the same.
        tokens_per_device: as it is set.
    """
    cure = f"lower training.tokens_per_device (now {tokens_per_device})"
    findings: list[Finding] = []
    for memory, process in zip(memories, processes, strict=True):
        there = process.device_memory or process.memory // process.tasks
        where = f"of {process.device} on {process.host} (rank {process.rank})"
        if memory.trouble:
            found = f"the memory {where} is too small for the longest batch: {memory.trouble}"
            findings.append(failure("memory", found, cure))
        elif memory.peak > _NEARLY * there:
            found = (
                f"the longest batch ({memory.positions:,} positions) takes {shown(memory.peak)}"
                f" {where}, nearly all of {shown(there)}"
            )
            findings.append(remark("memory", found, cure))
    most = max(memories, key=lambda memory: memory.peak)
    first = processes[0]
    there = first.device_memory or first.memory // first.tasks
    found = (
        f"the longest batch ({most.positions:,} padded positions) takes {shown(most.growth)}, so a"
        f" process up to {shown(most.peak)} of {shown(there)}"
    )
    return findings or [fine("memory", found)]


class Times(NamedTuple):
    """What a run is known to take; all in seconds."""

    start: float
    """Until the first step."""
    step: float
    saving: float
    """Of a checkpoint."""


def judge_times(times: Times, steps: int, limit: float | None) -> list[Finding]:
    """Say how long the run takes, and in how many starts of its job.

    Args:
        times: that it takes.
        steps: to go.
        limit: seconds that the job may take; none where that isn't known.
    """
    found = (
        f"{_short(times.step)} a step, so the {steps:,} steps to go take"
        f" {duration(steps * times.step)}, without validations"
    )
    if limit is None:
        return [fine("time", f"{found}; no time limit is known here")]
    stopping = seconds_to_stop(times.step, times.saving)
    useful = limit - times.start - stopping
    if useful < times.step:
        told = (
            f"the job's time limit of {duration(max(0.0, limit))} is too short: to start takes"
            f" {_short(times.start)}, a step {_short(times.step)}, and to stop in time, with what"
            f" is saved, {_short(stopping)}"
        )
        return [failure("time", told, "raise `#SBATCH --time`")]
    starts = math.ceil(steps * times.step / useful)
    if starts <= 1:
        return [fine("time", f"{found}; the job's time limit is {duration(limit)}")]
    told = f"{found}, in {starts:,} starts of this job, whose time limit is {duration(limit)}"
    cure = (
        "let each start put the job back into the queue, as slurm/train.sbatch does, raise"
        " `#SBATCH --time`, or use more GPUs"
    )
    return [remark("time", told, cure)]


def _short(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 10 else duration(seconds)
