"""Beam search over anything that can encode, start and step; a beam of one is greedy search."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.model.attention import Memory
from seq2seq.model.decoder import State
from seq2seq.model.network import StepScores


@runtime_checkable
class Scorer(Protocol):
    """What search needs of a network."""

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Read source sentences."""
        ...

    def start(self, memory: Memory, beam: int) -> State:
        """Make the state before the first token."""
        ...

    def step(self, memory: Memory, state: State, tokens: Tensor) -> StepScores:
        """Score what may follow."""
        ...


class Symbols(NamedTuple):
    """The special ids that search must know."""

    start: int
    end: int
    never: tuple[int, ...]
    """Ids that no translation may contain."""


class Hypothesis(NamedTuple):
    """A translation as ids, without special ones."""

    tokens: list[int]
    score: float
    """Log-probability in nats, divided by a power of the length (end of sentence counted)."""


class _Beams(NamedTuple):
    """The live hypotheses of the sentences still searched for, and each one's best finished."""

    sentences: Int[Tensor, " batch"]
    tokens: Int[Tensor, "batch beam length"]
    scores: Float[Tensor, "batch beam"]
    finished: Int[Tensor, " batch"]
    best: Float[Tensor, " batch"]
    best_tokens: Int[Tensor, "batch length"]

    def select(self, rows: Tensor) -> "_Beams":
        return _Beams(*(part.index_select(0, rows) for part in self))


@torch.no_grad()
def search(
    network: Scorer,
    source: Int[Tensor, "source_len batch"],
    lengths: Int[Tensor, " batch"],
    *,
    symbols: Symbols,
    beam: int,
    length_penalty: float,
    max_lengths: Int[Tensor, " batch"],
) -> list[Hypothesis]:
    """Find the best translation of each sentence.

    A hypothesis is finished when its end comes among the `beam` best continuations; a sentence,
    when it has `beam` finished ones, and leaves the batch. At the greatest length the end is
    forced, so there is always a finished hypothesis.

    Args:
        network: what scores; in evaluation mode.
        source: ids, padded.
        lengths: numbers of real source ids, at least 1.
        symbols: the special ids.
        beam: number of hypotheses kept.
        length_penalty: exponent of the length (end counted) that log-probabilities are divided by.
        max_lengths: of each translation, end counted.

    Returns:
        One hypothesis for each sentence, in order.
    """
    memory = network.encode(source, lengths)
    state = network.start(memory, beam)
    beams = _begin(len(lengths), beam, symbols, memory.values)
    results: dict[int, Hypothesis] = {}
    length = 0
    while len(beams.sentences):
        length += 1
        scores = network.step(memory, state, beams.tokens[:, :, -1])
        last = max_lengths[beams.sentences] <= length
        log_probabilities = _allowed(scores.logits.log_softmax(dim=2), last, symbols)
        beams, origin = _advance(beams, log_probabilities, symbols, length**length_penalty)
        done = last | (beams.finished >= beam)
        kept = (~done).nonzero().squeeze(1)
        if len(kept) < len(done):
            results |= _results(beams.select(done.nonzero().squeeze(1)), symbols)
            beams, memory = beams.select(kept), memory.select(kept)
        state = scores.state.select(kept, origin[kept])
    return [results[sentence] for sentence in range(len(lengths))]


def _begin(batch: int, beam: int, symbols: Symbols, like: Tensor) -> _Beams:
    """Start every sentence from one hypothesis; the others are impossible, so no twins arise."""
    scores = like.new_full((batch, beam), float("-inf"))
    scores[:, 0] = 0.0
    sentences = torch.arange(batch, device=like.device)
    return _Beams(
        sentences=sentences,
        tokens=sentences.new_full((batch, beam, 1), symbols.start),
        scores=scores,
        finished=torch.zeros_like(sentences),
        best=like.new_full((batch,), float("-inf")),
        best_tokens=sentences.new_full((batch, 1), symbols.end),
    )


def _allowed(
    log_probabilities: Float[Tensor, "batch beam vocab"],
    last: Bool[Tensor, " batch"],
    symbols: Symbols,
) -> Float[Tensor, "batch beam vocab"]:
    """Rule out what may never come, and all but the end where a sentence must end."""
    log_probabilities[:, :, list(symbols.never)] = float("-inf")
    end = log_probabilities[:, :, symbols.end].clone()
    log_probabilities.masked_fill_(last[:, None, None], float("-inf"))
    log_probabilities[:, :, symbols.end] = end
    return log_probabilities


def _advance(
    beams: _Beams,
    log_probabilities: Float[Tensor, "batch beam vocab"],
    symbols: Symbols,
    divisor: float,
) -> tuple[_Beams, Int[Tensor, "batch beam"]]:
    """Extend all hypotheses by one token.

    Returns:
        The new beams, and for each hypothesis the old one that it continues.
    """
    beam, vocabulary = log_probabilities.shape[1:]
    # Twice the beam, since at most every second candidate is an end: enough remain to go on with.
    within = log_probabilities.topk(min(2 * beam, vocabulary), dim=2)
    totals = (beams.scores[:, :, None] + within.values).flatten(1)
    chosen = totals.topk(2 * beam, dim=1)
    origin = chosen.indices // within.values.shape[2]
    tokens = within.indices.flatten(1).gather(1, chosen.indices)
    ends = tokens == symbols.end
    beams = _finish(beams, chosen.values / divisor, origin, ends, symbols)
    going_on = ends.int().argsort(dim=1, stable=True)[:, :beam]
    origin, tokens = origin.gather(1, going_on), tokens.gather(1, going_on)
    values = chosen.values.gather(1, going_on)
    values = values.masked_fill(ends.gather(1, going_on), float("-inf"))
    rows = torch.arange(len(origin), device=origin.device)[:, None]
    history = torch.cat((beams.tokens[rows, origin], tokens[:, :, None]), dim=2)
    return beams._replace(tokens=history, scores=values), origin


def _finish(
    beams: _Beams, scores: Tensor, origin: Tensor, ends: Tensor, symbols: Symbols
) -> _Beams:
    """Note the hypotheses whose end is among the best candidates, and the best one so far."""
    beam = beams.scores.shape[1]
    ending = ends[:, :beam] & scores[:, :beam].isfinite()
    best, which = scores[:, :beam].masked_fill(~ending, float("-inf")).max(dim=1)
    rows = torch.arange(len(best), device=best.device)
    tokens = beams.tokens[rows, origin[rows, which]]
    better = best > beams.best
    missing = tokens.shape[1] - beams.best_tokens.shape[1]
    filler = beams.best_tokens.new_full((len(best), missing), symbols.end)
    kept = torch.cat((beams.best_tokens, filler), dim=1)
    return beams._replace(
        finished=beams.finished + ending.sum(dim=1),
        best=torch.where(better, best, beams.best),
        best_tokens=torch.where(better[:, None], tokens, kept),
    )


def _results(beams: _Beams, symbols: Symbols) -> dict[int, Hypothesis]:
    """Read out sentences that are done."""
    results: dict[int, Hypothesis] = {}
    rows = zip(
        beams.sentences.tolist(), beams.best_tokens.tolist(), beams.best.tolist(), strict=True
    )
    for sentence, (_, *tokens), score in rows:
        length = tokens.index(symbols.end) if symbols.end in tokens else len(tokens)
        results[sentence] = Hypothesis(tokens[:length], score)
    return results
