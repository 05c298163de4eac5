"""What the decoder begins with."""

import torch

from seq2seq.model.bridge import ProjectionBridge, ZeroBridge
from seq2seq.model.encoder import Encoding, real_positions
from tests.builders import assert_close


def encoding() -> Encoding:
    """Two sentences of three and one words; what stands at padding is not a number."""
    states = torch.tensor(
        [[[1.0, 2.0], [5.0, 6.0]], [[0.0, 4.0], [float("nan")] * 2], [[2.0, 0.0], [7.0, 7.0]]],
        dtype=torch.float64,
    )
    lengths = torch.tensor([3, 1])
    return Encoding(states, [states], lengths, real_positions(lengths, 3))


def test_the_mean_of_the_words_is_projected_for_each_layer() -> None:
    bridge = ProjectionBridge(2, num_layers=2, size=1).double()
    bridge.projection.weight.data = torch.tensor([[1.0, 0.0], [0.5, -1.0]]).double()
    bridge.projection.bias.data = torch.tensor([0.0, 0.25]).double()
    # The means are (1, 2) and (5, 6).
    expected = torch.tensor([[[1.0], [-1.25]], [[5.0], [-3.25]]], dtype=torch.float64).tanh()
    assert_close(bridge(encoding()), expected)


def test_nothing() -> None:
    start = ZeroBridge(num_layers=3, size=2)(encoding())
    assert_close(start, torch.zeros(2, 3, 2, dtype=torch.float64))
