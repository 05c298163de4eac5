"""The score of a model on a test set, with all that it takes to understand the number."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seq2seq import __version__
from seq2seq.config import SearchConfig
from seq2seq.data.corpus import Split
from seq2seq.data.prepared import PreparedData
from seq2seq.data.sample_corpus import lookup_baseline
from seq2seq.data.text_files import read_parallel
from seq2seq.errors import DataError
from seq2seq.files import write_whole
from seq2seq.model_folder import Model
from seq2seq.parallel.group import Group
from seq2seq.scoring import Scores, score
from seq2seq.shortlist import Shortlist
from seq2seq.terminal import Progress, show_table
from seq2seq.translation import Request, Translation, Translator
from seq2seq.vocabulary import target_tag


class TestSet(NamedTuple):
    """Text to be translated and what it should become."""

    name: str
    source: Sequence[str]
    target: Sequence[str]
    directions: Sequence[tuple[str, str]]
    """Languages of source and target, for each pair."""

    @property
    def language(self) -> str:
        """The target language, or, where there are several, ISO 639's code for that."""
        languages = {target for _, target in self.directions}
        return languages.pop() if len(languages) == 1 else "mul"

    def requests(self, *, tagged: bool) -> list[Request]:
        """Ask for translations, into each pair's language where the model has tags."""
        pairs = zip(self.source, self.directions, strict=True)
        return [Request(text, to=target if tagged else None) for text, (_, target) in pairs]

    def digest(self) -> str:
        """Digest the text of both sides, wherever it came from."""
        return hashlib.sha256("\n".join((*self.source, *self.target)).encode()).hexdigest()


class Evaluation(NamedTuple):
    """The scores of a model on a test set."""

    whole: Scores
    directions: dict[str, Scores]
    """Those of each direction alone, where there are several."""


def prepared_test_set(folder: Path, split: Split) -> TestSet:
    """Take the validation or the test set of a data folder.

    Raises:
        DataError: there is no such set.
    """
    data = PreparedData.open(folder)
    return TestSet(f"{split} of {folder}", *data.text(split), data.directions(split))


def text_test_set(source: Path, reference: Path, model: Model, to: str | None) -> TestSet:
    """Take a test set from two text files.

    Args:
        source: one file.
        reference: the other file.
        model: that is to translate it.
        to: the target language, as in `Request`.

    Raises:
        DataError: they can't be read, or aren't parallel.
        UserError: the model doesn't know the language.
    """
    data = model.config.data
    target_tag(model.vocabularies.source, to, data.default_target)
    direction = (data.source, to or data.target)
    pairs = list(read_parallel(source, reference))
    sources, targets = [left for left, _ in pairs], [right for _, right in pairs]
    return TestSet(str(source), sources, targets, [direction] * len(pairs))


def translate_all(
    translator: Translator,
    lines: Sequence[str | Request],
    group: Group,
    *,
    task: str,
    stop: Callable[[], bool] = lambda: False,
) -> list[str] | None:
    """Translate lines with all processes of a group, which all get the whole.

    Each process translates whole batches, every `world_size`-th, so that the translations don't
    depend on the number of processes. Nothing is given where `stop` of any of them says so.
    """
    work = translator.work(lines)
    batches = work.batches[group.place.rank :: group.place.world_size]
    found: dict[int, Translation] = {}
    with Progress(task, total=sum(map(len, batches)), unit="sentences") as progress:
        for batch in batches:
            if stop():
                break
            translations = translator.translate_parts([work.parts[number] for number in batch])
            found |= zip(batch, translations, strict=True)
            progress.advance(len(batch))
    everything = group.gather(None if stop() else found)
    if None in everything:
        return None
    merged = {number: translation for some in everything for number, translation in some.items()}
    return [translation.text for translation in work.joined(merged)]


