"""How much the devices of a run can compute at once: tried before the first step.

A micro-batch that takes more memory than there is would end the run whenever it happens to come,
perhaps after hours.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch

from seq2seq.config import Config
from seq2seq.data.batch import Batch, padded_size, to_device
from seq2seq.data.loader import StepDataset
from seq2seq.errors import CommonError
from seq2seq.model.network import Network
from seq2seq.parallel.device import forget_peak, peak_memory
from seq2seq.parallel.group import Group
from seq2seq.terminal import say
from seq2seq.training.module import batch_loss
from seq2seq.training.optimizer import new_optimizer
from seq2seq.training.precision import Precision
from seq2seq.training.state import RunState

_FIRST = 32_000  # positions that `auto` tries first
_BLIND = 25_000  # what `auto` is where no error tells that memory is used up
_SHARE = 0.9  # of a GPU's memory that `auto` uses: what is free lies in pieces after a while
# What is said where there is no type for it: by the allocators of the CPU and of MPS, by cuDNN and
# cuBLAS, and by oneDNN, which says no more.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "bad_alloc",
    "out of memory",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "could not create a primitive",
    "could not execute a primitive",
)


class Memory(NamedTuple):
    """What the largest micro-batches have taken in a process; plain types."""

    trouble: str
    """Why they couldn't be computed; empty where they could."""
    positions: int
    """Padded source and target positions of the widest one."""
    peak: int
    """Most bytes: of a GPU, else of the process."""
    growth: int
    """How much more that is than before, in bytes."""
    usable: float
    """Bytes of which there should be no more, of a GPU."""


