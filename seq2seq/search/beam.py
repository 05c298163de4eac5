"""Beam search; a beam of one is greedy search, and beams that are drawn are sampling."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.search.candidates import Candidates, Sampling, best, drawn
from seq2seq.search.constraints import Required
from seq2seq.search.hypothesis import Hypothesis, Scoring, coverage
from seq2seq.search.rules import Rules, Wishes
from seq2seq.search.scorer import Scorer, Symbols

_NONE = float("-inf")


class Settings(NamedTuple):
    """How is searched, for all sentences alike."""

    beam: int
    scoring: Scoring = Scoring()
    groups: int = 1
    diversity: float = 0.0
    sampling: Sampling | None = None
    block_ngrams: int = 0
    repetition_penalty: float = 1.0


class _Beams(NamedTuple):
    """The hypotheses of the sentences still searched for; one that scores -inf isn't there."""

    sentences: Int[Tensor, " batch"]
    tokens: Int[Tensor, "batch beam length"]
    scores: Float[Tensor, "batch beam"]
    """Log-probabilities."""
    attended: Float[Tensor, "batch beam source_len"]
    """Attention that source positions have had, where coverage counts; else of no width."""
    wanted: Int[Tensor, "batch groups"]
    """How many hypotheses still have to end."""

    def select(self, rows: Tensor) -> "_Beams":
        return _Beams(*(part.index_select(0, rows) for part in self))


@torch.no_grad()
def search(
    network: Scorer,
    source: Int[Tensor, "source_len batch"],
    lengths: Int[Tensor, " batch"],
    wishes: Sequence[Wishes],
    *,
    symbols: Symbols,
    settings: Settings,
    uniforms: Float[Tensor, "batch beam steps"] | None = None,
) -> list[list[Hypothesis]]:
    """Find the best translations of each sentence.

    At each step the best continuations are kept, as many as there are hypotheses that haven't ended
    yet. One that ends leaves the beam, and a sentence all of whose hypotheses have ended leaves the
    batch. At the greatest length the end is forced. Hypotheses of a group compete among themselves
    (Vijayakumar et al. 2018); drawn ones are a group each.

    Args:
        network: what scores; in evaluation mode.
        source: ids, padded.
        lengths: numbers of real source ids, at least 1.
        wishes: what is wanted of each sentence's translation.
        symbols: the special ids.
        settings: how is searched.
        uniforms: numbers from 0 to 1 to draw with, for each sentence, hypothesis and step.

    Returns:
        The hypotheses of each sentence, best first; none where what is wanted can't be had.
    """
    return _Search(network, source, lengths, wishes, symbols, settings, uniforms).run()


