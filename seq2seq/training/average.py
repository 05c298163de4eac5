"""An average of the weights over the steps, beside the weights that are trained."""

from copy import deepcopy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from seq2seq.model.network import Network


class WeightAverage(torch.nn.Module):
    """An exponential moving average of a network's weights.

    Averages of iterates: Polyak and Juditsky, "Acceleration of stochastic approximation by
    averaging", 1992. After step *k* the average is `d` times what it was plus `1 - d` times the
    weights, where `d` is the decay, but at first only `(1 + k) / (10 + k)`, so that the weights of
    the beginning are soon forgotten.
    """

    def __init__(self, network: Network, decay: float):
        """Begin with the weights that a network has now.

        Args:
            network: whose weights are averaged.
            decay: share of the average that a step leaves as it is.
        """
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: Network, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, weights = tuple(self.network.parameters()), tuple(network.parameters())
        get_ema_multi_avg_fn(decay)(averages, weights, step)
