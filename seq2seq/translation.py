"""From text to translated text, with a model: batches by length, results in the order given."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy
import torch

from seq2seq.config import Config, SearchConfig
from seq2seq.data.batch import pad
from seq2seq.errors import DataError
from seq2seq.model.network import Network
from seq2seq.model_folder import load_model
from seq2seq.search import Symbols, search
from seq2seq.vocabulary import BOS, EOS, PAD, UNK, Vocabularies, blank

_SYMBOLS = Symbols(start=BOS, end=EOS, never=(PAD, BOS, UNK))
WINDOW = 1024  # lines that are translated, and written, together
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

    @staticmethod
    def load(
        folder: Path | str, *, beam: int | None = None, device: torch.device | str = "cpu"
    ) -> "Translator":
        """Read a model folder; `beam` replaces the size that the model was trained with."""
        model = load_model(Path(folder), device=device)
        return Translator(model.network, model.vocabularies, search_settings(model.config, beam))

    def translate(self, lines: Sequence[str]) -> list[Translation]:
        """Translate lines; each gets exactly one translation, a blank one a blank one."""
        results = [Translation("", [], 0.0)] * len(lines)
        for batch in self.batches(lines):
            for number, translation in zip(batch.numbers, self.translate_batch(batch), strict=True):
                results[number] = translation
        return results

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


def search_settings(config: Config, beam: int | None) -> SearchConfig:
    """Take a model's own search settings, but for the beam's size where one is given."""
    return config.search.model_copy(update={"beam": beam} if beam else {})


def translated_text(translator: Translator, lines: Sequence[str]) -> bytes:
    """Translate lines to as many, each ended by a line feed."""
    return "".join(found.text + "\n" for found in translator.translate(lines)).encode()


def translate_stream(
    translator: Translator, lines: Iterable[bytes], *, window: int = WINDOW
) -> Iterator[bytes]:
    """Translate UTF-8 lines, a window of them at a time, so that input of any size fits.

    Yields:
        The translations of each window: as many lines, each ended by a line feed.

    Raises:
        DataError: a line is not UTF-8; all windows before its own have been given.
    """
    rest, start = iter(lines), 1
    while chosen := list(islice(rest, window)):
        yield translated_text(translator, _decoded(chosen, start))
        start += len(chosen)


def _decoded(lines: Sequence[bytes], start: int) -> list[str]:
    texts: list[str] = []
    for number, line in enumerate(lines, start):
        try:
            texts.append(line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"line {number} of the input is not UTF-8: convert it first") from error
    return texts
