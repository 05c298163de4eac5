"""Reading a sentence in both directions, whatever it is batched with."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from seq2seq.model.bridge import CopyBridge
from seq2seq.model.encoder import Encoder, real_positions, reorder, reversal
from seq2seq.model.recurrent import Cell
from tests.builders import assert_close

LENGTHS = torch.tensor([5, 1, 3])
LONGEST, INPUT, SIZE = 5, 4, 3


def make_encoder(num_layers: int, dropout: float = 0.0, cell: Cell = "lstm") -> Encoder:
    torch.manual_seed(num_layers)
    encoder = Encoder(
        INPUT,
        cell=cell,
        size=SIZE,
        num_layers=num_layers,
        num_bidirectional=num_layers,
        residual_from=None,
        dropout=dropout,
    )
    return encoder.double().eval()


def by_torchs_names(encoder: Encoder) -> dict[str, nn.Parameter]:
    """The parameters, named as in torch's own bidirectional layers."""
    return {
        name.replace("_l0", f"_l{number}") + suffix: parameter
        for number, layer in enumerate(encoder.layers)
        for part, suffix in (("ahead", ""), ("back", "_reverse"))
        for name, parameter in layer.get_submodule(part).named_parameters()
    }


def packed_twin(encoder: Encoder, cell: Cell = "lstm") -> nn.RNNBase:
    """torch's own bidirectional layers with the same weights."""
    kinds = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
    layers = len(encoder.layers)
    twin = kinds[cell](INPUT, SIZE, num_layers=layers, bidirectional=True).double()
    twin.load_state_dict(by_torchs_names(encoder))
    return twin


def gradient_of(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def run_packed(twin: nn.RNNBase, inputs: Tensor) -> Tensor:
    packed = nn.utils.rnn.pack_padded_sequence(inputs, LENGTHS, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(twin(packed)[0])[0]


def random_inputs(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(LONGEST, len(LENGTHS), INPUT, dtype=torch.float64, generator=generator)


def real() -> Tensor:
    return real_positions(LENGTHS, LONGEST).T[:, :, None]


def test_reversal_turns_each_sentence_round_within_its_length() -> None:
    rows = torch.tensor(list(b"abcd-x--"), dtype=torch.float64).view(2, 4).T[:, :, None]
    turned = reorder(rows, reversal(torch.tensor([4, 2]), 4))
    assert bytes(turned[:, 0, 0].byte().tolist()) == b"dcba"
    turned = reorder(rows, reversal(torch.tensor([3, 2]), 4))
    assert [bytes(turned[:, side, 0].byte().tolist()) for side in (0, 1)] == [b"cbad", b"x---"]
    # Row t of sentence b is number 2 t + b.
    assert reversal(torch.tensor([3, 1]), 3).tolist() == [4, 1, 2, 3, 0, 5]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 2))
@settings(deadline=None)
def test_turning_round_twice_changes_nothing(lengths: list[int], extra: int) -> None:
    order = reversal(torch.tensor(lengths), max(lengths) + extra)
    assert torch.equal(order[order], torch.arange(len(order)))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_values_and_gradients_are_those_of_packed_sequences(cell: Cell) -> None:
    for num_layers in (1, 2, 3):
        encoder = make_encoder(num_layers, cell=cell)
        twin = packed_twin(encoder, cell)
        ours, theirs = (random_inputs().requires_grad_() for _ in range(2))
        outputs, expected = encoder(ours, LENGTHS).states * real(), run_packed(twin, theirs)
        assert_close(outputs, expected)

        weights = torch.randn_like(expected)
        (outputs * weights).sum().backward()
        (expected * weights).sum().backward()
        assert_close(gradient_of(ours), gradient_of(theirs))
        parameters, wanted = by_torchs_names(encoder), dict(twin.named_parameters())
        assert parameters.keys() == wanted.keys()
        for name, parameter in parameters.items():
            assert_close(gradient_of(parameter), gradient_of(wanted[name]))


def test_padding_may_hold_anything() -> None:
    encoder = make_encoder(2)
    clean = random_inputs().requires_grad_()
    dirty = torch.where(real(), clean.detach(), 100 * random_inputs(seed=1)).requires_grad_()
    outputs = [encoder(inputs, LENGTHS).states * real() for inputs in (clean, dirty)]
    assert_close(outputs[0], outputs[1])
    for output in outputs:
        output.square().sum().backward()
    assert_close(gradient_of(clean), gradient_of(dirty))
    assert not (gradient_of(dirty) * ~real()).any()


def test_dropout_comes_between_layers() -> None:
    inputs = random_inputs()
    alone = make_encoder(1, dropout=0.5)
    assert_close(alone.train()(inputs, LENGTHS).states, alone.eval()(inputs, LENGTHS).states)
    stacked = make_encoder(2, dropout=0.5)
    dropped, whole = stacked.train()(inputs, LENGTHS), stacked.eval()(inputs, LENGTHS)
    assert not torch.equal(dropped.states, whole.states)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_decoders_can_begin_with_the_last_states(cell: Cell) -> None:
    encoder, inputs = make_encoder(2, cell=cell), random_inputs()
    copied = CopyBridge(num_bidirectional=2)(encoder(inputs, LENGTHS))
    packed = nn.utils.rnn.pack_padded_sequence(inputs, LENGTHS, enforce_sorted=False)
    ends = packed_twin(encoder, cell)(packed)[1]
    hidden = ends[0] if cell == "lstm" else ends  # (layers and directions, batch, size)
    expected = hidden.unflatten(0, (2, 2)).permute(2, 0, 1, 3).flatten(2)
    assert_close(copied, expected)


def test_upper_layers_may_read_in_one_direction_and_add_what_they_are_given() -> None:
    torch.manual_seed(0)
    settings = {"cell": "lstm", "size": SIZE, "num_bidirectional": 1, "dropout": 0.0}
    encoder = Encoder(INPUT, num_layers=3, residual_from=3, **settings).double()  # pyright: ignore
    inputs = random_inputs()
    read = encoder(inputs, LENGTHS)
    assert [states.shape[2] for states in read.layers] == [2 * SIZE, SIZE, SIZE]
    below, above = (encoder.get_submodule(f"layers.{number}.ahead") for number in (1, 2))
    second = below(read.layers[0])[0]
    assert_close(read.states, second + above(second)[0])


def test_the_mask_is_true_at_real_tokens() -> None:
    mask = real_positions(torch.tensor([1, 3]), 4)
    assert mask.tolist() == [[True, False, False, False], [True, True, True, False]]
