"""A network of which only some tokens are scored, as if its vocabulary had no others."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional

from seq2seq.model.products import compiled_rows
from seq2seq.model.stepwise import Step, Stepwise, log_probabilities


class Shortlisted:
    """A network that knows tokens by their places in a list.

    Jean et al., "On Using Very Large Target Vocabulary for Neural Machine Translation" (2015),
    section 3.2: the output layer is most of a step, and a sentence needs few of its rows.
    """

    def __init__(self, network: Stepwise, tokens: Int[Tensor, " listed"]):
        """Say which tokens are scored, in order."""
        self._network, self._tokens = network, tokens
        # Lists have many lengths: filled up to one of some, by what can't be chosen.
        rest = (0, compiled_rows(len(tokens)) - len(tokens))
        self._weight = functional.pad(network.output_weight[tokens], (0, 0, *rest))
        self._bias = functional.pad(network.output_bias[tokens], rest, value=-torch.inf)

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
        scores = log_probabilities(features, self._weight, self._bias)
        return scores[:, : len(self._tokens)]
