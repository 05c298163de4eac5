"""The encoder: layers of LSTMs that read a sentence in both directions."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seq2seq.model.dropout import SharedDropout


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


class BidirectionalLayer(nn.Module):
    """Two LSTMs, one of which reads each sentence from its end.

    Padding follows every sentence in both, so it never touches a real position, and the sequences
    need not be packed: packed ones can't use the fast kernels, on CPUs or GPUs.
    """

    def __init__(self, input_size: int, size: int):
        super().__init__()
        self.ahead = nn.LSTM(input_size, size)
        self.back = nn.LSTM(input_size, size)

    def forward(
        self, inputs: Float[Tensor, "source_len batch size"], order: Int[Tensor, " rows"]
    ) -> Float[Tensor, "source_len batch memory"]:
        """Read in both directions and put the two states side by side."""
        ahead, _ = self.ahead(inputs)
        back, _ = self.back(reorder(inputs, order))
        return torch.cat((ahead, reorder(back, order)), dim=2)


class Encoder(nn.Module):
    """Bidirectional LSTM layers, with dropout between them.

    Schuster and Paliwal, "Bidirectional Recurrent Neural Networks" (1997).
    """

    def __init__(self, input_size: int, *, size: int, num_layers: int, dropout: float):
        super().__init__()
        sizes = [input_size] + [2 * size] * (num_layers - 1)
        self.layers = nn.ModuleList(BidirectionalLayer(inner, size) for inner in sizes)
        self.dropout = SharedDropout(dropout)
        self.output_size = 2 * size

    def forward(
        self, embedded: Float[Tensor, "source_len batch embedding"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "source_len batch memory"]:
        """Read the sentences; what comes out at padding means nothing."""
        order = reversal(lengths, len(embedded))
        states = embedded
        for number, layer in enumerate(self.layers):
            states = layer(self.dropout(states) if number else states, order)
        return states


def real_positions(
    lengths: Int[Tensor, " batch"], longest: int
) -> Bool[Tensor, "batch source_len"]:
    """Make a mask that is True at real tokens."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]
