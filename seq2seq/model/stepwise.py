"""A network one token at a time, as search needs it: what can be multiplied beforehand is.

A layer's gates, and the readout, are sums of products: of the word, of the state below, of the
context. The context is a mean of the memory's values, so that the values' product, made once for a
sentence, serves each hypothesis at each step; and the words' products can be looked up.
"""

import math
from copy import deepcopy
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding

from seq2seq.model.attention import Memory, MultiHeadAttention
from seq2seq.model.decoder import State
from seq2seq.model.network import Network
from seq2seq.model.products import linear, tanh
from seq2seq.model.recurrent import step_from_gates

_LARGEST_TABLE = 2**25  # numbers in the table of the words' products, 128 MiB in float32


class Step(NamedTuple):
    """What one step gives for every hypothesis."""

    features: Float[Tensor, "batch beam width"]
    """What the vocabulary is scored by."""
    state: Any
    """The state after this step: a `State`, or several."""
    attention: Float[Tensor, "batch beam source_len"]


class _Layer(NamedTuple):
    """The weights of a recurrent layer that are left for its steps."""

    kind: nn.RNNBase
    inputs: Tensor
    """Of the state below; of the lowest layer, of the readout that it may be fed."""
    bias: Tensor
    hidden: Tensor
    hidden_bias: Tensor


class Stepwise:
    """A network for search, with weights of its own where they are the decoder's.

    Its steps are those that training takes, but for rounding.
    """

    def __init__(self, network: Network, dtype: torch.dtype | None = None):
        """Prepare a network.

        Args:
            network: in evaluation mode; what it learns later is not seen.
            dtype: what is computed in; by default what its weights are in.
        """
        decoder, output = network.decoder, network.output
        self._network, self._dtype = network, dtype or output.weight.dtype
        self._attending, self._plain_layers = decoder.attending, decoder.plain_layers
        self._feeding = decoder.feeding
        self._attention = deepcopy(decoder.attention)
        cast(nn.Module, self._attention).to(self._dtype)
        # Several heads have weights of their own, so that no product of the values is their sum.
        self._folds = not isinstance(decoder.attention, MultiHeadAttention)
        with torch.no_grad():
            self._divide(network)
        self.output_weight, self.output_bias = self._own(output.weight), self._own(output.bias)

    def _own(self, weight: Tensor) -> Tensor:
        return weight.detach().to(self._dtype).contiguous()

    def _divide(self, network: Network) -> None:
        """Divide the weights by what they are multiplied with."""
        table, readout = network.target_embedding, network.decoder.readout
        layers = cast(list[nn.RNNBase], list(network.decoder.layers))
        width, size = table.embedding_dim, network.decoder.size
        memory = readout.in_features - size - width
        state, context, word = readout.weight.split([size, memory, width], dim=1)
        lowest = layers[0].all_weights[0]
        self._embeddings = self._own(table.weight * math.sqrt(width))
        self._of_words = self._own(torch.cat((lowest[0][:, :width], word)))
        self._word_biases = self._own(torch.cat((lowest[2], readout.bias)))
        small = len(self._embeddings) * len(self._of_words) <= _LARGEST_TABLE
        every = torch.arange(len(table.weight), device=table.weight.device)
        self._words = self._word_products(every) if small else None
        above = range(self._attending + 1, len(layers))
        of_context = [*(layers[number].all_weights[0][0][:, size:] for number in above), context]
        self._contexts = self._own(torch.cat(of_context))
        self._widths = [len(weight) for weight in of_context]
        self._readout = self._own(state)
        self._layers: list[_Layer] = []
        for number, layer in enumerate(layers):
            inputs, hidden, bias, hidden_bias = layer.all_weights[0]
            used = inputs[:, width:] if number == 0 else inputs[:, :size]
            weights = (used, bias, hidden, hidden_bias)
            self._layers.append(_Layer(layer, *(self._own(weight) for weight in weights)))

    def _word_products(self, tokens: Tensor) -> Tensor:
        """Make what the lowest layer's gates and the readout have of the words themselves."""
        return linear(embedding(tokens, self._embeddings), self._of_words, self._word_biases)

    def encode(
        self, source: Int[Tensor, "source_len batch"], lengths: Int[Tensor, " batch"]
    ) -> Memory:
        """Read source sentences, each of at least one token."""
        half = self._dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(source.device.type, self._dtype, enabled=half):
            memory = self._network.encode(source, lengths)
        values = memory.values.to(self._dtype)
        return memory._replace(
            keys=memory.keys.to(self._dtype),
            values=linear(values, self._contexts) if self._folds else values,
            start=memory.start.to(self._dtype),
        )

    def start(self, memory: Memory, beam: int) -> State:
        """Make the state before the first token, for `beam` hypotheses of each sentence."""
        return self._network.decoder.start_state(memory, beam)

    def step(self, memory: Memory, state: State, tokens: Int[Tensor, "batch beam"]) -> Step:
        """Go one token further with every hypothesis."""
        table = self._words
        words = self._word_products(tokens) if table is None else embedding(tokens, table)
        gates, readout = words.split([len(self._layers[0].hidden), len(self._readout)], dim=2)
        if self._feeding:
            gates = gates + linear(state.readout[0], self._layers[0].inputs)
        hiddens, cells, contexts = list[Tensor](), list[Tensor](), list[Tensor]()
        below = weights = None
        for number, layer in enumerate(self._layers):
            if below is not None:
                gates = linear(below, layer.inputs, layer.bias)
                if number > self._attending:
                    gates = gates + contexts.pop(0)
            hidden, cell = self._cell(layer, gates, state, number)
            hiddens.append(hidden)
            if cell is not None:
                cells.append(cell)
            below = hidden if below is None or number < self._plain_layers else hidden + below
            if number == self._attending:
                context, weights = self._attention(below, memory)
                folded = context if self._folds else linear(context, self._contexts)
                contexts = list(folded.split(self._widths, dim=2))
        assert below is not None
        assert weights is not None
        features = tanh(linear(below, self._readout) + contexts.pop() + readout)
        after = State(
            torch.stack(hiddens),
            torch.stack(cells) if cells else state.cell,
            features[None] if self._feeding else state.readout,
        )
        return Step(features, after, weights)

    def _cell(
        self, layer: _Layer, gates: Tensor, state: State, number: int
    ) -> tuple[Tensor, Tensor | None]:
        shape, before = gates.shape[:2], state.hidden[number].flatten(0, 1)
        cell = state.cell[number].flatten(0, 1) if len(state.cell) else None
        hidden_gates = linear(before, layer.hidden, layer.hidden_bias)
        hidden, cell = step_from_gates(layer.kind, gates.flatten(0, 1), hidden_gates, before, cell)
        return hidden.unflatten(0, shape), None if cell is None else cell.unflatten(0, shape)

    def log_probabilities(
        self, features: Float[Tensor, "rows width"]
    ) -> Float[Tensor, "rows vocab"]:
        """Say what may follow, by the features that a step gave; in float32 at least."""
        return log_probabilities(features, self.output_weight, self.output_bias)


def log_probabilities(
    features: Float[Tensor, "rows width"],
    weight: Float[Tensor, "vocab width"],
    bias: Float[Tensor, " vocab"],
) -> Float[Tensor, "rows vocab"]:
    """Score tokens by features; in float32 at least."""
    logits = linear(features, weight, bias)
    return logits.log_softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
