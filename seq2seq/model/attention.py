"""Attention: which source positions matter to a decoder state."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Memory(NamedTuple):
    """What the decoder sees of the source sentences; projected once, never changed."""

    keys: Float[Tensor, "batch source_len key"]
    values: Float[Tensor, "batch source_len memory"]
    mask: Bool[Tensor, "batch source_len"]
    start: Float[Tensor, "batch layers hidden"]
    """What the decoder's layers begin with."""

    def select(self, sentences: Tensor) -> "Memory":
        """Keep some of the sentences, by index."""
        return Memory(*(part.index_select(0, sentences) for part in self))


@runtime_checkable
class Attention(Protocol):
    """What the decoder needs of an attention."""

    def project(
        self, states: Float[Tensor, "batch source_len memory"]
    ) -> tuple[Float[Tensor, "batch source_len key"], Float[Tensor, "batch source_len memory"]]:
        """Make the keys and the values of encoded sentences."""
        ...

    def __call__(
        self, queries: Float[Tensor, "batch queries hidden"], memory: Memory
    ) -> tuple[Float[Tensor, "batch queries memory"], Float[Tensor, "batch queries source_len"]]:
        """Look up all queries of each sentence at once.

        Each sentence needs at least one real token.

        Returns:
            The contexts and the weights; a row of weights sums to 1 and is 0 on padding.
        """
        ...


def _weights(scores: Tensor, mask: Tensor) -> Tensor:
    """Turn scores (batch, ..., source_len) into weights, which padding has none of."""
    places = mask.view(len(mask), *[1] * (scores.dim() - 2), -1)
    return scores.masked_fill(~places, float("-inf")).softmax(dim=-1)


class ProductAttention(nn.Module):
    """Multiplicative attention: products of queries and keys.

    Luong et al., "Effective Approaches to Attention-based Neural Machine Translation" (2015),
    equation 8: "dot" where the keys are the encoder's states, "general" where a learnt matrix makes
    them. The scale is that of Vaswani et al. (2017), equation 1: without it wide keys do badly
    (Britz et al. 2017, table 4).
    """

    def __init__(self, query_size: int, memory_size: int, *, learnt: bool, scaled: bool):
        super().__init__()
        self.key = nn.Linear(memory_size, query_size, bias=False) if learnt else nn.Identity()
        self.scale = query_size**-0.5 if scaled else 1.0

    def project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Make keys and values."""
        return self.key(states), states

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Look up."""
        scores = torch.bmm(queries * self.scale, memory.keys.transpose(1, 2))
        weights = _weights(scores, memory.mask)
        return torch.bmm(weights, memory.values), weights


class AdditiveAttention(nn.Module):
    """Additive attention: a small network with one hidden layer scores each query and key.

    Bahdanau et al., "Neural Machine Translation by Jointly Learning to Align and Translate" (2015),
    appendix A.1.2. `normalised`, the vector of scores has a learnt length and the hidden layer a
    bias (Salimans and Kingma 2016, equation 2, as in GNMT). All pairs of queries and keys have
    their hidden layer in memory at once: the products of the others take a `size`-th of it.
    """

    def __init__(self, query_size: int, memory_size: int, *, size: int, normalised: bool):
        super().__init__()
        self.key = nn.Linear(memory_size, size, bias=False)
        self.query = nn.Linear(query_size, size, bias=normalised)
        self.score = nn.Linear(size, 1, bias=False)
        self.length = nn.Parameter(torch.tensor(size**-0.5)) if normalised else None

    def project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Make keys and values."""
        return self.key(states), states

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Look up."""
        hidden = (self.query(queries)[:, :, None] + memory.keys[:, None]).tanh()
        scores = self.score(hidden).squeeze(3)
        if self.length is not None:
            scores = scores * (self.length / self.score.weight.norm())
        weights = _weights(scores, memory.mask)
        return torch.bmm(weights, memory.values), weights


class MultiHeadAttention(nn.Module):
    """Several scaled products side by side, each of a part of queries, keys and values.

    Vaswani et al., "Attention Is All You Need" (2017), section 3.2.2. The weights that it returns
    are the mean over the heads.
    """

    def __init__(self, query_size: int, memory_size: int, *, heads: int):
        super().__init__()
        self.heads, self.scale = heads, (query_size // heads) ** -0.5
        self.query = nn.Linear(query_size, query_size, bias=False)
        self.key = nn.Linear(memory_size, query_size, bias=False)
        self.value = nn.Linear(memory_size, memory_size, bias=False)
        self.output = nn.Linear(memory_size, memory_size, bias=False)

    def project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Make keys and values."""
        return self.key(states), self.value(states)

    def _split(self, parts: Tensor) -> Tensor:
        return parts.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Look up."""
        wanted = self._split(self.query(queries) * self.scale)
        scores = torch.matmul(wanted, self._split(memory.keys).transpose(2, 3))
        weights = _weights(scores, memory.mask)
        contexts = torch.matmul(weights, self._split(memory.values))
        return self.output(contexts.transpose(1, 2).flatten(2)), weights.mean(dim=1)
