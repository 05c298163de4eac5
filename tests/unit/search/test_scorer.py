"""Several networks as one, and a part of the vocabulary as all of it."""

import pytest
import torch

from seq2seq.model.stepwise import Stepwise
from seq2seq.search.beam import Settings
from seq2seq.search.rules import Wishes
from seq2seq.search.scorer import Ensemble, Scorer
from seq2seq.search.shortlisted import Shortlisted
from seq2seq.vocabulary import BOS
from tests.builders import assert_close, columns, tiny_network, variant
from tests.search_builders import SIZE, A, B, C, D, assert_alike, look

SOURCES = [[A, B, C], [C, A], [B]]


def first_step(network: Scorer) -> torch.Tensor:
    """What may follow the start symbol, in all sentences."""
    memory = network.encode(*columns(SOURCES))
    tokens = torch.full((len(SOURCES), 1), BOS)
    step = network.step(memory, network.start(memory, 1), tokens)
    return network.log_probabilities(step.features.flatten(0, 1))


def test_an_ensemble_takes_the_mean_of_the_probabilities() -> None:
    other = variant(layout="input_feeding", decoder_size=7, decoder_layers=1)
    members = [Stepwise(tiny_network(1)), Stepwise(tiny_network(2, other))]
    mean = sum(first_step(member).exp() for member in members) / 2
    assert_close(first_step(Ensemble(members)).exp(), torch.as_tensor(mean))


@pytest.mark.parametrize("way", [Settings(1), Settings(4), Settings(4, groups=2, diversity=0.5)])
def test_a_network_with_itself_is_itself(way: Settings) -> None:
    network = Stepwise(tiny_network(3))
    alone = look(network, SOURCES, way)
    for found, expected in zip(look(Ensemble([network] * 3), SOURCES, way), alone, strict=True):
        assert_alike(found, expected)


def test_members_that_differ_find_what_neither_finds() -> None:
    members = [Stepwise(tiny_network(seed)) for seed in (1, 2)]
    texts = [[each[0].tokens for each in look(one, SOURCES, Settings(4))] for one in members]
    together = [each[0].tokens for each in look(Ensemble(members), SOURCES, Settings(4))]
    assert together not in texts


def test_a_list_of_all_is_the_network() -> None:
    network = Stepwise(tiny_network(4))
    everything = Shortlisted(network, torch.arange(SIZE))
    assert_close(first_step(everything), first_step(network))
    for found, expected in zip(
        look(everything, SOURCES, Settings(3)), look(network, SOURCES, Settings(3)), strict=True
    ):
        assert_alike(found, expected)


def test_a_list_shares_the_probability_among_its_tokens() -> None:
    network, listed = Stepwise(tiny_network(5)), [0, 1, 2, 3, B, D]
    every = first_step(network).exp()[:, listed]
    found = first_step(Shortlisted(network, torch.tensor(listed))).exp()
    assert_close(found, every / every.sum(dim=1, keepdim=True))
    hypotheses = look(
        Shortlisted(network, torch.tensor(listed)), SOURCES, Settings(2), Wishes(1, 5)
    )
    assert {token for each in hypotheses for token in each[0].tokens} <= {4, 5}  # places in it
