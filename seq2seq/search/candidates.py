"""Which tokens a hypothesis may go on with: the likeliest ones, or one that is drawn."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Sampling(NamedTuple):
    """How tokens are drawn."""

    temperature: float
    """What logits are divided by."""
    top_k: int
    """Number of likeliest tokens that are drawn from; 0: all."""
    top_p: float
    """Share of the probability that these have together, at least; 1: all."""


class Candidates(NamedTuple):
    """How each hypothesis may go on."""

    values: Float[Tensor, "rows candidates"]
    """Log-probability of the token."""
    tokens: Int[Tensor, "rows candidates"]


def best(log_probabilities: Float[Tensor, "rows vocab"], number: int) -> Candidates:
    """Take the likeliest tokens."""
    return Candidates(*log_probabilities.topk(min(number, log_probabilities.shape[1]), dim=1))


def drawn(
    log_probabilities: Float[Tensor, "rows vocab"],
    uniforms: Float[Tensor, " rows"],
    sampling: Sampling,
) -> Candidates:
    """Draw a token for each hypothesis.

    The tokens are put side by side on a line, each as long as its probability, and a number
    between 0 and 1 points at one. Top-k: Fan et al. 2018, section 5.3; top-p: Holtzman et al. 2020,
    section 3.1.

    Args:
        log_probabilities: of all tokens.
        uniforms: the numbers, at least 0 and below 1.
        sampling: what is drawn from.
    """
    order = None
    chosen = log_probabilities
    if sampling.top_k or sampling.top_p < 1.0:
        number = min(sampling.top_k or chosen.shape[1], chosen.shape[1])
        chosen, order = chosen.topk(number, dim=1)
    shares = (chosen / sampling.temperature).softmax(dim=1)
    ends = shares.cumsum(dim=1)
    if sampling.top_p < 1.0:
        beyond = ends - shares >= sampling.top_p  # of what the likelier ones have already
        ends = ends.masked_fill(beyond, 0.0).cummax(dim=1).values
    points = uniforms.to(ends)[:, None] * ends[:, -1:]
    places = torch.searchsorted(ends, points, right=True).clamp(max=ends.shape[1] - 1)
    tokens = places if order is None else order.gather(1, places)
    return Candidates(log_probabilities.gather(1, tokens), tokens)
