"""The optimizers: torch's fused ones, which leave out a step without asking the host."""

from typing import Any

import torch

from seq2seq.config import Adam, AdamW, Optimizer, Sgd
from seq2seq.model.network import Network


def new_optimizer(network: Network, settings: Optimizer) -> torch.optim.Optimizer:
    """Make the optimizer of a network's weights."""
    weights, rate, decay = network.parameters(), settings.learning_rate, settings.weight_decay
    match settings:
        case AdamW(betas=betas):
            return torch.optim.AdamW(weights, rate, betas, weight_decay=decay, fused=True)
        case Adam(betas=betas):
            return torch.optim.Adam(weights, rate, betas, weight_decay=decay, fused=True)
        case Sgd(momentum=momentum):
            return torch.optim.SGD(weights, rate, momentum, weight_decay=decay, fused=True)


def load_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Any] | None) -> None:
    """Let an optimizer go on from what was saved; its settings stay as they are.

    Args:
        optimizer: whose weights are on their device.
        saved: state of an optimizer of the same kind, or none for a fresh start.
    """
    if saved is not None:
        optimizer.load_state_dict(optimizer.state_dict() | {"state": saved["state"]})
    for group in optimizer.param_groups:
        if group.get("momentum"):
            # Torch makes these itself in a first step, but leaves them undefined if it is skipped.
            for weights in group["params"]:
                optimizer.state[weights].setdefault("momentum_buffer", torch.zeros_like(weights))


def moments(settings: Optimizer) -> int:
    """Count what an optimizer keeps of each weight from step to step."""
    match settings:
        case AdamW() | Adam():
            return 2
        case Sgd(momentum=momentum):
            return 1 if momentum else 0
