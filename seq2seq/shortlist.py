"""Which target pieces a source piece makes likely, so that not all have to be scored."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from seq2seq.data.plan import by_length
from seq2seq.data.prepared import PreparedData, PreparedSplit, Sentences
from seq2seq.errors import DataError, ModelError
from seq2seq.files import write_whole
from seq2seq.lexicon import ITERATIONS, Column, Integers, learn_lexicon
from seq2seq.model_description import ModelDescription
from seq2seq.terminal import Progress, say, show_table
from seq2seq.vocabulary import NUM_SPECIAL, PAD, Vocabularies

FILE = "shortlist.safetensors"
# What is lost and what is gained with these: docs/performance.md.
LIKELY, ALWAYS = 20, 600
_MOST_PAIRS = 200_000  # as much text as it takes to see 32,000 pieces often enough
_VOCABULARIES = "vocabularies"  # the metadata's key of their digest


class Shortlist:
    """For each source piece its likely target pieces; and those that are always likely."""

    def __init__(self, always: Integers, likely: Integers, *, target_size: int):
        """Say which pieces are listed.

        Args:
            always: target ids, whatever the source; the special ones are among them.
            likely: a row of target ids for each source id, filled up with any of those.
            target_size: number of target pieces.
        """
        self._always, self._likely, self._target_size = always, likely, target_size

    @staticmethod
    def load(folder: Path) -> "Shortlist":
        """Read the shortlist of a model folder.

        Raises:
            ModelError: it has none, it is damaged, or it is another model's.
        """
        path, vocabularies = folder / FILE, Vocabularies.load(folder)
        remedy = f"make it with `seq2seq shortlist {folder}`"
        if not path.exists():
            raise ModelError(f"{folder} has no shortlist ({path.name}): {remedy}")
        try:
            with cast(Any, safe_open(path, framework="numpy")) as file:
                digest = (file.metadata() or {}).get(_VOCABULARIES)
                always, likely = file.get_tensor("always"), file.get_tensor("likely")
        except (OSError, SafetensorError) as error:
            raise ModelError(f"the shortlist {path} can't be read ({error}): {remedy}") from error
        if digest != vocabularies.digest:
            raise ModelError(
                f"the shortlist {path} was made for other vocabularies than the model's: {remedy}"
            )
        target_size = len(vocabularies.target)
        if len(likely) != len(vocabularies.source) or not _are_ids(always, likely, target_size):
            raise ModelError(f"the shortlist {path} is damaged: {remedy}")
        return Shortlist(always, likely, target_size=target_size)

    def save(self, folder: Path, vocabularies: Vocabularies) -> None:
        """Write it into the folder of a model with these vocabularies.

        Raises:
            UserError: it can't be written.
        """
        arrays = {"always": self._always, "likely": self._likely}
        write_whole(folder / FILE, save(arrays, {_VOCABULARIES: vocabularies.digest}))

    def tokens(self, sources: Iterable[Sequence[int] | Integers]) -> list[int]:
        """Say which target pieces are scored for these sentences, in order; special ones first."""
        seen = numpy.zeros(len(self._likely), bool)
        seen[list(chain.from_iterable(sources))] = True
        listed = numpy.zeros(self._target_size, bool)
        listed[self._always] = True
        listed[self._likely[seen]] = True
        return numpy.flatnonzero(listed).tolist()


def _are_ids(always: Integers, likely: Integers, size: int) -> bool:
    return all(
        numpy.issubdtype(ids.dtype, numpy.integer) and ids.min() >= 0 and ids.max() < size
        for ids in (always, likely)
    )


def learn_shortlist(
    pairs: PreparedSplit,
    *,
    source_size: int,
    target_size: int,
    num_special: int = NUM_SPECIAL,
    likely: int = LIKELY,
    always: int = ALWAYS,
) -> Shortlist:
    """Learn a shortlist from pairs of sentences, evenly spread over them where they are many.

    Args:
        pairs: of the training set; there must be one.
        source_size: number of source pieces.
        target_size: number of target pieces.
        num_special: target ids below this are special.
        likely: how many target pieces are listed for each source piece.
        always: how many are listed for all, beside the special ones: the most frequent.
    """
    number = len(pairs.source)
    chosen = numpy.linspace(0, number - 1, min(number, _MOST_PAIRS)).astype(int).tolist()
    source, target = _column(pairs.source, chosen), _column(pairs.target, chosen)
    total = (ITERATIONS + 1) * len(target.ids)
    with Progress("learning the shortlist", total=total, unit="pieces") as progress:
        found = learn_lexicon(source, target, advance=progress.advance).likeliest(likely)
    rows = numpy.full((source_size, likely), PAD, numpy.int32)
    rows[found.source, found.rank] = found.target
    counts = numpy.bincount(target.ids, minlength=target_size)
    counts[:num_special] = counts.max() + 1
    frequent = numpy.argsort(-counts, kind="stable")[: num_special + always]
    return Shortlist(frequent.astype(numpy.int32), rows, target_size=target_size)


def _column(sentences: Sentences, chosen: Sequence[int]) -> Column:
    ids = numpy.concatenate([sentences[number] for number in chosen]).astype(numpy.int64)
    return Column(ids, sentences.lengths[chosen])


def make_shortlist(model: Path, folder: Path | None = None) -> None:
    """Learn a model's shortlist, write it into the model folder, and say what it costs.

    Args:
        model: the model folder.
        folder: of the data it is learnt from; that which the model was trained on if not given.

    Raises:
        ModelError: the model folder can't be used.
        DataError: the data folder can't be used, or belongs to other vocabularies.
    """
    config, vocabularies = ModelDescription.load(model).config, Vocabularies.load(model)
    data = PreparedData.open(folder or config.data.folder)
    if data.vocabularies.digest != vocabularies.digest:
        raise DataError(
            f"the data folder {data.folder} has other vocabularies than the model {model}: a"
            " shortlist is learnt from ids of the model's own; give such a folder with --data"
        )
    train, validation = data.split("train"), data.split("validation")
    for name, pairs in (("training", train), ("validation", validation)):
        if not len(pairs.source):
            raise DataError(f"the {name} set of {data.folder} has no pair to learn from or to try")
    sizes = len(vocabularies.source), len(vocabularies.target)
    shortlist = learn_shortlist(
        train,
        source_size=sizes[0],
        target_size=sizes[1],
        num_special=len(vocabularies.target.control),
    )
    shortlist.save(model, vocabularies)
    _show(shortlist, validation, config.search.tokens_per_batch, sizes[1])
    say(f"the shortlist is in {model / FILE}: translate with search.shortlist=true")


def _show(shortlist: Shortlist, pairs: PreparedSplit, positions: int, target_size: int) -> None:
    """Print how many pieces are scored, and how many of the right ones are among them."""
    numbers = range(len(pairs.source))
    together = {
        "a sentence": [[number] for number in numbers],
        f"a batch of {positions:,} positions": list(by_length(pairs.source.lengths, positions)),
    }
    rows: list[list[str]] = []
    for name, batches in together.items():
        size, covered = _cost(shortlist, pairs, batches, target_size)
        rows.append([name, f"{size:,.0f}", f"{size / target_size:.1%}", f"{covered:.2%}"])
    show_table(
        f"{LIKELY} likely target pieces for each source piece, {ALWAYS} for all",
        ["translated together", "pieces scored", "of the vocabulary", "validation pieces listed"],
        rows,
    )


def _cost(
    shortlist: Shortlist, pairs: PreparedSplit, batches: list[list[int]], target_size: int
) -> tuple[float, float]:
    """Take the mean of the lists' sizes, and the share of all target pieces that are listed."""
    size = covered = 0
    for batch in batches:
        listed = numpy.zeros(target_size, bool)
        listed[shortlist.tokens([pairs.source[number] for number in batch])] = True
        size += int(listed.sum())
        covered += sum(int(listed[pairs.target[number]].sum()) for number in batch)
    return size / len(batches), covered / int(pairs.target.lengths.sum())
