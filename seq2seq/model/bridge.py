"""Bridges: what the decoder begins with, given what the encoder has read."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.model.encoder import Encoding


@runtime_checkable
class Bridge(Protocol):
    """What makes the decoder's first states."""

    def __call__(self, encoding: Encoding) -> Float[Tensor, "batch layers hidden"]:
        """Make the state of each layer; an LSTM's cells begin at zero."""
        ...


class ProjectionBridge(nn.Module):
    """Projects the mean of the encoder's states, for each layer of the decoder.

    Sennrich et al., "Nematus: a Toolkit for Neural Machine Translation" (2017), section 3.
    """

    def __init__(self, memory_size: int, *, num_layers: int, size: int):
        super().__init__()
        self.projection = nn.Linear(memory_size, num_layers * size)
        self.num_layers = num_layers

    def forward(self, encoding: Encoding) -> Tensor:
        """Make the states."""
        # Masked by selection: what stands at padding may be anything, not-a-number included.
        states = encoding.states.masked_fill(~encoding.mask.T[:, :, None], 0.0)
        mean = states.sum(dim=0) / encoding.lengths[:, None].to(states.dtype)
        return self.projection(mean).tanh().unflatten(1, (self.num_layers, -1))


class CopyBridge(nn.Module):
    """Begins each layer with the last state of the encoder's layer of the same number.

    Sutskever et al., "Sequence to Sequence Learning with Neural Networks" (2014), but for the
    LSTM's cells: the fused kernels don't tell the cell at the end of a padded sentence.
    """

    def __init__(self, *, num_bidirectional: int):
        super().__init__()
        self.num_bidirectional = num_bidirectional

    def forward(self, encoding: Encoding) -> Tensor:
        """Make the states."""
        ends = [
            _end(states, encoding.lengths, bidirectional=number < self.num_bidirectional)
            for number, states in enumerate(encoding.layers)
        ]
        return torch.stack(ends, dim=1)


def _end(
    states: Float[Tensor, "source_len batch size"], lengths: Tensor, *, bidirectional: bool
) -> Float[Tensor, "batch size"]:
    """Find the state after the last word read: backwards, that is the first word."""
    last = states[lengths - 1, torch.arange(len(lengths), device=lengths.device)]
    if not bidirectional:
        return last
    size = states.shape[2] // 2
    return torch.cat((last[:, :size], states[0, :, size:]), dim=1)


class ZeroBridge(nn.Module):
    """Begins with nothing: all that the decoder learns of the source comes by attention."""

    def __init__(self, *, num_layers: int, size: int):
        super().__init__()
        self.num_layers, self.size = num_layers, size

    def forward(self, encoding: Encoding) -> Tensor:
        """Make the states."""
        return encoding.states.new_zeros(len(encoding.lengths), self.num_layers, self.size)
