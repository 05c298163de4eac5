"""What a network computes in: which numbers its products take, and how small gradients survive.

Lightning is told nothing of it. Its `bf16-mixed` would compute cuDNN's LSTMs in float16 without
scaling the loss, and refuses to clip with a fused optimizer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from seq2seq.config import PrecisionName
from seq2seq.errors import UserError
from seq2seq.parallel.device import lack_for

_GROWS_AFTER = 2000  # good steps, as torch's own scaler


class Precision(NamedTuple):
    """What is computed in what."""

    name: str
    """As in `trainer.precision`."""
    weights: torch.dtype = torch.float32
    """Type of weights, gradients, optimizer and sums."""
    products: torch.dtype | None = None
    """Type of the operands of matrix products and recurrent layers, where it is another."""

    def computing(self, device: torch.device) -> torch.autocast:
        """Let all that is computed within be in this precision."""
        wanted = self.products or torch.bfloat16
        return torch.autocast(device.type, dtype=wanted, enabled=self.products is not None)

    @property
    def scaled(self) -> bool:
        """Whether small gradients would become zero without a scale."""
        return self.products is torch.float16


FLOAT32 = Precision("float32")


def choose_precision(wanted: PrecisionName, device: torch.device) -> Precision:
    """Choose what a process computes in.

    Args:
        wanted: as in `trainer.precision`; `auto` is bf16 on a GPU that is made for it, else
            float32.
        device: of the process.

    Raises:
        UserError: the device has no kernels for it.
    """
    if wanted == "auto":
        fast = device.type == "cuda" and not lack_for("bf16", device)
        return choose_precision("bf16" if fast else "float32", device)
    if lack := lack_for(wanted, device):
        raise UserError(
            f"`trainer.precision` is '{wanted}', but {lack}: write 'auto', or another precision"
        )
    match wanted:
        case "bf16":
            return Precision(wanted, products=torch.bfloat16)
        case "fp16":
            return Precision(wanted, products=torch.float16)
        case "tf32" | "float32":
            return Precision(wanted)
        case "float64":
            return Precision(wanted, weights=weights_type(wanted))


def weights_type(wanted: PrecisionName) -> torch.dtype:
    """Say what weights, gradients and optimizer are stored in."""
    return torch.float64 if wanted == "float64" else torch.float32


def allow_products(precision: Precision) -> None:
    """Tell a GPU's libraries what they may make of float32, for this process.

    Without TF32 for recurrent layers, cuDNN computes those in bf16 without tensor cores too; so
    strict float32 is for runs in it alone.
    """
    kind = "ieee" if precision.name == "float32" else "tf32"
    torch.backends.cudnn.rnn.fp32_precision = kind  # pyright: ignore[reportAttributeAccessIssue]
    # By the old name, which Lightning asks for, and which torch refuses to tell after the new one.
    torch.set_float32_matmul_precision("high" if precision.name == "tf32" else "highest")


class LossScale:
    """What a loss in float16 is multiplied with, so that small gradients don't become zero.

    Micikevicius et al., "Mixed Precision Training" (2018), section 3.2: halved after a step whose
    gradient is not finite, which is left out, and doubled after 2,000 good ones. Nothing of it is
    read on the host.
    """

    def __init__(self, value: float, good_steps: int, device: torch.device):
        """Begin, or go on.

        Args:
            value: the scale.
            good_steps: since it last changed.
            device: of the gradients.
        """
        self.value = torch.tensor(value, device=device)
        self.good_steps = torch.tensor(good_steps, device=device)

    def read(self) -> tuple[float, int]:
        """Read the scale and the good steps since it changed, for a checkpoint."""
        return self.value.item(), int(self.good_steps.item())

    def update(self, skipped: Tensor) -> None:
        """Take in a step: 1 where its gradient was not finite, else 0."""
        bad = skipped > 0
        self.good_steps = torch.where(bad, 0, self.good_steps + 1)
        grows = self.good_steps >= _GROWS_AFTER
        self.good_steps = torch.where(grows, 0, self.good_steps)
        factor = torch.where(bad, 0.5, torch.where(grows, 2.0, 1.0))
        self.value = self.value * factor
