"""Dropout for recurrent networks: masks that stay the same along a sentence."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class SharedDropout(nn.Module):
    """Drops components, the same ones at every position of a sentence.

    Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural
    Networks" (2016), section 4: here for the inputs of layers, outside the LSTM's kernel.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def mask(self, batch: int, size: int, like: Tensor) -> Float[Tensor, "1 batch size"] | None:
        """Draw what sentences of `size` components are multiplied with; None drops nothing."""
        if not self.training or self.rate == 0:
            return None
        mask = like.new_empty(1, batch, size)
        return mask.bernoulli_(1 - self.rate).div_(1 - self.rate)

    def forward(
        self, inputs: Float[Tensor, "length batch size"]
    ) -> Float[Tensor, "length batch size"]:
        """Mask and rescale, in training only."""
        mask = self.mask(*inputs.shape[1:], like=inputs)
        return inputs if mask is None else inputs * mask


class WordDropout(nn.Module):
    """Drops whole words: their embeddings become zero, the others are rescaled.

    Sennrich and Zhang, "Revisiting Low-Resource Neural Machine Translation" (2019), section 3.
    """

    def __init__(self, rate: float, *, num_special: int):
        super().__init__()
        self.rate = rate
        self.num_special = num_special

    def forward(
        self, embedded: Float[Tensor, "length batch embedding"], ids: Int[Tensor, "length batch"]
    ) -> Float[Tensor, "length batch embedding"]:
        """Mask words, never special symbols, in training only."""
        if not self.training or self.rate == 0:
            return embedded
        mask = torch.empty_like(embedded[..., :1]).bernoulli_(1 - self.rate).div_(1 - self.rate)
        return embedded * mask.masked_fill((ids < self.num_special)[..., None], 1.0)
