"""One recurrent layer in one direction: whole sequences in one call, or a step at a time.

The layers are torch's own, so that their kernels and parameter names are. Under autocast its rule
for cuDNN would compute them in float16 whatever the type that was asked for, without scaling the
loss; so autocast is left here, and inputs and weights are handed over in the type it stands for.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.model.products import tanh

Cell = Literal["lstm", "gru", "rnn"]

_LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def new_layer(cell: Cell, input_size: int, size: int) -> nn.RNNBase:
    """Make a layer.

    Args:
        cell: `lstm` (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000),
            `gru` (Cho et al. 2014) or `rnn` (Elman 1990: tanh, no gates).
        input_size: width of its inputs.
        size: width of its state.
    """
    return _LAYERS[cell](input_size, size)


def has_cell(layer: nn.RNNBase) -> bool:
    """Whether a layer has a second state, the LSTM's cell, beside its output."""
    return isinstance(layer, nn.LSTM)


def weights_of(layer: nn.RNNBase) -> list[Tensor]:
    """Take a layer's weights, in the type that autocast wants, where it is on.

    They then lie one behind the other, as cuDNN wants them: it would copy them at each call.
    """
    weights = layer.all_weights[0]
    wanted = autocast_type(weights[0])
    if wanted is None:
        return [*weights]
    flat = torch.cat([weight.flatten().to(wanted) for weight in weights])
    parts = flat.split([weight.numel() for weight in weights])
    return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]


def autocast_type(like: Tensor) -> torch.dtype | None:
    """Say what autocast computes products in, on a tensor's device; None where it is off."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def run(
    layer: nn.RNNBase,
    inputs: Float[Tensor, "length batch input"],
    start: Float[Tensor, "batch size"] | None = None,
) -> Float[Tensor, "length batch size"]:
    """Run a layer over whole sequences.

    Args:
        layer: one layer, one direction.
        inputs: at every position.
        start: the state before the first position; zero if not given. A cell begins at zero.
    """
    weights = weights_of(layer)
    with torch.autocast(inputs.device.type, enabled=False):
        inputs = inputs.to(weights[0].dtype)
        nothing = inputs.new_zeros(1, inputs.shape[1], layer.hidden_size)
        hidden = nothing if start is None else start.to(inputs.dtype).unsqueeze(0).contiguous()
        options = (weights, True, 1, 0.0, layer.training, False, False)
        if isinstance(layer, nn.LSTM):
            return torch.lstm(inputs, (hidden, nothing), *options)[0]
        function = torch.gru if isinstance(layer, nn.GRU) else torch.rnn_tanh
        return function(inputs, hidden, *options)[0]


def step(
    layer: nn.RNNBase,
    weights: list[Tensor],
    inputs: Float[Tensor, "rows input"],
    hidden: Float[Tensor, "rows size"],
    cell: Float[Tensor, "rows size"] | None,
) -> tuple[Float[Tensor, "rows size"], Float[Tensor, "rows size"] | None]:
    """Run a layer over one position.

    Args:
        layer: one layer, one direction.
        weights: its weights; who takes many steps takes them once.
        inputs: at this position.
        hidden: the state before it, which is the output at the position before.
        cell: the LSTM's cell before it.

    Returns:
        Both after it; no cell where the layer has none.
    """
    with torch.autocast(inputs.device.type, enabled=False):
        inputs, hidden = (part.to(weights[0].dtype) for part in (inputs, hidden))
        if cell is not None:
            hidden, cell = torch.lstm_cell(inputs, (hidden, cell.to(inputs.dtype)), *weights)
            return hidden, cell
        function = torch.gru_cell if isinstance(layer, nn.GRU) else torch.rnn_tanh_cell
        return function(inputs, hidden, *weights), None


def step_from_gates(
    layer: nn.RNNBase,
    inputs: Float[Tensor, "rows gates"],
    hidden_gates: Float[Tensor, "rows gates"],
    hidden: Float[Tensor, "rows size"],
    cell: Float[Tensor, "rows size"] | None,
) -> tuple[Float[Tensor, "rows size"], Float[Tensor, "rows size"] | None]:
    """Run a layer over one position, the products being made: the formulas of torch's layers.

    Args:
        layer: one layer, one direction.
        inputs: product and bias of the inputs, in torch's order of gates.
        hidden_gates: product and bias of the state before.
        hidden: the state before.
        cell: the LSTM's cell before it.
    """
    if isinstance(layer, nn.LSTM):
        assert cell is not None
        if inputs.is_cuda:  # one kernel, which is what torch's own cell calls
            return torch.ops.aten._thnn_fused_lstm_cell(inputs, hidden_gates, cell)[:2]
        enter, forget, new, leave = (inputs + hidden_gates).chunk(4, dim=1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * tanh(new)
        return leave.sigmoid() * tanh(cell), cell
    if isinstance(layer, nn.RNN):
        return tanh(inputs + hidden_gates), None
    (reset, update, new), gates = inputs.chunk(3, dim=1), hidden_gates.chunk(3, dim=1)
    update = (update + gates[1]).sigmoid()
    new = tanh(new + (reset + gates[0]).sigmoid() * gates[2])
    return new + update * (hidden - new), None
