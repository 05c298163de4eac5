"""The network: the same function in training and in search, alone and in a batch."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from seq2seq.config import ModelConfig
from seq2seq.data.batch import Batch
from seq2seq.model.network import Network, build_network
from seq2seq.model.stepwise import Step, Stepwise
from seq2seq.vocabulary import BOS, NUM_SPECIAL
from tests.builders import (
    TINY,
    assert_close,
    batch_of,
    logits_of,
    noisy,
    noisy_batch,
    tiny_network,
    variant,
)

Tied = Literal["all", "target", "none"]
VARIANTS = {
    "gnmt": variant(),
    "gnmt, one layer": variant(decoder_layers=1),
    "gnmt, two layers": variant(decoder_layers=2),
    "luong": variant(layout="luong"),
    "luong, one layer": variant(layout="luong", decoder_layers=1),
    "input feeding": variant(layout="input_feeding"),
    "input feeding, one layer": variant(layout="input_feeding", decoder_layers=1),
    "gru": variant(cell={"kind": "gru"}),
    "gru, fed": variant(cell={"kind": "gru"}, layout="input_feeding"),
    "rnn": variant(cell={"kind": "rnn"}, layout="luong"),
    "dot": variant(attention={"kind": "dot"}, decoder_size=8),
    "dot, unscaled": variant(attention={"kind": "dot", "scaled": False}, decoder_size=8),
    "general, unscaled": variant(attention={"kind": "general", "scaled": False}),
    "additive": variant(attention={"kind": "additive", "size": 7}),
    "additive, normalised": variant(
        attention={"kind": "additive", "size": 7, "normalised": True}, layout="luong"
    ),
    "two heads": variant(attention={"kind": "multi_head", "heads": 2}, decoder_size=6),
    "four heads, fed": variant(
        attention={"kind": "multi_head", "heads": 4}, decoder_size=8, layout="input_feeding"
    ),
    "copied": variant(bridge="copy", decoder_size=8, decoder_layers=2),
    "copied, one direction": variant(
        bridge="copy", bidirectional_layers=0, encoder_size=5, decoder_layers=2
    ),
    "zero": variant(bridge="zero", layout="luong"),
    "residual": variant(
        encoder_layers=4,
        bidirectional_layers=1,
        encoder_residual_from=3,
        decoder_layers=4,
        decoder_residual_from=3,
    ),
    "residual, fed": variant(
        layout="input_feeding", decoder_residual_from=2, encoder_residual_from=2
    ),
}
SIZE = 9
PAIRS = (([4, 5, 6, 7], [8, 4]), ([5], [4, 6, 8, 7, 5]), ([8, 4, 4], []))
words = st.integers(NUM_SPECIAL, SIZE - 1)
pairs = st.tuples(st.lists(words, min_size=1, max_size=6), st.lists(words, max_size=6))


def logits_by_sentence(network: Network, batch: Batch) -> list[Tensor]:
    logits = logits_of(network, batch)
    sentences = batch.target_rows % len(batch.examples)
    return [logits[sentences == sentence] for sentence in range(len(batch.examples))]


def step_through(
    network: Network, source: Tensor, lengths: Tensor, target: list[int]
) -> list[Step]:
    """Read a target token by token for every source of a batch."""
    stepwise = Stepwise(network)
    memory = stepwise.encode(source, lengths)
    state, steps = stepwise.start(memory, 1), list[Step]()
    for token in (BOS, *target):
        steps.append(stepwise.step(memory, state, torch.full((len(lengths), 1), token)))
        state = steps[-1].state
    return steps


@pytest.mark.parametrize("name", VARIANTS)
def test_teacher_forced_is_stepwise(name: str) -> None:
    network = tiny_network(model=VARIANTS[name])
    batch = batch_of(*PAIRS)
    forced = logits_by_sentence(network, batch)
    for number, (_, target) in enumerate(PAIRS):
        steps = step_through(network, batch.source, batch.source_lengths, target)
        assert_close(
            forced[number],
            torch.stack([network.output(step.features[number, 0]) for step in steps]),
        )


@pytest.mark.parametrize("name", VARIANTS)
def test_hypotheses_of_one_sentence_do_not_touch_each_other(name: str) -> None:
    network = tiny_network(model=VARIANTS[name])
    batch = batch_of(*PAIRS)
    stepwise = Stepwise(network)
    memory = stepwise.encode(batch.source, batch.source_lengths)
    first = stepwise.step(memory, stepwise.start(memory, 3), torch.full((3, 3), BOS))
    beams = stepwise.step(memory, first.state, torch.tensor([[4, 5, 6]] * 3))
    for beam, token in enumerate((4, 5, 6)):
        steps = step_through(network, batch.source, batch.source_lengths, [token])
        assert_close(beams.features[:, beam], steps[-1].features[:, 0])
        assert_close(beams.attention[:, beam], steps[-1].attention[:, 0])


@given(
    st.sampled_from(sorted(VARIANTS)),
    st.integers(0, 50),
    st.lists(pairs, min_size=1, max_size=5),
    st.integers(0, 5),
)
@settings(deadline=None, max_examples=50)
def test_a_sentence_is_computed_as_if_it_were_alone(
    name: str, seed: int, examples: list[tuple[list[int], list[int]]], extra: int
) -> None:
    network = tiny_network(seed, VARIANTS[name])
    batch = batch_of(*examples)
    together = logits_by_sentence(network, batch)
    padded = logits_by_sentence(network, noisy_batch(batch, extra=extra, seed=seed))
    for number, pair in enumerate(examples):
        alone = logits_of(network, batch_of(pair))
        assert_close(together[number], alone)
        assert_close(padded[number], alone)


@pytest.mark.parametrize("name", VARIANTS)
def test_attention_sums_to_one_over_real_tokens_and_is_zero_on_padding(name: str) -> None:
    network = tiny_network(model=VARIANTS[name])
    batch = batch_of(*PAIRS)
    lengths = batch.source_lengths
    source = noisy(batch.source, lengths, extra=3, seed=0)
    real = torch.arange(len(source)) < lengths[:, None]
    for step in step_through(network, source, lengths, [4, 8]):
        rows = step.attention[:, 0]
        assert_close(rows.sum(dim=1), torch.ones(3, dtype=torch.float64))
        assert not rows[~real].any()
        assert rows[real].min() >= 0


def lstm_parameters(inner: int, size: int) -> int:
    return 4 * size * (inner + size + 2)


def parameters_without_tables(model: ModelConfig) -> int:
    width, size, memory = model.embedding_size, model.decoder_size, 2 * model.encoder_size
    encoder = 2 * lstm_parameters(width, model.encoder_size)
    encoder += 2 * (model.encoder_layers - 1) * lstm_parameters(memory, model.encoder_size)
    decoder = lstm_parameters(width, size)
    decoder += (model.decoder_layers - 1) * lstm_parameters(size + memory, size)
    attention = memory * size
    start = (memory + 1) * model.decoder_layers * size
    readout = (size + memory + width + 1) * width
    return encoder + decoder + attention + start + readout + SIZE  # and the output's bias


@pytest.mark.parametrize(("tied", "tables"), [("all", 1), ("target", 2), ("none", 3)])
def test_tying_shares_the_tables(tied: Tied, tables: int) -> None:
    model = TINY.model_copy(update={"tied": tied})
    network = tiny_network(model=model)
    shared = (
        network.source_embedding.weight,
        network.target_embedding.weight,
        network.output.weight,
    )
    assert len({id(table) for table in shared}) == tables
    assert (shared[1] is shared[2]) == (tied != "none")
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert counted == parameters_without_tables(model) + tables * SIZE * model.embedding_size


def fresh(tied: Tied = "all") -> Network:
    model = TINY.model_copy(update={"tied": tied})
    return build_network(model, source_size=SIZE, target_size=SIZE, num_special=NUM_SPECIAL)


def test_forget_gates_start_open_and_recurrent_blocks_orthogonal() -> None:
    lstms = [module for module in fresh().modules() if isinstance(module, nn.LSTM)]
    assert len(lstms) == 2 * 2 + 3  # two directions of two layers, and the decoder's three
    for lstm in lstms:
        weights = dict(lstm.named_parameters())
        blocks = torch.stack(weights["weight_hh_l0"].detach().chunk(4))
        identity = torch.eye(lstm.hidden_size).expand_as(blocks)
        assert_close(blocks @ blocks.transpose(1, 2), identity, 1e-5)
        biases = (weights["bias_ih_l0"] + weights["bias_hh_l0"]).detach()
        for gate, wanted in zip(biases.chunk(4), (0.0, 1.0, 0.0, 0.0), strict=True):
            assert torch.equal(gate, torch.full_like(gate, wanted))


@pytest.mark.parametrize("tied", ["all", "target", "none"])
def test_the_seed_decides_the_start(tied: Tied) -> None:
    networks: list[list[Tensor]] = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        networks.append([parameter.detach() for parameter in fresh(tied).parameters()])
    matrices = [number for number, part in enumerate(networks[0]) if part.dim() == 2]
    assert all(torch.equal(networks[0][number], networks[1][number]) for number in matrices)
    assert not any(torch.equal(networks[0][number], networks[2][number]) for number in matrices)
