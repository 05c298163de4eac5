"""The whole network: embeddings, encoder, decoder, and the layer that scores the vocabulary."""

import math

from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.config import (
    Additive,
    AttentionSettings,
    Dot,
    General,
    Lstm,
    ModelConfig,
    MultiHead,
    Uniform,
)
from seq2seq.model.attention import (
    AdditiveAttention,
    Attention,
    Memory,
    MultiHeadAttention,
    ProductAttention,
)
from seq2seq.model.bridge import Bridge, CopyBridge, ProjectionBridge, ZeroBridge
from seq2seq.model.decoder import Decoder
from seq2seq.model.dropout import SharedDropout, WordDropout
from seq2seq.model.encoder import Encoder
from seq2seq.model.initialisation import initialise


class Network(nn.Module):
    """A recurrent encoder-decoder with attention.

    It is called with whole sentences; `output` makes logits of the features that it gives. Search
    takes the same steps one by one: `stepwise.Stepwise`.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        bridge: Bridge,
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
        self.encoder, self.bridge, self.decoder, self.output = encoder, bridge, decoder, output
        self.embedding_dropout, self.word_dropout = embedding_dropout, word_dropout

    def encode(
        self, source: Int[Tensor, "source_len batch"], lengths: Int[Tensor, " batch"]
    ) -> Memory:
        """Read the source sentences, each of at least one token."""
        encoding = self.encoder(self._embed(self.source_embedding, source), lengths)
        states = encoding.states.transpose(0, 1).contiguous()
        keys, values = self.decoder.attention.project(states)
        return Memory(keys, values, encoding.mask, self.bridge(encoding))

    def forward(
        self,
        source: Int[Tensor, "source_len batch"],
        source_lengths: Int[Tensor, " batch"],
        target_input: Int[Tensor, "target_len batch"],
        target_rows: Int[Tensor, " tokens"],
    ) -> Float[Tensor, "tokens embedding"]:
        """Make the features that the vocabulary is scored by, at real positions of known targets.

        Args:
            source: ids, padded.
            source_lengths: numbers of real ids.
            target_input: ids, the start symbol first, padded.
            target_rows: the real positions of `target_input`, flattened.
        """
        memory = self.encode(source, source_lengths)
        embedded = self._embed(self.target_embedding, target_input)
        return self.decoder(embedded, memory, target_rows)

    def _embed(self, table: nn.Embedding, ids: Tensor) -> Tensor:
        # Tables start small, as the tied output wants them; the LSTMs want inputs of unit size.
        # (Vaswani et al. 2017, section 3.4. Without it Multi30k takes more than twice the steps.)
        embedded = table(ids) * math.sqrt(table.embedding_dim)
        return self.embedding_dropout(self.word_dropout(embedded, ids))


def build_network(
    model: ModelConfig, *, source_size: int, target_size: int, num_special: int
) -> Network:
    """Make the network that a config describes, initialised from torch's generator.

    The arguments are those of `bare_network`.
    """
    network = bare_network(
        model, source_size=source_size, target_size=target_size, num_special=num_special
    )
    start = model.initialisation
    initialise(
        network,
        spread=start.spread if isinstance(start, Uniform) else None,
        orthogonal=start.orthogonal,
        forget_bias=model.cell.forget_bias if isinstance(model.cell, Lstm) else None,
    )
    return network


def bare_network(
    model: ModelConfig, *, source_size: int, target_size: int, num_special: int
) -> Network:
    """Make the network that a config describes, for weights that are still to come.

    Args:
        model: sizes, tying, dropout.
        source_size: pieces of the source vocabulary.
        target_size: pieces of the target vocabulary.
        num_special: ids below this are special and never dropped.
    """
    width, dropout = model.embedding_size, model.dropout
    encoder = Encoder(
        width,
        cell=model.cell.kind,
        size=model.encoder_size,
        num_layers=model.encoder_layers,
        num_bidirectional=model.num_bidirectional,
        residual_from=model.encoder_residual_from,
        dropout=dropout.layers,
    )
    decoder = Decoder(
        width,
        encoder.output_size,
        attention=_attention(model.attention, model.decoder_size, encoder.output_size),
        layout=model.layout,
        cell=model.cell.kind,
        size=model.decoder_size,
        num_layers=model.decoder_layers,
        residual_from=model.decoder_residual_from,
        output_size=width,
        dropout=dropout.layers,
        output_dropout=dropout.output,
    )
    network = Network(
        encoder=encoder,
        bridge=_bridge(model, encoder.output_size),
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
    return network


def _attention(settings: AttentionSettings, query_size: int, memory_size: int) -> Attention:
    match settings:
        case Dot(scaled=scaled) | General(scaled=scaled):
            learnt = isinstance(settings, General)
            return ProductAttention(query_size, memory_size, learnt=learnt, scaled=scaled)
        case Additive(size=size, normalised=normalised):
            return AdditiveAttention(query_size, memory_size, size=size, normalised=normalised)
        case MultiHead(heads=heads):
            return MultiHeadAttention(query_size, memory_size, heads=heads)


def _bridge(model: ModelConfig, memory_size: int) -> Bridge:
    num_layers, size = model.decoder_layers, model.decoder_size
    match model.bridge:
        case "projection":
            return ProjectionBridge(memory_size, num_layers=num_layers, size=size)
        case "copy":
            return CopyBridge(num_bidirectional=model.num_bidirectional)
        case "zero":
            return ZeroBridge(num_layers=num_layers, size=size)