def lookup_scores(folder: Path, test: TestSet) -> Scores:
    """Score the translation of each sentence's nearest training sentence: what copying is worth.

    Of a mix, those count that were translated into the same language.

    Raises:
        DataError: there is no such data folder, or it has no translations into a language.
    """
    data = PreparedData.open(folder)
    train = data.split("train")
    sources = data.vocabularies.source.decode([ids.tolist() for ids in train.source])
    targets = data.vocabularies.target.decode([ids.tolist() for ids in train.target])
    languages = [part.target for part in data.manifest.parts for _ in range(part.pairs)]
    asked = [target for _, target in test.directions]
    found: dict[int, str] = {}
    for language in set(asked):
        known = [number for number, other in enumerate(languages) if other == language]
        if not known:
            raise DataError(f"the data folder {folder} has no translations into '{language}'")
        numbers = [number for number, other in enumerate(asked) if other == language]
        copied = lookup_baseline(
            [sources[number] for number in known],
            [targets[number] for number in known],
            [test.source[number] for number in numbers],
        )
        found |= zip(numbers, copied, strict=True)
    texts = [found[number] for number in range(len(asked))]
    return score(texts, test.target, language=test.language)


def evaluate(
    model: Model,
    test: TestSet,
    settings: SearchConfig,
    group: Group,
    *,
    shortlist: Shortlist | None = None,
) -> Evaluation:
    """Translate a test set with all processes of a group, and score the translations.

    Raises:
        DataError: the set is empty.
    """
    if not test.source:
        raise DataError(f"{test.name} is empty: there is nothing to score")
    to = model.config.data.default_target
    translator = Translator(model.network, model.vocabularies, settings, shortlist=shortlist, to=to)
    requests = test.requests(tagged=to is not None)
    texts = translate_all(translator, requests, group, task="translating")
    assert texts is not None
    return group.share(_scored(texts, test) if group.place.is_first else None)


def _scored(texts: Sequence[str], test: TestSet) -> Evaluation:
    numbers: dict[tuple[str, str], list[int]] = {}
    for number, direction in enumerate(test.directions):
        numbers.setdefault(direction, []).append(number)
    parts = {
        f"{source} → {target}": score(
            [texts[number] for number in chosen],
            [test.target[number] for number in chosen],
            language=target,
        )
        for (source, target), chosen in numbers.items()
        if len(numbers) > 1
    }
    return Evaluation(score(texts, test.target, language=test.language), parts)


def score_once(
    hypotheses: Sequence[str], references: Sequence[str], group: Group, *, language: str
) -> Scores:
    """Score translations in the first process of a group, and let all have the scores."""
    is_first = group.place.is_first
    return group.share(score(hypotheses, references, language=language) if is_first else None)


def write_scores(
    path: Path, found: Evaluation, model: Model, test: TestSet, settings: SearchConfig
) -> None:
    """Write the scores with what they depend on: search, model, and the test set's digest.

    Raises:
        UserError: the file can't be written.
    """
    report: dict[str, Any] = {
        "version": __version__,
        "test": {"name": test.name, "lines": len(test.source), "sha256": test.digest()},
        "scores": _by_name(found.whole),
        "directions": {name: _by_name(scores) for name, scores in found.directions.items()},
        "search": settings.model_dump(mode="json"),
        "model": model.facts,
    }
    write_whole(path, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())


def _by_name(scores: Scores) -> dict[str, Any]:
    return {entry.name: entry._asdict() for entry in scores}


def show_scores(title: str, systems: dict[str, Scores]) -> None:
    """Print a table of systems with BLEU, chrF, exact matches and the signatures."""
    rows = [[name, *(f"{entry.value:.2f}" for entry in scores)] for name, scores in systems.items()]
    show_table(title, ["system", "BLEU", "chrF2", "exact %"], rows)
    entries = [entry for scores in zip(*systems.values(), strict=True) for entry in scores]
    signatures = dict.fromkeys((entry.name, entry.signature) for entry in entries)
    show_table("", ["score", "signature"], [list(row) for row in signatures])
