"""The glue between Lightning and the network: how one optimizer step is computed."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from seq2seq.config import Config, Schedule
from seq2seq.data.batch import Batch, Step
from seq2seq.model.loss import token_loss
from seq2seq.model.network import Network
from seq2seq.parallel.group import Group
from seq2seq.training.average import WeightAverage
from seq2seq.training.optimizer import load_moments, new_optimizer
from seq2seq.training.precision import FLOAT32, LossScale, Precision
from seq2seq.training.schedule import rate_factor
from seq2seq.training.state import RunState


def batch_loss(
    network: Network, batch: Batch, target_tokens: int, *, smoothing: float, precision: Precision
) -> Tensor:
    """Compute a micro-batch's share of a step's loss per target token.

    Args:
        network: to be trained.
        batch: on the network's device.
        target_tokens: of the whole step, over all processes.
        smoothing: of the labels.
        precision: of the computation.
    """
    inputs = (batch.source, batch.source_lengths, batch.target_input, batch.target_rows)
    with precision.computing(batch.source.device):
        features = network(*inputs)
        loss = token_loss(features, network.output, batch.target_output, smoothing=smoothing)
    return loss * (batch.weight / target_tokens)


class TranslationModule(lightning.LightningModule):
    """One batch of Lightning's is one optimizer step of ours, cut into micro-batches."""

    def __init__(
        self,
        network: Network,
        config: Config,
        state: RunState,
        group: Group,
        schedule: Schedule,
        saved_optimizer: dict[str, Any] | None = None,
        precision: Precision = FLOAT32,
    ):
        """Set up the module.

        Args:
            network: to be trained.
            config: of the run.
            state: where the run stands.
            group: the processes of the run.
            schedule: of the rate, all lengths in steps.
            saved_optimizer: state of the optimizer to go on from.
            precision: of the computation.
        """
        super().__init__()
        self._saved_optimizer = saved_optimizer
        self.rehearsing = False
        """Whether a step's gradients are computed only to be dropped."""
        self.automatic_optimization = False
        self.network = network
        decay = config.training.ema
        self.average = None if decay is None else WeightAverage(network, decay)
        self.settings = config
        self.state = state
        self.group = group
        self.precision = precision
        self.exchanging = True
        """Whether gradients are added up over the processes; a benchmark leaves it out."""
        self.lap: Callable[[str], None] = _nobody
        """Is told when a part of a step is over."""
        self.loss_scale: LossScale | None = None
        self._schedule = schedule
        self.optimizer = new_optimizer(network, config.training.optimizer)

    @property
    def evaluated(self) -> Network:
        """The network that is validated and becomes the model: the average, if there is one."""
        return self.network if self.average is None else self.average.network

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Hand over the optimizer, with the state that was saved.

        Lightning calls this when the weights are on their device. Loaded before, the step counts
        would stay on the CPU, where the fused optimizer of a GPU can't use them.
        """
        if self.precision.scaled:
            self.loss_scale = LossScale(
                self.state.loss_scale, self.state.steps_since_scale, self.device
            )
        load_moments(self.optimizer, self._saved_optimizer)
        self._saved_optimizer = None
        return self.optimizer

    def training_step(self, step: Step, batch_idx: int) -> dict[str, Tensor]:
        """Compute one optimizer step.

        Randomness depends on the seed, the step and the process alone, so that a run that was
        interrupted draws what the uninterrupted one draws, and no generator's state is stored.
        Where the schedule of a base goes on, its steps count.

        Returns:
            This process's share of the loss per target token, the gradient's norm before clipping,
            and whether the step was left out because its gradient isn't finite: on the device.
        """
        number = self.state.schedule_step + self.state.step + 1
        torch.manual_seed(_step_seed(self.settings.seed, number, self.group.place.rank))
        rate = self._set_rate(number)
        loss = self._accumulate(step)
        if self.rehearsing:
            return {}
        norm, skipped = self._step_optimizer()
        if self.average is not None:
            self.average.update(self.network, number)
        self.lap("optimizer")
        return {"loss": loss, "norm": norm, "skipped": skipped, "rate": torch.tensor(rate)}

    def rehearse(self, step: Step) -> None:
        """Compute a step's gradients, and drop them.

        DDP puts the parameters into other buckets after its first backward, and in which order the
        gradients of three processes or more are added depends on their place in a bucket. A run
        that goes on must add them as the uninterrupted one does, so the first backward is no step.
        """
        self.rehearsing = True
        strategy = self.trainer.strategy
        strategy.training_step(strategy.batch_to_device(step), 0)
        self.optimizer.zero_grad()
        self.rehearsing = False

    def _set_rate(self, number: int) -> float:
        training = self.settings.training
        steps = self.state.schedule_step + training.steps
        factor = rate_factor(self._schedule, number, steps=steps, cuts=self.state.cuts)
        rate = training.optimizer.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _accumulate(self, step: Step) -> Tensor:
        """Add up the gradients of all micro-batches, each divided by the step's token count.

        Returns:
            This process's share of the loss per target token.
        """
        total = torch.zeros((), device=self.device, dtype=self.network.output.weight.dtype)
        for number, batch in enumerate(step.batches, start=1):
            smoothing = self.settings.training.label_smoothing
            loss = batch_loss(
                self.network,
                batch,
                step.target_tokens,
                smoothing=smoothing,
                precision=self.precision,
            )
            self.lap("forward")
            with self._meeting_others(now=number == len(step.batches)):
                # DDP takes the mean over the processes of what is to be their sum.
                scale = 1.0 if self.loss_scale is None else self.loss_scale.value
                self.manual_backward(loss * (scale * self.group.place.world_size))
            total += loss.detach()
            self.lap("backward")
        return total

    def _meeting_others(self, *, now: bool) -> AbstractContextManager[None]:
        """Add up the processes' gradients, once for all micro-batches, during the last backward."""
        if now:
            self.group.arrive()
        if (now and self.exchanging) or self.group.place.world_size == 1:
            return nullcontext()
        return cast(DistributedDataParallel, self.trainer.strategy.model).no_sync()

    def _step_optimizer(self) -> tuple[Tensor, Tensor]:
        """Clip the gradients and change the weights, without asking the device for anything.

        Returns:
            The gradient's norm before clipping, and 1 where it isn't finite, else 0: the fused
            optimizer then leaves everything as it was. (Of a scaled loss that is only to be
            expected, as long as there is a scale to be lowered.)
        """
        weights = list(self.network.parameters())
        if self.loss_scale is not None:
            for weight in weights:
                if weight.grad is not None:
                    weight.grad.div_(self.loss_scale.value)
        norm = torch.nn.utils.clip_grad_norm_(weights, self.settings.training.optimizer.clip)
        optimizer: Any = self.optimizer
        optimizer.found_inf = skipped = (~norm.isfinite()).float()
        optimizer.step()
        optimizer.zero_grad()
        if self.loss_scale is not None:
            self.loss_scale.update(skipped)
            skipped = skipped * (self.loss_scale.value < 1)
        return norm, skipped


def _nobody(_part: str) -> None:
    """Listen to laps, and take no notice."""


def _step_seed(seed: int, step: int, rank: int) -> int:
    digest = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
