"""Dropout: what is dropped, that it is the same along a sentence, and how the rest is scaled."""

import pytest
import torch

from seq2seq.config import DropoutConfig
from seq2seq.model.attention import Memory, ProductAttention
from seq2seq.model.decoder import Decoder, Layout
from seq2seq.model.dropout import SharedDropout, WordDropout
from seq2seq.vocabulary import NUM_SPECIAL
from tests.builders import TINY, assert_close, batch_of, tiny_network


def test_the_same_components_are_dropped_along_a_sentence() -> None:
    torch.manual_seed(0)
    inputs = torch.rand(7, 4, 30) + 1.0
    outputs = SharedDropout(0.25)(inputs)
    dropped = outputs == 0
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert len({tuple(sentence.tolist()) for sentence in dropped[0]}) == 4
    assert_close(outputs[~dropped], inputs[~dropped] / 0.75, 1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_mean_stays(rate: float) -> None:
    torch.manual_seed(0)
    outputs = SharedDropout(rate)(torch.ones(1, 100, 1000))
    assert outputs.mean().item() == pytest.approx(1.0, abs=0.05)
    assert (outputs == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
    words = WordDropout(rate, num_special=0)(torch.ones(1000, 100, 2), torch.ones(1000, 100).long())
    assert words.mean().item() == pytest.approx(1.0, abs=0.05)
    assert (words == 0).float().mean().item() == pytest.approx(rate, abs=0.01)


def test_words_are_dropped_whole_and_special_ones_left_as_they_are() -> None:
    torch.manual_seed(0)
    embedded = torch.rand(50, 8, 3) + 1.0
    ids = torch.arange(50)[:, None].expand(50, 8) % 10
    outputs = WordDropout(0.75, num_special=NUM_SPECIAL)(embedded, ids)
    special = ids < NUM_SPECIAL
    assert torch.equal(outputs[special], embedded[special])
    words, before = outputs[~special], embedded[~special]
    kept = words.any(dim=1)
    assert 0.1 < kept.float().mean() < 0.4
    assert_close(words[kept], 4 * before[kept], 1e-6)


@pytest.mark.parametrize("layout", ["gnmt", "input_feeding"])
def test_the_readout_drops_the_same_components_along_a_sentence(layout: Layout) -> None:
    torch.manual_seed(0)
    attention = ProductAttention(5, 4, learnt=True, scaled=True)
    decoder = Decoder(
        3,
        4,
        attention=attention,
        layout=layout,
        cell="lstm",
        size=5,
        num_layers=1,
        residual_from=None,
        output_size=40,
        dropout=0.0,
        output_dropout=0.5,
    ).double()
    projected = attention.project(torch.randn(2, 3, 4, dtype=torch.float64))
    start = torch.zeros(2, 1, 5, dtype=torch.float64)
    memory = Memory(*projected, torch.ones(2, 3).bool(), start)
    embedded = torch.randn(6, 2, 3, dtype=torch.float64)
    rows = torch.tensor([0, 1, 2, 3, 4, 6, 8])  # the second sentence has two positions only
    sentences = rows % 2
    kept = decoder(embedded, memory, rows)
    whole = decoder.eval()(embedded, memory, rows)
    for sentence in (0, 1):
        dropped = kept[sentences == sentence] == 0
        assert 5 < dropped[0].sum() < 35
        assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert not torch.equal(kept[0] == 0, kept[1] == 0)
    assert_close(kept[kept != 0], 2 * whole[kept != 0])


def test_nothing_is_dropped_in_evaluation() -> None:
    rates = DropoutConfig(embeddings=0.5, layers=0.5, output=0.5, words=0.5)
    dropping = tiny_network(model=TINY.model_copy(update={"dropout": rates}))
    never = tiny_network()
    batch = batch_of(([4, 5, 6], [7, 8]), ([5], [4, 4, 4]))
    inputs = (batch.source, batch.source_lengths, batch.target_input, batch.target_rows)
    assert torch.equal(dropping(*inputs), never(*inputs))
    torch.manual_seed(0)
    assert not torch.allclose(dropping.train()(*inputs), never.train()(*inputs))


def test_a_rate_of_zero_drops_nothing_in_training() -> None:
    inputs = torch.rand(3, 2, 4)
    assert torch.equal(SharedDropout(0.0).train()(inputs), inputs)
    words = WordDropout(0.0, num_special=NUM_SPECIAL).train()
    assert torch.equal(words(inputs, torch.full((3, 2), 9)), inputs)
