"""What search finds, and how it is scored."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Hypothesis(NamedTuple):
    """A translation as ids, without special ones."""

    tokens: list[int]
    score: float
    """What hypotheses of a sentence are compared by."""
    log_probability: float
    """Of all tokens and the end, in nats."""


class Scoring(NamedTuple):
    """How a score is made of a log-probability: Wu et al. 2016, equation 14.

    The length counts the end, so that it is never zero and a translation without any token is
    divided by 1 as one token's log-probability would be.
    """

    length_penalty: float = 1.0
    normalisation: str = "average"
    """`average`: length ** penalty; `gnmt`: ((5 + length) / 6) ** penalty."""
    coverage_penalty: float = 0.0

    def score(self, log_probability: float, length: int, coverage: float = 0.0) -> float:
        """Make a score.

        Args:
            log_probability: of all tokens, in nats.
            length: number of tokens, the end counted.
            coverage: what `coverage` below says.
        """
        base = (5 + length) / 6 if self.normalisation == "gnmt" else length
        return log_probability / base**self.length_penalty + self.coverage_penalty * coverage


def coverage(attended: Float[Tensor, "*rows source_len"]) -> Float[Tensor, "*rows"]:
    """Sum up how little source positions were attended to: log(min(attention, 1)) of each.

    Args:
        attended: attention that each position got in all; of padding, at least 1.
    """
    return attended.clamp(min=math.exp(-20.0), max=1.0).log().sum(dim=-1)
