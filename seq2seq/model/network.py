"""The whole network: embeddings, encoder, decoder, and the layer that scores the vocabulary."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.config import ModelConfig
from seq2seq.model.attention import Memory
from seq2seq.model.decoder import Decoder, State
from seq2seq.model.dropout import SharedDropout, WordDropout
from seq2seq.model.encoder import Encoder, real_positions


class StepScores(NamedTuple):
    """What one step says of every hypothesis."""

    logits: Float[Tensor, "batch beam vocab"]
    state: State
    attention: Float[Tensor, "batch beam source_len"]


class Network(nn.Module):
    """An LSTM encoder-decoder with attention.

    Training calls `forward` with whole sentences; search calls `encode`, `start` and `step`. Both
    compute the same function.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        decoder: Decoder,
        source_embedding: nn.Embedding,
        target_embedding: nn.Embedding,
        output: nn.Linear,
        embedding_dropout: SharedDropout,
        word_dropout: WordDropout,
    ):
        super().__init__()
        self.source_embedding = source_embedding
        self.target_embedding = target_embedding
        self.encoder, self.decoder, self.output = encoder, decoder, output
        self.embedding_dropout, self.word_dropout = embedding_dropout, word_dropout

    def encode(
        self, source: Int[Tensor, "source_len batch"], lengths: Int[Tensor, " batch"]
    ) -> Memory:
        """Read the source sentences, each of at least one token."""
        states = self.encoder(self._embed(self.source_embedding, source), lengths)
        mask = real_positions(lengths, len(source))
        return self.decoder.attention.remember(states.transpose(0, 1).contiguous(), mask)

    def start(self, memory: Memory, beam: int) -> State:
        """Make the state before the first token, for `beam` hypotheses of each sentence."""
        return self.decoder.start_state(memory, beam)

    def step(self, memory: Memory, state: State, tokens: Int[Tensor, "batch beam"]) -> StepScores:
        """Score what may follow the last token of each hypothesis."""
        embedded = self._embed(self.target_embedding, tokens)
        features, state, attention = self.decoder.step(embedded, memory, state)
        return StepScores(self.output(features), state, attention)

    def forward(
        self,
        source: Int[Tensor, "source_len batch"],
        source_lengths: Int[Tensor, " batch"],
        target_input: Int[Tensor, "target_len batch"],
        target_rows: Int[Tensor, " tokens"],
    ) -> Float[Tensor, "tokens vocab"]:
        """Score the vocabulary at every real position of known targets.

        Args:
            source: ids, padded.
            source_lengths: numbers of real ids.
            target_input: ids, the start symbol first, padded.
            target_rows: the real positions of `target_input`, flattened.
        """
        memory = self.encode(source, source_lengths)
        embedded = self._embed(self.target_embedding, target_input)
        return self.output(self.decoder(embedded, memory, target_rows))

    def _embed(self, table: nn.Embedding, ids: Tensor) -> Tensor:
        # Tables start small, as the tied output wants them; the LSTMs want inputs of unit size.
        # (Vaswani et al. 2017, section 3.4. Without it Multi30k takes more than twice the steps.)
        embedded = table(ids) * math.sqrt(table.embedding_dim)
        return self.embedding_dropout(self.word_dropout(embedded, ids))


def build_network(
    model: ModelConfig, *, source_size: int, target_size: int, num_special: int
) -> Network:
    """Make the network that a config describes, initialised from torch's generator.

    Args:
        model: sizes, tying, dropout.
        source_size: pieces of the source vocabulary.
        target_size: pieces of the target vocabulary.
        num_special: ids below this are special and never dropped.
    """
    width, dropout = model.embedding_size, model.dropout
    encoder = Encoder(
        width, size=model.encoder_size, num_layers=model.encoder_layers, dropout=dropout.layers
    )
    decoder = Decoder(
        width,
        encoder.output_size,
        size=model.decoder_size,
        num_layers=model.decoder_layers,
        output_size=width,
        dropout=dropout.layers,
        output_dropout=dropout.output,
    )
    network = Network(
        encoder=encoder,
        decoder=decoder,
        source_embedding=nn.Embedding(source_size, width),
        target_embedding=nn.Embedding(target_size, width),
        output=nn.Linear(width, target_size),
        embedding_dropout=SharedDropout(dropout.embeddings),
        word_dropout=WordDropout(dropout.words, num_special=num_special),
    )
    if model.tied in ("all", "target"):
        network.output.weight = network.target_embedding.weight
    if model.tied == "all":
        network.source_embedding.weight = network.target_embedding.weight
    _initialise(network)
    return network


def _initialise(network: Network) -> None:
    """Xavier for matrices, orthogonal for recurrent ones, forget gates open (bias 1)."""
    for name, parameter in network.named_parameters():
        if "embedding" in name:
            nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))
        elif "weight_hh" in name:
            for gate in parameter.chunk(4):
                nn.init.orthogonal_(gate)
        elif parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
        if "bias_ih" in name:
            with torch.no_grad():
                parameter.chunk(4)[1].fill_(1.0)
