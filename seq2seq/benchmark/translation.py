"""Translation as `translate` does it, with a stopwatch: in batches, and sentence by sentence."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch

from seq2seq.benchmark.comparison import Measured, Row, machine, rows_of, take_in_turn
from seq2seq.data.text_files import read_lines
from seq2seq.errors import DataError
from seq2seq.evaluation import prepared_test_set
from seq2seq.model_description import ModelDescription
from seq2seq.parallel.device import forget_peak, peak_memory
from seq2seq.translation import WINDOW, Translator
from seq2seq.vocabulary import blank

_ALONE = 1000  # sentences that are translated one at a time, at most
_PERCENTILES = (50, 90, 95, 99)


class Text(NamedTuple):
    """What is translated."""

    name: str
    lines: list[str]
    """None of them blank."""

    @property
    def facts(self) -> dict[str, Any]:
        """Say what text it is, for those who measure again."""
        digest = hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
        return {"name": self.name, "lines": len(self.lines), "sha256": digest}


def read_text(source: Path) -> Text:
    """Take the lines of a text file, packed or not.

    Raises:
        DataError: it can't be read, or has none.
    """
    return _text(str(source), read_lines(source))


def prepared_text(model: Path) -> Text:
    """Take the source of the test set of a model's data folder.

    Raises:
        ModelError: it is no model folder.
        DataError: the data folder isn't there, or has no test set.
    """
    folder = ModelDescription.load(model).config.data.folder
    try:
        test = prepared_test_set(folder, "test")
    except DataError as error:
        raise DataError(
            f"{folder}, the data folder of {model}, has no test set to translate: give a text with"
            " --input"
        ) from error
    return _text(test.name, test.source)


def _text(name: str, lines: Iterable[str]) -> Text:
    text = Text(name, [line for line in lines if not blank(line)])
    if not text.lines:
        raise DataError(f"{name} has no line to translate: give a text with --input")
    return text


class Sample(NamedTuple):
    """What the translation of a text has taken, once or several times."""

    sentences: float
    """A second; the same for the tokens."""
    source_tokens: float
    """Real ones, ends of sentence not counted."""
    target_tokens: float
    """Those of the translations alone, not of all hypotheses."""
    memory: int
    """Most bytes: of a GPU, else of the process."""
    alone: list[float]
    """Milliseconds of each sentence that was translated by itself."""


class Candidate:
    """A model with its search settings, ready to translate a text again and again."""

    def __init__(
        self,
        translator: Translator,
        text: Text,
        shares: Sequence[Sequence[str]],
        device: torch.device,
    ):
        """Count the text's tokens.

        Args:
            translator: the model.
            text: that is translated in batches.
            shares: for each sample, the sentences that are translated one at a time.
            device: what the translator computes on.
        """
        self._translator, self._lines, self._device = translator, text.lines, device
        self._shares = iter(shares)
        self._tokens = sum(map(len, translator.encode(text.lines)))
        self._times = 1

    def fill(self, seconds: int) -> None:
        """Choose how often a sample translates the text, so that it takes so long."""
        began = time.perf_counter()
        self._translate()
        self._times = max(1, round(seconds / (time.perf_counter() - began)))

    def take(self) -> Sample:
        """Translate the text, and then the next share of single sentences."""
        forget_peak(self._device)
        began = time.perf_counter()
        tokens = sum(self._translate() for _ in range(self._times))
        seconds = time.perf_counter() - began
        memory = peak_memory(self._device)
        return Sample(
            self._times * len(self._lines) / seconds,
            self._times * self._tokens / seconds,
            tokens / seconds,
            memory,
            [self._milliseconds(line) for line in next(self._shares)],
        )

    def _translate(self) -> int:
        """Translate the text once, by windows; returns its number of target tokens."""
        number = 0
        for start in range(0, len(self._lines), WINDOW):
            translations = self._translator.translate(self._lines[start : start + WINDOW])
            number += sum(len(translation.tokens) for translation in translations)
        return number

    def _milliseconds(self, line: str) -> float:
        began = time.perf_counter()
        self._translator.translate([line])
        return 1000 * (time.perf_counter() - began)


def shares_of(lines: Sequence[str], samples: int) -> list[Sequence[str]]:
    """Deal sentences from the whole of a text out to samples, no more than take a minute or so."""
    chosen = lines[:: -(-len(lines) // _ALONE)]
    return [chosen[number::samples] for number in range(samples)]


_ROWS: dict[str, Row] = {
    "sentences/s": (lambda it: it.sentences, ",.1f"),
    "source tokens/s": (lambda it: it.source_tokens, ",.0f"),
    "target tokens/s": (lambda it: it.target_tokens, ",.0f"),
    "target tokens of a sentence": (lambda it: it.target_tokens / it.sentences, ".2f"),
    "memory, GiB": (lambda it: it.memory / 2**30, ".2f"),
}


def measure_translation(
    models: Mapping[str, tuple[Path, Sequence[str]]],
    text: Text,
    device: torch.device,
    *,
    samples: int,
    seconds: int,
) -> Measured:
    """Translate a text with each model for a while, in turn, and some of it line by line.

    Args:
        models: one or two, by names: the folder, and settings that replace the model's.
        text: what all of them translate.
        device: that computes.
        samples: of each model.
        seconds: that a sample takes, but for single sentences; the text is translated as often.

    Raises:
        UserError: a model or a setting is wrong.
    """
    translators = {
        name: Translator.load(folder, overrides=overrides, device=device)
        for name, (folder, overrides) in models.items()
    }
    shares = shares_of(text.lines, samples)
    candidates = {
        name: Candidate(translator, text, shares, device)
        for name, translator in translators.items()
    }
    for candidate in candidates.values():
        candidate.fill(seconds)
    results = take_in_turn({name: it.take for name, it in candidates.items()}, samples)
    settings = {name: it.settings.model_dump(mode="json") for name, it in translators.items()}
    return Measured(
        title=f"{text.name}, {len(text.lines):,} sentences: median of {samples} samples (range)",
        rows=rows_of(results, _ROWS) + _latencies(results) + _beams(settings),
        rates={name: [it.sentences for it in taken] for name, taken in results.items()},
        unit="sentences/s",
        record={
            "machine": machine(device, "torch", "sentencepiece"),
            "text": text.facts,
            "models": {name: _described(folder) for name, (folder, _) in models.items()},
            "search": settings,
            "results": {name: [it._asdict() for it in taken] for name, taken in results.items()},
        },
    )


def _described(folder: Path) -> dict[str, Any]:
    described = ModelDescription.load(folder)
    network = described.config.model.model_dump(mode="json")
    return {"folder": str(folder), "model": network, "facts": described.facts}


def _latencies(results: Mapping[str, Sequence[Sample]]) -> list[list[str]]:
    """Make a row for each percentile of all single sentences, over all samples."""
    columns = [
        numpy.percentile([each for it in taken for each in it.alone], _PERCENTILES)
        for taken in results.values()
    ]
    return [
        [f"a single sentence, p{percentile}, ms", *(f"{column[row]:.2f}" for column in columns)]
        for row, percentile in enumerate(_PERCENTILES)
    ]


def _beams(settings: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    return [["beam", *(str(values["beam"]) for values in settings.values())]]
