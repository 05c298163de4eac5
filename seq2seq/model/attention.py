"""Attention: which source positions matter to a decoder state."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Memory(NamedTuple):
    """What the decoder sees of the source sentences; projected once, never changed."""

    keys: Float[Tensor, "batch source_len hidden"]
    values: Float[Tensor, "batch source_len memory"]
    mask: Bool[Tensor, "batch source_len"]

    def select(self, sentences: Tensor) -> "Memory":
        """Keep some of the sentences, by index."""
        return Memory(*(part.index_select(0, sentences) for part in self))


class Attention(nn.Module):
    """Multiplicative attention with a learnt matrix, scaled by the root of the key's size.

    Luong et al., "Effective Approaches to Attention-based Neural Machine Translation" (2015),
    equation 8 ("general"); the scale is that of Vaswani et al. (2017), equation 1: without it wide
    keys do badly (Britz et al. 2017, table 4).
    """

    def __init__(self, query_size: int, memory_size: int):
        super().__init__()
        self.key = nn.Linear(memory_size, query_size, bias=False)
        self.scale = query_size**-0.5

    def remember(
        self,
        values: Float[Tensor, "batch source_len memory"],
        mask: Bool[Tensor, "batch source_len"],
    ) -> Memory:
        """Project the keys of encoded sentences; each needs at least one real token."""
        return Memory(self.key(values), values, mask)

    def forward(
        self, queries: Float[Tensor, "batch queries hidden"], memory: Memory
    ) -> tuple[Float[Tensor, "batch queries memory"], Float[Tensor, "batch queries source_len"]]:
        """Look up all queries of each sentence at once.

        Returns:
            The contexts and the weights; a row of weights sums to 1 and is 0 on padding.
        """
        scores = torch.bmm(queries * self.scale, memory.keys.transpose(1, 2))
        scores = scores.masked_fill(~memory.mask[:, None, :], float("-inf"))
        weights = scores.softmax(dim=2)
        return torch.bmm(weights, memory.values), weights
