"""The encoder: recurrent layers that read a sentence in both directions."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seq2seq.model.dropout import SharedDropout
from seq2seq.model.recurrent import Cell, new_layer, run


class _Reorder(torch.autograd.Function):
    """Pick rows by a permutation that is its own inverse, so that backward is the same pick."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (order,) = ctx.saved_tensors
        return gradients[0].index_select(0, order), None


def reversal(lengths: Int[Tensor, " batch"], longest: int) -> Int[Tensor, " rows"]:
    """Say where each row of a (length, batch) grid goes when each sentence is turned round.

    Sentences are reversed within their own length; padding stays where it is.
    """
    step = torch.arange(longest, device=lengths.device)[:, None]
    turned = torch.where(step < lengths, lengths - 1 - step, step)
    batch = torch.arange(len(lengths), device=lengths.device)
    return (turned * len(lengths) + batch).flatten()


def reorder(
    inputs: Float[Tensor, "length batch size"], order: Int[Tensor, " rows"]
) -> Float[Tensor, "length batch size"]:
    """Move the rows of a (length, batch) grid as `reversal` says."""
    rows: Tensor = _Reorder.apply(inputs.flatten(0, 1), order)  # pyright: ignore
    return rows.view_as(inputs)


class Encoding(NamedTuple):
    """Sentences that the encoder has read; what stands at padding means nothing."""

    states: Float[Tensor, "source_len batch memory"]
    """What the highest layer gives."""
    layers: list[Float[Tensor, "source_len batch size"]]
    """The states of each layer, the lowest first."""
    lengths: Int[Tensor, " batch"]
    mask: Bool[Tensor, "batch source_len"]


class EncoderLayer(nn.Module):
    """A recurrent layer, or two of them, of which one reads each sentence from its end.

    Schuster and Paliwal, "Bidirectional Recurrent Neural Networks" (1997). Padding follows every
    sentence in both directions, so it never touches a real position, and the sequences need not be
    packed: packed ones can't use the fast kernels, on CPUs or GPUs.
    """

    def __init__(self, cell: Cell, input_size: int, size: int, *, bidirectional: bool):
        super().__init__()
        self.ahead = new_layer(cell, input_size, size)
        self.back = new_layer(cell, input_size, size) if bidirectional else None
        self.output_size = 2 * size if bidirectional else size

    def forward(
        self, inputs: Float[Tensor, "source_len batch input"], order: Int[Tensor, " rows"]
    ) -> Float[Tensor, "source_len batch size"]:
        """Read, and put the states of both directions side by side."""
        ahead = run(self.ahead, inputs)
        if self.back is None:
            return ahead
        back = run(self.back, reorder(inputs, order))
        return torch.cat((ahead, reorder(back, order)), dim=2)


class Encoder(nn.Module):
    """Recurrent layers, with dropout between them; the lowest ones read in both directions.

    From a chosen layer on, each adds what it is given to what it makes of it (Wu et al., "Google's
    Neural Machine Translation System" 2016, section 3.1).
    """

    def __init__(
        self,
        input_size: int,
        *,
        cell: Cell,
        size: int,
        num_layers: int,
        num_bidirectional: int,
        residual_from: int | None,
        dropout: float,
    ):
        """Make an encoder.

        Args:
            input_size: width of the embeddings.
            cell: of the layers.
            size: width of a layer's state in each direction.
            num_layers: of all layers.
            num_bidirectional: of those that read in both directions.
            residual_from: number of the first layer that adds its input, counted from 1.
            dropout: rate between layers.
        """
        super().__init__()
        layers: list[EncoderLayer] = []
        self.output_size = input_size
        for number in range(num_layers):
            both = number < num_bidirectional
            layers.append(EncoderLayer(cell, self.output_size, size, bidirectional=both))
            self.output_size = layers[-1].output_size
        self.layers = nn.ModuleList(layers)
        self.dropout = SharedDropout(dropout)
        self.plain_layers = num_layers if residual_from is None else residual_from - 1

    def forward(
        self, embedded: Float[Tensor, "source_len batch embedding"], lengths: Int[Tensor, " batch"]
    ) -> Encoding:
        """Read the sentences."""
        order = reversal(lengths, len(embedded))
        states, layers = embedded, list[Tensor]()
        for number, layer in enumerate(self.layers):
            below = states
            layers.append(layer(self.dropout(below) if number else below, order))
            states = layers[-1] + below if number >= self.plain_layers else layers[-1]
        return Encoding(states, layers, lengths, real_positions(lengths, len(embedded)))


def real_positions(
    lengths: Int[Tensor, " batch"], longest: int
) -> Bool[Tensor, "batch source_len"]:
    """Make a mask that is True at real tokens."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]
