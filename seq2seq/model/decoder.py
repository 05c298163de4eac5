"""The decoder: LSTM layers of which the lowest attends and all above see the context.

With the attention computed from the lowest layer alone, a known target runs through each layer in
one call, without a loop over time (the layout of GNMT v2: Wu et al., "Google's Neural Machine
Translation System" 2016, section 3, with the attention's query from the current step).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.model.attention import Attention, Memory
from seq2seq.model.dropout import SharedDropout


class State(NamedTuple):
    """What a hypothesis carries from one step to the next."""

    hidden: Float[Tensor, "layers batch beam hidden"]
    cell: Float[Tensor, "layers batch beam hidden"]

    def select(self, sentences: Tensor, beams: Tensor) -> "State":
        """Take the hypotheses `beams` (batch, beam) of the sentences `sentences` (batch)."""
        return State(*(part[:, sentences[:, None], beams] for part in self))


class Decoder(nn.Module):
    """LSTM layers, attention, and the layer before the vocabulary ("readout").

    The readout takes the state, the context and the embedded input together (Pascanu et al. 2014,
    "deep output"): width `output_size`, tanh.
    """

    def __init__(
        self,
        input_size: int,
        memory_size: int,
        *,
        size: int,
        num_layers: int,
        output_size: int,
        dropout: float,
        output_dropout: float,
    ):
        super().__init__()
        self.size, self.num_layers = size, num_layers
        sizes = [input_size] + [size + memory_size] * (num_layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(inner, size) for inner in sizes)
        self.attention = Attention(size, memory_size)
        self.start = nn.Linear(memory_size, num_layers * size)
        self.readout = nn.Linear(size + memory_size + input_size, output_size)
        self.dropout = SharedDropout(dropout)
        self.output_dropout = SharedDropout(output_dropout)

    def start_state(self, memory: Memory, beam: int = 1) -> State:
        """Begin from the mean of the memory, projected for each layer; the cells begin at zero."""
        real = memory.mask[:, :, None].to(memory.values.dtype)
        # Masked by selection: what stands at padding may be anything, not-a-number included.
        values = memory.values.masked_fill(~memory.mask[:, :, None], 0.0)
        mean = values.sum(dim=1) / real.sum(dim=1)
        hidden = self.start(mean).tanh().view(len(mean), self.num_layers, 1, self.size)
        hidden = hidden.transpose(0, 1).expand(-1, -1, beam, -1).contiguous()
        return State(hidden, torch.zeros_like(hidden))

    def forward(
        self,
        embedded: Float[Tensor, "target_len batch embedding"],
        memory: Memory,
        rows: Int[Tensor, " tokens"],
    ) -> Float[Tensor, "tokens output"]:
        """Run over whole known targets.

        Args:
            embedded: the target's tokens, the start symbol first.
            memory: of the source sentences.
            rows: the real positions, of (target_len, batch) flattened; only these are read out.
        """
        start = self.start_state(memory)
        context: Tensor | None = None
        states = embedded
        for number, layer in enumerate(self.layers):
            if context is not None:
                states = torch.cat((self.dropout(states), context), dim=2)
            # A layer starts from (1, batch, hidden): the beam of one, taken as that axis.
            first = (start.hidden[number].transpose(0, 1), start.cell[number].transpose(0, 1))
            states, _ = layer(states, tuple(part.contiguous() for part in first))
            if context is None:
                context = self.attention(states.transpose(0, 1), memory)[0].transpose(0, 1)
        assert context is not None
        parts = (states, context, embedded)
        real = torch.cat([part.flatten(0, 1).index_select(0, rows) for part in parts], dim=1)
        return self._drop_output(self.readout(real).tanh(), rows, embedded.shape[1])

    def _drop_output(self, features: Tensor, rows: Tensor, batch: int) -> Tensor:
        """Drop the same components of the readout at all positions of a sentence."""
        mask = self.output_dropout(features.new_ones(1, batch, features.shape[1]))
        return features * mask[0].index_select(0, rows % batch) if self.training else features

    def step(
        self, embedded: Float[Tensor, "batch beam embedding"], memory: Memory, state: State
    ) -> tuple[Float[Tensor, "batch beam output"], State, Float[Tensor, "batch beam source_len"]]:
        """Go one token further with every hypothesis.

        Returns:
            The readout, the state after this token, and the attention's weights.
        """
        shape = embedded.shape[:2]
        hiddens: list[Tensor] = []
        cells: list[Tensor] = []
        context = weights = None
        inputs = embedded
        for number, layer in enumerate(self.layers):
            if context is not None:
                inputs = torch.cat((inputs, context), dim=2)
            before = (state.hidden[number].flatten(0, 1), state.cell[number].flatten(0, 1))
            hidden, cell = _cell(layer, inputs.flatten(0, 1), before)
            inputs = hidden.unflatten(0, shape)
            hiddens.append(inputs)
            cells.append(cell.unflatten(0, shape))
            if context is None:
                context, weights = self.attention(inputs, memory)
        assert context is not None
        assert weights is not None
        features = self.readout(torch.cat((inputs, context, embedded), dim=2)).tanh()
        return features, State(torch.stack(hiddens), torch.stack(cells)), weights


def _cell(layer: nn.Module, inputs: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Run a one-layer LSTM over a single step, with less ado than a call of the module."""
    assert isinstance(layer, nn.LSTM)
    weights = [getattr(layer, name) for name in ("weight_ih_l0", "weight_hh_l0")]
    biases = [getattr(layer, name) for name in ("bias_ih_l0", "bias_hh_l0")]
    hidden, cell = torch.lstm_cell(inputs, state, *weights, *biases)
    return hidden, cell
