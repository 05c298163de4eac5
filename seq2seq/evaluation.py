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
from seq2seq.translation import Translation, Translator


class TestSet(NamedTuple):
    """Text to be translated and what it should become."""

    name: str
    source: Sequence[str]
    target: Sequence[str]
    language: str

    def digest(self) -> str:
        """Digest the text of both sides, wherever it came from."""
        return hashlib.sha256("\n".join((*self.source, *self.target)).encode()).hexdigest()


def prepared_test_set(folder: Path, split: Split) -> TestSet:
    """Take the validation or the test set of a data folder.

    Raises:
        DataError: there is no such set.
    """
    data = PreparedData.open(folder)
    return TestSet(f"{split} of {folder}", *data.text(split), data.manifest.target)


def text_test_set(source: Path, reference: Path, language: str) -> TestSet:
    """Take a test set from two text files.

    Raises:
        DataError: they can't be read, or aren't parallel.
    """
    pairs = list(read_parallel(source, reference))
    return TestSet(
        str(source), [left for left, _ in pairs], [right for _, right in pairs], language
    )


def translate_all(
    translator: Translator,
    lines: Sequence[str],
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

    Raises:
        DataError: there is no such data folder.
    """
    data = PreparedData.open(folder)
    train = data.split("train")
    sources = data.vocabularies.source.decode([ids.tolist() for ids in train.source])
    targets = data.vocabularies.target.decode([ids.tolist() for ids in train.target])
    found = lookup_baseline(sources, targets, test.source)
    return score(found, test.target, language=test.language)


def evaluate(
    model: Model,
    test: TestSet,
    settings: SearchConfig,
    group: Group,
    *,
    shortlist: Shortlist | None = None,
) -> Scores:
    """Translate a test set with all processes of a group, and score the translations.

    Raises:
        DataError: the set is empty.
    """
    if not test.source:
        raise DataError(f"{test.name} is empty: there is nothing to score")
    translator = Translator(model.network, model.vocabularies, settings, shortlist=shortlist)
    texts = translate_all(translator, test.source, group, task="translating")
    assert texts is not None
    return score_once(texts, test.target, group, language=test.language)


def score_once(
    hypotheses: Sequence[str], references: Sequence[str], group: Group, *, language: str
) -> Scores:
    """Score translations in the first process of a group, and let all have the scores."""
    is_first = group.place.is_first
    return group.share(score(hypotheses, references, language=language) if is_first else None)


def write_scores(
    path: Path, scores: Scores, model: Model, test: TestSet, settings: SearchConfig
) -> None:
    """Write the scores with what they depend on: search, model, and the test set's digest.

    Raises:
        UserError: the file can't be written.
    """
    report: dict[str, Any] = {
        "version": __version__,
        "test": {"name": test.name, "lines": len(test.source), "sha256": test.digest()},
        "scores": {entry.name: entry._asdict() for entry in scores},
        "search": settings.model_dump(mode="json"),
        "model": model.facts,
    }
    write_whole(path, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())


def show_scores(title: str, systems: dict[str, Scores]) -> None:
    """Print a table of systems with BLEU, chrF, exact matches and the signatures."""
    rows = [[name, *(f"{entry.value:.2f}" for entry in scores)] for name, scores in systems.items()]
    show_table(title, ["system", "BLEU", "chrF2", "exact %"], rows)
    first = next(iter(systems.values()))
    show_table("", ["score", "signature"], [[entry.name, entry.signature] for entry in first])
