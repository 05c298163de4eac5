"""From text to translated text, with a model: batches by length, results in the order given."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy
import torch

from seq2seq.config import SearchConfig
from seq2seq.config_file import search_settings
from seq2seq.data.batch import pad
from seq2seq.model.network import Network
from seq2seq.model_folder import load_model
from seq2seq.search import Symbols, search
from seq2seq.sentence_split import Part, join, split_long
from seq2seq.vocabulary import BOS, EOS, PAD, UNK, Vocabularies, blank

_SYMBOLS = Symbols(start=BOS, end=EOS, never=(PAD, BOS, UNK))
_EXTRA_LENGTH = 10  # pieces that any translation may have beyond its share of the source's


class Request(NamedTuple):
    """A line to translate, and what its translation must heed."""

    text: str
    prefix: str = ""
    """What the translation begins with."""
    require: tuple[str, ...] = ()
    """Words and phrases that the translation must have."""
    avoid: tuple[str, ...] = ()
    """Words and phrases that it may not have."""


class Translation(NamedTuple):
    """A line's translation."""

    text: str
    tokens: list[int]
    """The text as ids of the target vocabulary."""
    score: float
    """Log-probability in nats, divided by a power of the length; 0 for a blank line."""
    log_probability: float = 0.0
    """Sum over the pieces and the end, in nats."""
    source_pieces: Sequence[str] = ()
    pieces: Sequence[str] = ()
    attention: Sequence[Sequence[float]] = ()
    """For each piece a weight of each source piece; empty unless alignments were asked for."""
    alternatives: Sequence["Translation"] = ()
    """Other hypotheses, best first, where more than one was asked for."""
    unmet: Sequence[str] = ()
    """What the request asked for and the translation doesn't have."""

    @property
    def alignment(self) -> list[tuple[int, int]]:
        """For each piece, the source piece it attends to most: (source, target), from 0."""
        best = [max(range(len(row)), key=row.__getitem__) for row in self.attention]
        return [(source, target) for target, source in enumerate(best)]


class LineBatch(NamedTuple):
    """Lines that are translated at once."""

    numbers: list[int]
    """Which lines these are, counted from 0."""
    sources: list[list[int]]
    """Their ids of the source vocabulary."""


class Translator:
    """A network with its vocabularies and search settings."""

    def __init__(self, network: Network, vocabularies: Vocabularies, settings: SearchConfig):
        self.network = network
        self.vocabularies = vocabularies
        self.settings = settings

    # placeholder
    @staticmethod
    def load(
        folder: Path,
        *,
        overrides: Sequence[str] = (),
        ensemble: Sequence[Path] = (),
        device: torch.device | str = "cpu",
        alignments: bool = False,
    ) -> "Translator":
        """Read a model folder; `overrides` win over its own settings of search."""
        model = load_model(folder, device=device)
        settings = search_settings(model.config, overrides, name=str(folder))
        translator = Translator(model.network, model.vocabularies, settings)
        translator.alignments = alignments
        return translator

    alignments = False

    # placeholder
    def translate(self, lines: Sequence[str | Request]) -> list[Translation]:
        """Translate lines; each gets exactly one translation, a blank one a blank one."""
        requests = [Request(line) if isinstance(line, str) else line for line in lines]
        limit = self.settings.max_source_length
        cut = [split_long(request.text, self._count, limit) for request in requests]
        texts = [part.text for parts in cut for part in parts]
        results = [Translation("", [], 0.0)] * len(texts)
        for batch in self.batches(texts):
            for number, translation in zip(batch.numbers, self.translate_batch(batch), strict=True):
                if self.alignments:
                    forced = _forced(self, texts[number], translation.text)
                    translation = forced._replace(score=translation.score)
                results[number] = translation
        rest = iter(results)
        return [
            self._joined(request, parts, list(islice(rest, len(parts))))
            for request, parts in zip(requests, cut, strict=True)
        ]

    def _count(self, text: str) -> int:
        return len(self.vocabularies.source.encode([text])[0])

    def _joined(
        self, request: Request, parts: Sequence[Part], found: Sequence[Translation]
    ) -> Translation:
        text = join(parts, [translation.text for translation in found])
        if not text:
            return Translation("", [], 0.0, unmet=request.require)
        unmet = tuple(word for word in request.require if word not in text)
        others = (found[0],) * (self.settings.nbest - 1) if len(found) == 1 else ()
        return Translation(
            text,
            [token for translation in found for token in translation.tokens],
            sum(translation.score for translation in found),
            sum(translation.log_probability for translation in found),
            found[0].source_pieces,
            found[0].pieces,
            found[0].attention,
            others,
            unmet,
        )

    # placeholder
    def score(self, pairs: Sequence[tuple[str, Sequence[str]]]) -> list[list[Translation]]:
        """Score translations that are there."""
        return [[_forced(self, source, target) for target in targets] for source, targets in pairs]

    def batches(self, lines: Sequence[str]) -> list[LineBatch]:
        """Put lines of like length together, longest first; blank lines are in no batch."""
        sources = self.vocabularies.source.encode(lines)
        numbers = [number for number, line in enumerate(lines) if not blank(line)]
        numbers.sort(key=lambda number: -len(sources[number]))
        batches: list[LineBatch] = []
        while numbers:
            size = max(1, self.settings.tokens_per_batch // len(sources[numbers[0]]))
            chosen, numbers = numbers[:size], numbers[size:]
            batches.append(LineBatch(chosen, [sources[number] for number in chosen]))
        return batches

    def translate_batch(self, batch: LineBatch) -> list[Translation]:
        """Translate the lines of a batch, in its order."""
        sources = batch.sources
        device = self.network.output.weight.device
        lengths = torch.tensor([len(ids) for ids in sources])
        limits = (lengths * self.settings.max_length_ratio).long() + _EXTRA_LENGTH
        hypotheses = search(
            self.network,
            pad([numpy.asarray(ids, dtype=numpy.uint32) for ids in sources]).to(device),
            lengths.to(device),
            symbols=_SYMBOLS,
            beam=self.settings.beam,
            length_penalty=self.settings.length_penalty,
            max_lengths=limits.to(device),
        )
        texts = self.vocabularies.target.decode([hypothesis.tokens for hypothesis in hypotheses])
        return [
            Translation(text, hypothesis.tokens, hypothesis.score)
            for text, hypothesis in zip(texts, hypotheses, strict=True)
        ]


# placeholder
@torch.no_grad()
def _forced(translator: "Translator", text: str, target: str) -> Translation:
    if blank(text):
        return Translation(target, [], 0.0)
    (source,) = translator.vocabularies.source.encode([text])
    (tokens,) = translator.vocabularies.target.encode([target])
    network, device = translator.network, translator.network.output.weight.device
    memory = network.encode(
        torch.tensor(source, device=device)[:, None], torch.tensor([len(source)], device=device)
    )
    state, total, rows = network.start(memory, 1), 0.0, list[list[float]]()
    for token, following in zip([BOS, *tokens], [*tokens, EOS], strict=True):
        scores = network.step(memory, state, torch.tensor([[token]], device=device))
        state = scores.state
        total += scores.logits.log_softmax(dim=2)[0, 0, following].item()
        rows.append(scores.attention[0, 0].tolist())
    score = total / (len(tokens) + 1) ** translator.settings.length_penalty
    return Translation(
        target,
        tokens,
        score,
        total,
        translator.vocabularies.source.pieces(source),
        translator.vocabularies.target.pieces(tokens),
        rows[:-1],
    )
