"""Small networks, vocabularies and settings that the unit tests share."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy
import torch
from torch import Tensor

from seq2seq.config import Config, DropoutConfig, ModelConfig, SearchConfig, VocabularyConfig
from seq2seq.data.batch import Batch, make_batch, pad
from seq2seq.data.prepared import FlatIds, Ids
from seq2seq.model.network import Network, build_network
from seq2seq.model_folder import Model, new_network
from seq2seq.vocabulary import NUM_SPECIAL, Vocabularies
from seq2seq.vocabulary_learning import train_vocabularies

LINES = (
    "the cat sat on the mat",
    "a dog ran to the red house",
    "two birds sang in a tall tree",
    "the old man saw the small cat",
)
NO_DROPOUT = DropoutConfig(embeddings=0.0, layers=0.0, output=0.0, words=0.0)
TINY = ModelConfig(
    embedding_size=6,
    encoder_layers=2,
    encoder_size=4,
    decoder_layers=3,
    decoder_size=5,
    dropout=NO_DROPOUT,
)


def variant(**settings: Any) -> ModelConfig:
    """Describe a tiny network that differs in some settings."""
    return ModelConfig.model_validate(TINY.model_dump() | settings)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Compare values, and shapes and types too."""
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=tolerance)


def randomize(network: torch.nn.Module, seed: int) -> None:
    """Give every parameter a value that makes the network far from even-handed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.7, generator=generator)


def tiny_network(seed: int = 0, model: ModelConfig = TINY, *, size: int = 9) -> Network:
    """Make a random network in float64, in evaluation mode, for `size` pieces on both sides."""
    network = build_network(model, source_size=size, target_size=size, num_special=NUM_SPECIAL)
    randomize(network, seed)
    return network.double().eval()


def vocabulary_config(*, joint: bool = True) -> VocabularyConfig:
    """Ask for a vocabulary that so few lines can support."""
    return VocabularyConfig(algorithm="bpe", size=40, joint=joint)


@cache
def tiny_vocabularies(*, joint: bool = True, tags: tuple[str, ...] = ()) -> Vocabularies:
    """Learn vocabularies from LINES."""
    return train_vocabularies(LINES, LINES, vocabulary_config(joint=joint), tags)


def tiny_model(
    seed: int = 0, model: ModelConfig = TINY, *, joint: bool = True, tags: tuple[str, ...] = ()
) -> Model:
    """Make a model with random weights (in float32, as they are stored) and real vocabularies."""
    config = Config(
        model=model,
        vocabulary=vocabulary_config(joint=joint),
        search=SearchConfig(beam=3, max_length_ratio=1.0),
    )
    vocabularies = tiny_vocabularies(joint=joint, tags=tags)
    network = new_network(config, vocabularies)
    randomize(network, seed)
    return Model(network.eval(), vocabularies, config, {"step": 7, "note": "für ältere Läufe"})


def ids(sentence: Sequence[int]) -> Ids:
    """Turn a list of ids into what the data folder gives."""
    return numpy.asarray(sentence, dtype=numpy.uint32)


def columns(sentences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Put sentences side by side: the padded ids and the lengths."""
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    return pad([ids(sentence) for sentence in sentences]), lengths


def batch_of(*pairs: tuple[Sequence[int], Sequence[int]]) -> Batch:
    """Make a batch of pairs of a source and a target."""
    sources, targets = zip(*pairs, strict=True)
    return make_batch(
        FlatIds.of([ids(source) for source in sources]),
        FlatIds.of([ids(target) for target in targets]),
        numpy.arange(len(pairs)),
    )


def logits_of(network: Network, batch: Batch) -> Tensor:
    """Score the vocabulary at a batch's real target positions, the way that training goes."""
    inputs = (batch.source, batch.source_lengths, batch.target_input, batch.target_rows)
    return network.output(network(*inputs))


def noisy(padded: Tensor, lengths: Tensor, *, extra: int, seed: int, size: int = 9) -> Tensor:
    """Add `extra` positions of padding, and fill all padding with random ids."""
    generator = torch.Generator().manual_seed(seed)
    longest, batch = len(padded) + extra, len(lengths)
    noise = torch.randint(size, (longest, batch), generator=generator)
    real = torch.arange(longest)[:, None] < lengths
    grown = torch.cat((padded, padded.new_zeros(extra, batch)))
    return torch.where(real, grown, noise)


def noisy_batch(batch: Batch, *, extra: int, seed: int) -> Batch:
    """Do that to both sides of a batch; what is real stays."""
    target_lengths = torch.bincount(
        batch.target_rows % len(batch.examples), minlength=len(batch.examples)
    )
    return batch._replace(
        source=noisy(batch.source, batch.source_lengths, extra=extra, seed=seed),
        target_input=noisy(batch.target_input, target_lengths, extra=extra, seed=seed + 1),
    )