class _Search:
    """One batch's search."""

    def __init__(
        self,
        network: Scorer,
        source: Tensor,
        lengths: Tensor,
        wishes: Sequence[Wishes],
        symbols: Symbols,
        settings: Settings,
        uniforms: Tensor | None,
    ):
        self._network, self._source, self._lengths = network, source, lengths
        self._wishes, self._symbols, self._settings = wishes, symbols, settings
        self._uniforms, self._device = uniforms, source.device
        self._groups = settings.beam if settings.sampling else settings.groups
        self._rules = Rules(
            wishes,
            symbols,
            block_ngrams=settings.block_ngrams,
            repetition_penalty=settings.repetition_penalty,
            device=source.device,
        )
        required = [wish.required.tokens if wish.required else 0 for wish in wishes]
        self._constrained = any(required)
        # Hypotheses with none, one, two … of the required tokens get as many places each.
        self._amounts = torch.tensor(required, device=source.device) + 1
        self._results: list[list[Hypothesis]] = [[] for _ in wishes]

    def run(self) -> list[list[Hypothesis]]:
        """Search to the end."""
        memory = self._network.encode(self._source, self._lengths)
        state = self._network.start(memory, self._groups)
        beams = self._begin()
        while len(beams.sentences):
            step = self._network.step(memory, state, beams.tokens[:, :, -1])
            if beams.attended.shape[2]:
                beams = beams._replace(attended=beams.attended + step.attention)
            found = self._candidates(beams, step.features)
            beams, origin = self._advance(beams, found)
            going_on = beams.scores.isfinite().any(dim=1).nonzero().squeeze(1)
            if len(going_on) < len(beams.sentences):
                beams, memory = beams.select(going_on), memory.select(going_on)
                origin = origin.index_select(0, going_on)
            state = step.state.select(going_on, origin)
        for hypotheses in self._results:
            hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
        return self._results

    def _begin(self) -> _Beams:
        """Start every group of every sentence from one hypothesis."""
        batch, groups = len(self._lengths), self._groups
        sentences = torch.arange(batch, device=self._device)
        attended = torch.zeros(batch, groups, 0, device=self._device)
        if self._settings.scoring.coverage_penalty:
            places = torch.arange(len(self._source), device=self._device)
            padding = places >= self._lengths[:, None]
            attended = padding.float()[:, None].repeat(1, groups, 1)
        return _Beams(
            sentences=sentences,
            tokens=sentences.new_full((batch, groups, 1), self._symbols.start),
            scores=torch.zeros(batch, groups, device=self._device),
            attended=attended,
            wanted=sentences.new_full((batch, groups), self._settings.beam // groups),
        )

    def _candidates(self, beams: _Beams, features: Tensor) -> Candidates:
        """Say how each hypothesis may go on; only those that are there are scored."""
        batch, width = beams.scores.shape
        live = beams.scores.flatten().isfinite().nonzero().squeeze(1)
        sentences = beams.sentences[live // width]
        tokens = beams.tokens.flatten(0, 1).index_select(0, live)
        rows = self._network.log_probabilities(features.flatten(0, 1).index_select(0, live))
        rows = self._rules.apply(rows, sentences, tokens)
        sampling = self._settings.sampling
        if sampling is None:
            found = best(rows, self._settings.beam)
        else:
            assert self._uniforms is not None
            numbers = self._uniforms[sentences, live % width, tokens.shape[1] - 1]
            found = drawn(rows, numbers, sampling)
        if self._constrained:
            found = self._with_required(found, rows, sentences, tokens)
        number = found.tokens.shape[1]
        totals = found.values + beams.scores.flatten()[live][:, None]
        values = totals.new_full((batch * width, number), _NONE)
        values[live] = totals
        filled = found.tokens.new_zeros(batch * width, number)
        filled[live] = found.tokens
        return Candidates(values.unflatten(0, (batch, width)), filled.unflatten(0, (batch, width)))

    def _with_required(
        self, found: Candidates, rows: Tensor, sentences: Tensor, tokens: Tensor
    ) -> Candidates:
        """Add the tokens that bring a hypothesis nearer to what is required, likely or not."""
        added: list[list[int]] = []
        for sentence, history, likely in zip(
            sentences.tolist(), tokens[:, 1:].tolist(), found.tokens.tolist(), strict=True
        ):
            required = self._wishes[sentence].required
            following = required.progress(history).following if required else ()
            added.append([token for token in following if token not in likely])
        most = max(map(len, added))
        places = [[*each, *[self._symbols.start] * (most - len(each))] for each in added]
        more = torch.tensor(places, device=rows.device).view(len(added), most).long()
        # The start symbol, which fills the gaps, scores -inf like all that may never come.
        return Candidates(
            torch.cat((found.values, rows.gather(1, more)), dim=1),
            torch.cat((found.tokens, more), dim=1),
        )

    def _advance(
        self, beams: _Beams, found: Candidates
    ) -> tuple[_Beams, Int[Tensor, "batch beam"]]:
        """Extend the hypotheses by one token.

        Returns:
            The new beams, and for each hypothesis the old one that it continues.
        """
        slots = beams.wanted * self._amounts[beams.sentences, None]
        keys = self._keys(beams, found)
        places = self._chosen(keys, found.tokens, slots)
        values = (
            found.values.flatten(1).gather(1, places.clamp(min=0)).masked_fill(places < 0, _NONE)
        )
        tokens = found.tokens.flatten(1).gather(1, places.clamp(min=0))
        origin = places.clamp(min=0) // found.tokens.shape[2]
        rows = torch.arange(len(origin), device=origin.device)[:, None]
        beams = beams._replace(
            tokens=torch.cat((beams.tokens[rows, origin], tokens[:, :, None]), dim=2),
            scores=values,
            attended=beams.attended[rows, origin],
        )
        return self._finish(beams, (tokens == self._symbols.end) & values.isfinite()), origin

    def _keys(self, beams: _Beams, found: Candidates) -> Float[Tensor, "batch groups candidates"]:
        """Say by what candidates compete: their scores.

        Where something is required, it is their rank among those that have as much of it; of equal
        ranks the one that has more is first. So each amount gets its share of the places.
        """
        keys = found.values.flatten(1)
        if self._constrained:
            keys = keys.clone()
            for row, sentence in enumerate(beams.sentences.tolist()):
                required = self._wishes[sentence].required
                if required:
                    histories = beams.tokens[row, :, 1:].tolist()
                    keys[row] = _by_rank(found.values[row], found.tokens[row], histories, required)
        return keys.unflatten(1, (self._groups, -1))

    def _chosen(
        self, keys: Tensor, tokens: Tensor, slots: Int[Tensor, "batch groups"]
    ) -> Int[Tensor, "batch beam"]:
        """Choose the best candidates of each group, as many as it has places; -1 is none."""
        number = min(int(slots.max()), keys.shape[2])
        ranks = torch.arange(number, device=keys.device)
        size = keys.shape[2]
        offsets = torch.arange(self._groups, device=keys.device)[:, None] * size
        if not self._settings.diversity or self._groups == 1:
            top = keys.topk(number, dim=2)
            chosen = (top.indices + offsets).masked_fill(~top.values.isfinite(), -1)
            return chosen.masked_fill(ranks >= slots[:, :, None], -1).flatten(1)
        each = tokens.flatten(1).unflatten(1, (self._groups, -1))
        taken = tokens.new_empty(len(tokens), 0)
        groups: list[Tensor] = []
        for group in range(self._groups):
            chosen_before = (each[:, group, :, None] == taken[:, None]).sum(dim=2)
            top = (keys[:, group] - self._settings.diversity * chosen_before).topk(number, dim=1)
            gone = ~top.values.isfinite() | (ranks >= slots[:, group, None])
            words = each[:, group].gather(1, top.indices).masked_fill(gone, -1)
            taken = torch.cat((taken, words), dim=1)
            groups.append((top.indices + group * size).masked_fill(gone, -1))
        return torch.cat(groups, dim=1)

    def _finish(self, beams: _Beams, ends: Bool[Tensor, "batch beam"]) -> _Beams:
        """Note the hypotheses that have ended, and take them out of the beam."""
        rows, places = ends.nonzero(as_tuple=True)
        scoring = self._settings.scoring
        covered = coverage(beams.attended[rows, places]).tolist()
        for sentence, (_, *tokens, _), value, attended in zip(
            beams.sentences[rows].tolist(),
            beams.tokens[rows, places].tolist(),
            beams.scores[rows, places].tolist(),
            covered,
            strict=True,
        ):
            score = scoring.score(value, len(tokens) + 1, attended)
            self._results[sentence].append(Hypothesis(tokens, score, value))
        wanted = beams.wanted - ends.unflatten(1, (self._groups, -1)).sum(dim=2)
        over = (wanted <= 0).repeat_interleave(ends.shape[1] // self._groups, dim=1)
        return beams._replace(scores=beams.scores.masked_fill(ends | over, _NONE), wanted=wanted)


def _by_rank(
    values: Float[Tensor, "beam candidates"],
    tokens: Int[Tensor, "beam candidates"],
    histories: list[list[int]],
    required: Required,
) -> Float[Tensor, " candidates"]:
    """Make keys for one sentence's candidates, by their rank among those with as much met."""
    keys = torch.full_like(values, _NONE).flatten()
    flat = values.flatten()
    ranks: dict[int, int] = {}
    number = tokens.shape[1]
    words = tokens.flatten().tolist()
    for place in flat.argsort(descending=True, stable=True).tolist():
        if flat[place] == _NONE:
            break
        met = required.progress([*histories[place // number], words[place]]).met
        rank = ranks.get(met, 0)
        ranks[met] = rank + 1
        keys[place] = -float(rank * (required.tokens + 1) + required.tokens - met)
    return keys
