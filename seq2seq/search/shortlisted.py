"""A network of which only some tokens are scored, as if its vocabulary had no others."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import linear

from seq2seq.model.network import Network, Step


class Shortlisted:
    """A network that knows tokens by their places in a list.

    Jean et al., "On Using Very Large Target Vocabulary for Neural Machine Translation" (2015),
    section 3.2: the output layer is most of a step, and a sentence needs few of its rows.
    """

    def __init__(self, network: Network, tokens: Int[Tensor, " listed"]):
        """Say which tokens are scored, in order."""
        self._network, self._tokens = network, tokens
        self._weight, self._bias = network.output.weight[tokens], network.output.bias[tokens]

    def encode(self, source: Tensor, lengths: Tensor) -> Any:
        """Read source sentences."""
        return self._network.encode(source, lengths)

    def start(self, memory: Any, beam: int) -> Any:
        """Make the state before the first token."""
        return self._network.start(memory, beam)

    def step(self, memory: Any, state: Any, tokens: Tensor) -> Step:
        """Go one token further with every hypothesis."""
        return self._network.step(memory, state, self._tokens[tokens])

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Say what may follow, as if nothing else could."""
        logits = linear(features, self._weight, self._bias)
        return logits.log_softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
