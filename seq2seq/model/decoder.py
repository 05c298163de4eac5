"""The decoder: recurrent layers of which one attends, and all above it see the context.

Three layouts, which differ in where the attention stands and what the lowest layer is given:

- `gnmt`: the lowest layer attends (GNMT v2: Wu et al., "Google's Neural Machine Translation System"
  2016, section 3, with the attention's query from the current step).
- `luong`: the highest layer attends (Luong et al., "Effective Approaches to Attention-based Neural
  Machine Translation" 2015, section 3).
- `input_feeding`: the same, and the lowest layer is given the last position's readout beside the
  word (Luong et al. 2015, section 3.3).

In the first two nothing depends on an earlier attention, so a known target runs through each layer
in one call. The third needs a loop over time.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.model.attention import Attention, Memory
from seq2seq.model.dropout import SharedDropout
from seq2seq.model.recurrent import Cell, has_cell, new_layer, run, step, weights_of

Layout = Literal["gnmt", "luong", "input_feeding"]


class State(NamedTuple):
    """What a hypothesis carries from one step to the next."""

    hidden: Float[Tensor, "layers batch beam hidden"]
    cell: Float[Tensor, "cells batch beam hidden"]
    """Of an LSTM's layers; other layers have none."""
    readout: Float[Tensor, "fed batch beam output"]
    """Where it is fed to the lowest layer; in other layouts there is none."""

    def select(self, sentences: Tensor, beams: Tensor) -> "State":
        """Take the hypotheses `beams` (batch, beam) of the sentences `sentences` (batch)."""
        # Whole rows: on CPUs many times as fast as indexing by two dimensions.
        rows = (sentences[:, None] * self.hidden.shape[2] + beams).flatten()
        chosen = (part.flatten(1, 2).index_select(1, rows) for part in self)
        return State(*(part.unflatten(1, beams.shape) for part in chosen))


class Decoder(nn.Module):
    """Recurrent layers, attention, and the layer before the vocabulary ("readout").

    The readout takes the state, the context and the embedded input together (Pascanu et al. 2014,
    "deep output"): width `output_size`, tanh.
    """

    def __init__(
        self,
        input_size: int,
        memory_size: int,
        *,
        attention: Attention,
        layout: Layout,
        cell: Cell,
        size: int,
        num_layers: int,
        residual_from: int | None,
        output_size: int,
        dropout: float,
        output_dropout: float,
    ):
        """Make a decoder.

        Args:
            input_size: width of the embeddings.
            memory_size: width of the contexts.
            attention: looks up the memory, with states as queries.
            layout: where the attention stands.
            cell: of the layers.
            size: width of the state.
            num_layers: number of layers.
            residual_from: number of the first layer that adds its input, counted from 1.
            output_size: width of the readout.
            dropout: rate between layers.
            output_dropout: rate after the readout.
        """
        super().__init__()
        self.size = size
        self.attending = 0 if layout == "gnmt" else num_layers - 1
        self.feeding = layout == "input_feeding"
        layers: list[nn.RNNBase] = []
        for number in range(num_layers):
            inner = size if number else input_size + (output_size if self.feeding else 0)
            context = memory_size if number > self.attending else 0
            layers.append(new_layer(cell, inner + context, size))
        self.layers = nn.ModuleList(layers)
        self.attention = attention
        self.readout = nn.Linear(size + memory_size + input_size, output_size)
        self.dropout = SharedDropout(dropout)
        self.output_dropout = SharedDropout(output_dropout)
        self.plain_layers = num_layers if residual_from is None else residual_from - 1

    @property
    def _layers(self) -> list[nn.RNNBase]:
        return cast(list[nn.RNNBase], list(self.layers))

    def start_state(self, memory: Memory, beam: int = 1) -> State:
        """Begin with what the memory says; cells and what is fed begin at zero."""
        hidden = memory.start.transpose(0, 1)[:, :, None].expand(-1, -1, beam, -1).contiguous()
        cells = sum(has_cell(layer) for layer in self._layers)
        batch = hidden.shape[1]
        return State(
            hidden,
            hidden.new_zeros(cells, batch, beam, self.size),
            hidden.new_zeros(int(self.feeding), batch, beam, self.readout.out_features),
        )

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
        if self.feeding:
            features = self._loop(embedded, memory).flatten(0, 1).index_select(0, rows)
        else:
            features = self._whole(embedded, memory, rows)
        mask = self.output_dropout.mask(embedded.shape[1], features.shape[1], like=features)
        if mask is None:
            return features
        return features * mask[0].index_select(0, rows % embedded.shape[1])

    def _whole(self, embedded: Tensor, memory: Memory, rows: Tensor) -> Tensor:
        """Run each layer over all positions at once."""
        states, context = embedded, None
        for number, layer in enumerate(self._layers):
            below = states
            inputs = self.dropout(below) if number else below
            if context is not None:
                inputs = torch.cat((inputs, context), dim=2)
            states = run(layer, inputs, memory.start[:, number])
            if number >= self.plain_layers:
                states = states + below
            if number == self.attending:
                context = self.attention(states.transpose(0, 1), memory)[0].transpose(0, 1)
        assert context is not None
        parts = (states, context, embedded.to(states.dtype))
        real = torch.cat([part.flatten(0, 1).index_select(0, rows) for part in parts], dim=1)
        return self.readout(real).tanh()

    def _loop(self, embedded: Tensor, memory: Memory) -> Tensor:
        """Run all layers over one position after the other, as each is fed the last readout."""
        batch = embedded.shape[1]
        masks = [self.dropout.mask(batch, self.size, like=embedded) for _ in self._layers[1:]]
        beams = [None, *(None if mask is None else mask.transpose(0, 1) for mask in masks)]
        weights = [weights_of(layer) for layer in self._layers]
        state, readouts = self.start_state(memory), list[Tensor]()
        for inputs in embedded.unsqueeze(2):
            features, state = self._step(inputs, memory, state, weights, beams)
            readouts.append(features.squeeze(1))
        return torch.stack(readouts)

    def _step(
        self,
        embedded: Tensor,
        memory: Memory,
        state: State,
        layer_weights: Sequence[list[Tensor]],
        masks: Sequence[Tensor | None],
    ) -> tuple[Tensor, State]:
        """Go one token further, with weights taken and masks of dropout drawn beforehand."""
        shape = embedded.shape[:2]
        hiddens, cells = list[Tensor](), list[Tensor]()
        states = torch.cat((embedded, *state.readout), dim=2)
        context = None
        for number, layer in enumerate(self._layers):
            below, mask = states, masks[number]
            inputs = below if mask is None else below * mask
            if context is not None:
                inputs = torch.cat((inputs, context), dim=2)
            hidden, cell = step(
                layer,
                layer_weights[number],
                inputs.flatten(0, 1),
                state.hidden[number].flatten(0, 1),
                state.cell[number].flatten(0, 1) if has_cell(layer) else None,
            )
            hiddens.append(hidden.unflatten(0, shape))
            if cell is not None:
                cells.append(cell.unflatten(0, shape))
            states = hiddens[-1] + below if number >= self.plain_layers else hiddens[-1]
            if number == self.attending:
                context, _ = self.attention(states, memory)
        assert context is not None
        features = self.readout(torch.cat((states, context, embedded), dim=2)).tanh()
        after = State(
            torch.stack(hiddens),
            torch.stack(cells) if cells else state.cell,
            features[None] if self.feeding else state.readout,
        )
        return features, after
