"""What the weights are before training."""

import math

from torch import Tensor, nn


def initialise(
    network: nn.Module, *, spread: float | None, orthogonal: bool, forget_bias: float | None
) -> None:
    """Draw a network's weights from torch's generator; biases begin at zero.

    Embeddings are normal in any case, with the inverse root of their width as deviation: they are
    scaled by that root where they are looked up.

    Args:
        network: whose recurrent layers are torch's.
        spread: matrices are uniform between its negative and itself; None: as Glorot and Bengio,
            "Understanding the difficulty of training deep feedforward neural networks" (2010),
            equation 16.
        orthogonal: make the recurrent matrix of each gate orthogonal (Saxe et al. 2014).
        forget_bias: of the forget gates (Jozefowicz et al. 2015, section 3.2), where all layers are
            LSTMs; None: they have none.
    """
    for name, parameter in network.named_parameters():
        if "embedding" in name:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))
        elif "weight_hh" in name and orthogonal:
            for gate in parameter.split(parameter.shape[1]):
                nn.init.orthogonal_(gate)
        elif parameter.dim() == 2:
            _draw_matrix(parameter, spread)
        elif parameter.dim() == 1:  # a single number has its own start
            nn.init.zeros_(parameter)
        if forget_bias is not None and "bias_ih" in name:
            parameter.detach().chunk(4)[1].fill_(forget_bias)


def _draw_matrix(matrix: Tensor, spread: float | None) -> None:
    if spread is None:
        nn.init.xavier_uniform_(matrix)
    else:
        nn.init.uniform_(matrix, -spread, spread)