class Capacity:
    """Finds out what the devices of a run can compute at once; all processes must ask alike."""

    def __init__(
        self,
        network: Network,
        steps: StepDataset,
        config: Config,
        group: Group,
        device: torch.device,
        precision: Precision,
        *,
        epoch: int,
    ):
        """Begin with nothing known.

        Args:
            network: to be trained; it stays as it is, but for its place.
            steps: of this process, however they are cut.
            config: of the run.
            group: the processes.
            device: what this one computes on.
            precision: of the computation.
            epoch: whose batches are tried.
        """
        self._network, self._steps, self._config = network, steps, config
        self._group, self._device, self._epoch = group, device, epoch
        self._precision = precision
        self._usable = _SHARE * _memory_of(device)
        self._tried: dict[int, list[Memory]] = {}

    def cut(self, state: RunState) -> StepDataset:
        """Cut the steps so that the devices can compute them, and try the longest batch.

        Args:
            state: of the run, in which it is kept what `auto` has found on a GPU.

        Raises:
            CommonError: it doesn't fit, in some process.
        """
        tokens, why = self.choose(state)
        if why:
            say(why)
        if state.step < self._config.training.steps:
            self.check(tokens)
        return self._steps.cut_for(tokens)

    def choose(self, state: RunState) -> tuple[int, str]:
        """Say how many positions are computed at once, and for `auto`, why so many.

        Args:
            state: of the run, in which it is kept what `auto` has found on a GPU.

        Raises:
            CommonError: not even the longest pair fits.
        """
        tokens = self._config.training.tokens_per_device
        if tokens != "auto":
            return tokens, ""
        if self._device.type != "cuda":
            tokens = max(_BLIND, self._config.longest_pair)
            reason = f"since {self._device.type} doesn't tell what its memory holds"
            return tokens, f"training.tokens_per_device: auto is {tokens:,} here, {reason}"
        before, name = state.tokens_per_device, torch.cuda.get_device_name(self._device)
        if before is not None and not any(memory.trouble for memory in self.try_everywhere(before)):
            return before, f"training.tokens_per_device: {before:,} as before (auto)"
        state.tokens_per_device = tokens = self.find(_FIRST)
        if tokens is None:
            raise CommonError(self._too_small(f"of {name}"))
        change = "" if before is None else f"; the {before:,} of before don't"
        return tokens, f"training.tokens_per_device: {tokens:,} fit on {name} (auto){change}"

    def check(self, tokens: int) -> None:
        """Try whether so many positions can be computed at once.

        Raises:
            CommonError: they can't, in some process.
        """
        memories = self.try_everywhere(tokens)
        rank = next((rank for rank, memory in enumerate(memories) if memory.trouble), None)
        if rank is None:
            return
        where = f"of rank {rank}" if len(memories) > 1 else "here"
        fitting = self.find(tokens)
        if fitting is None:
            raise CommonError(self._too_small(where))
        raise CommonError(
            f"the memory {where} is too small for the longest batch, which has"
            f" {memories[rank].positions:,} padded positions: lower training.tokens_per_device (now"
            f" {tokens}) to {fitting}, which fits"
        )

    def _too_small(self, where: str) -> str:
        return (
            f"the memory {where} is too small even for training.tokens_per_device ="
            f" {self._config.longest_pair}, the least for data.max_length ="
            f" {self._config.data.max_length}: lower data.max_length, or train a smaller model"
        )

    def find(self, first: int) -> int | None:
        """Find how many positions can be computed at once, to a sixteenth; none: no pair can.

        Args:
            first: number that is tried first.
        """
        return largest_that_fits(
            self._fits,
            first=first,
            least=self._config.longest_pair,
            enough=self._steps.largest_share(self._epoch),
        )

    def _fits(self, tokens: int) -> bool:
        memories = self.try_everywhere(tokens)
        return all(not memory.trouble and memory.peak <= memory.usable for memory in memories)

    def try_everywhere(self, tokens: int) -> list[Memory]:
        """Compute the largest micro-batches of so many positions, in each process, once."""
        if tokens not in self._tried:
            self._tried[tokens] = self._group.gather(self._try(tokens))
        return self._tried[tokens]

    def _try(self, tokens: int) -> Memory:
        forget_peak(self._device)
        before, positions, trouble = peak_memory(self._device), 0, ""
        try:
            batches = self._steps.cut_for(tokens).largest(self._epoch)
            positions = padded_size(batches[0])
            self._compute(batches)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            trouble = (str(error) or "out of memory").splitlines()[0]
        finally:
            self._network.zero_grad()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        peak = peak_memory(self._device)
        return Memory(trouble, positions, peak, peak - before, self._usable)

    def _compute(self, batches: Sequence[Batch]) -> None:
        """Compute gradients beside all that there is beside them in training.

        During the last batch's turn there are those of the others, as where micro-batches are added
        up, the optimizer's moments, and DDP's buckets.
        """
        self._network.to(self._device).train()
        settings = self._config.training
        optimizer = new_optimizer(self._network, settings.optimizer)
        # So that it makes its moments, but leaves the weights as they are.
        optimizer.found_inf = torch.ones((), device=self._device)  # pyright: ignore[reportAttributeAccessIssue]
        learnt = (weights for weights in self._network.parameters() if weights.requires_grad)
        several = self._group.place.world_size > 1
        buckets = [torch.empty_like(weights) for weights in learnt if several]
        for batch in batches:
            there = to_device(batch, self._device)
            batch_loss(
                self._network,
                there,
                len(batch.target_rows),
                smoothing=settings.label_smoothing,
                precision=self._precision,
            ).backward()
            optimizer.step()
        del buckets


def largest_that_fits(
    fits: Callable[[int], bool], *, first: int, least: int, enough: int
) -> int | None:
    """Find a number that fits and is enough, or than which none a sixteenth larger fits.

    Args:
        fits: tells of a number whether it does, as all smaller ones do then.
        first: number that is tried first.
        least: number that is of any use.
        enough: number from which on larger ones are of no more use.

    Returns:
        The number, or nothing where not even `least` fits.
    """
    fits = cache(fits)
    good = max(first, least)
    while good < enough and fits(good):
        good *= 2
    bad = good
    while not fits(good):
        if good == least:
            return None
        bad, good = good, max(least, good // 2)
    while good < bad - 1 and 16 * bad > 17 * good:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in _OUT_OF_MEMORY)


def _memory_of(device: torch.device) -> float:
    """Say how many bytes this process can have on a GPU."""
    if device.type != "cuda":
        return math.inf
    free, _ = torch.cuda.mem_get_info(device)
    return float(free + torch.cuda.memory_reserved(device))
