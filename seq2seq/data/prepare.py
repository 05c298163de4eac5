"""Text to data folder: vocabularies, memory-mapped ids, and a manifest that says what was done."""

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow

from seq2seq import __version__
from seq2seq.claims import Claims
from seq2seq.config import Config, SampleCorpus, VocabularyConfig, VocabularyFiles
from seq2seq.data.cleaning import RULES, Cleaner, Examples, Pair, add_times
from seq2seq.data.corpus import SPLITS, CorpusPart, Split, open_corpora
from seq2seq.data.encoding import Encoder, as_ids
from seq2seq.data.given_vocabularies import given_vocabularies
from seq2seq.data.overlap import Found, HeldOut, Overlap
from seq2seq.data.prepared import (
    FORMAT,
    DataFolder,
    Manifest,
    PreparedPart,
    SplitCounts,
    split_path,
)
from seq2seq.data.removed import save_removed
from seq2seq.data.training_set import Block, TrainingSet, chunks, more_characters
from seq2seq.errors import DataError
from seq2seq.files import clear_leftovers, whole_folder, write_whole
from seq2seq.parallel.place import usable_cpus
from seq2seq.terminal import Progress, say
from seq2seq.unknown_characters import Characters, told
from seq2seq.vocabulary import Vocabularies, tagged
from seq2seq.vocabulary_learning import draw, train_vocabularies

_SHOWN = 3  # examples of each rule in the manifest
_DISK_DELAY = 30.0  # seconds until other nodes see a new folder on a shared disk
_GIVEN_VOCABULARY = "vocabulary.digest"  # of a base's, or of files
Numbered = dict[Split, list[tuple[int, Pair]]]  # pairs, each with its part's number
_HOW_IT_IS_READ = {"streaming": True}
_OTHER_SETTINGS: Any = {  # these change nothing in the folder
    "folder": True,
    "corpus": {
        **_HOW_IT_IS_READ,
        "temperature": True,
        "parts": {"__all__": {"weight": True, "corpus": _HOW_IT_IS_READ}},
    },
}


def prepare(config: Config, *, overwrite: bool = False) -> Manifest:
    """Make the data folder of a config, unless it is there already.

    Args:
        config: names the corpus, the vocabularies and the folder.
        overwrite: make it anew where there is a data folder already.

    Raises:
        DataError: the text can't be used, or the folder holds something else.
    """
    folder = config.data.folder
    corpora = open_corpora(config.data, config.seed)
    settings, origin = _settings(config), _origin(corpora)

    if overwrite and folder.exists():
        DataFolder.load(folder)  # refuses to replace what is no data folder

    def found() -> Manifest | None:
        if overwrite or not folder.exists():
            return None
        manifest = _unchanged(folder, settings, origin)
        say(f"{folder} is prepared already: {manifest.summary()}")
        _say_what_is_gone(manifest, origin)
        return manifest

    if there := found():
        return there
    with _alone(folder):
        if there := found():  # by whoever was waited for
            return there
        clear_leftovers(folder.parent, folder.name)
        with _work_folder(folder, settings, origin) as work, whole_folder(folder) as partial:
            manifest = _build(partial, work, config, corpora, settings, origin)
    say(f"{folder} is prepared: {manifest.summary()}")
    return manifest


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Keep the making of a data folder to one process: jobs that share one may start together.

    Raises:
        UserError: nothing can be written there.
    """
    claims, name, told = Claims(folder.parent), f".{folder.name}", False
    while True:
        with claims.take(name) as is_ours:
            if is_ours:
                yield
                return
        if not told:
            say(f"another process is preparing {folder}: waiting for it")
            told = True
        claims.wait([name])  # until its end, or a sign of life


def prepared_before(config: Config) -> Manifest:
    """Find the data folder that is there, as `prepare` would.

    Raises:
        DataError: it is no data folder, or one of other settings or other text.
    """
    origin = _origin(open_corpora(config.data, config.seed))
    return _unchanged(config.data.folder, _settings(config), origin)


def prepared_by_another(config: Config) -> Manifest:
    """Find the data folder that the first process of a run has made, or found.

    Raises:
        DataError: it isn't there, or is one of other settings.
    """
    folder = config.data.folder
    deadline = time.monotonic() + _DISK_DELAY
    while not folder.exists():
        if time.monotonic() > deadline:
            raise DataError(
                f"the data folder {folder} isn't there on {socket.gethostname()}, but the first"
                " process has it: put data.folder on a disk that all nodes share, or copy it to"
                " each"
            )
        time.sleep(1.0)
    return _unchanged(folder, _settings(config), {})


def _unchanged(folder: Path, settings: dict[str, Any], origin: dict[str, str]) -> Manifest:
    """Read the manifest of a folder, which must be of these settings and this text."""
    manifest = Manifest.load(folder)
    if changed := _changes(folder, manifest, settings, origin):
        raise DataError(
            f"the data folder {folder} is of other settings or other text ({'; '.join(changed)}):"
            " choose another data.folder, or run `seq2seq prepare` with --overwrite"
        )
    return manifest


def _origin(corpora: Sequence[CorpusPart]) -> dict[str, str]:
    """Name what the text comes from, with its digests."""
    return dict(chain.from_iterable(part.corpus.origin().items() for part in corpora))


def _settings(config: Config) -> dict[str, Any]:
    """Flatten the settings that decide what the folder holds."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
                visit(f"{prefix}.{key}", item)
        else:
            flat[prefix] = value

    visit("data", config.data.model_dump(mode="json", exclude=_OTHER_SETTINGS))
    # What files hold counts, not where they are.
    is_file = isinstance(config.vocabulary, VocabularyFiles)
    visit(
        "vocabulary",
        config.vocabulary.model_dump(mode="json", include={"kind"} if is_file else None),
    )
    if any(isinstance(part.corpus, SampleCorpus) for part in config.data.parts.values()):
        flat["seed"] = config.seed
    if vocabularies := given_vocabularies(config):
        flat[_GIVEN_VOCABULARY] = _named(vocabularies)
    return flat


def _named(vocabularies: Vocabularies) -> str:
    return f"sha256 {vocabularies.digest[:16]}"


def _changes(
    folder: Path, manifest: Manifest, settings: dict[str, Any], origin: dict[str, str]
) -> list[str]:
    """Say in which settings and files a folder that is there differs from what is wanted.

    A file that is gone is no difference: the folder is used without its text, on another machine.
    """
    old = manifest.settings
    if _GIVEN_VOCABULARY in settings:  # the base's own data folder has learnt this vocabulary
        old = old | {_GIVEN_VOCABULARY: _named(Vocabularies.load(folder))}
    keys = [key for key in {**old, **settings} if old.get(key) != settings.get(key)]
    values = [f"{key} was {old.get(key)}, is {settings.get(key)}" for key in keys]
    for file, digest in origin.items():
        if file not in manifest.origin:
            values.append(f"{file} is new")
        elif manifest.origin[file] != digest:
            values.append(f"{file} has other content")
    return values


def _say_what_is_gone(manifest: Manifest, origin: dict[str, str]) -> None:
    """Name files that the folder's text came from, where only some of them are still there."""
    gone = [file for file in manifest.origin if file not in origin]
    if gone and origin:
        more = f" and {len(gone) - 1:,} more" if len(gone) > 1 else ""
        say(f"it still holds the text of {gone[0]}{more}, no longer there; --overwrite drops it")


def _build(
    folder: Path,
    work: Path,
    config: Config,
    corpora: Sequence[CorpusPart],
    settings: dict[str, Any],
    origin: dict[str, str],
) -> Manifest:
    """Fill a data folder, by way of a work folder that keeps what is finished."""
    say(f"reading the text ({config.data.source} → {', '.join(config.data.targets)})")
    # What is wrong with a test set is found before the long work.
    held_out: Numbered = {split: _read(corpora, split) for split in SPLITS[1:]}
    vocabularies = _vocabularies(work, config, corpora)
    vocabularies.save(folder)
    training_set = _make_training_set(work, config, corpora, vocabularies, held_out)
    overlaps = _refuse_overlap(config, training_set, held_out)
    training_set.save(split_path(folder, "train"))
    removed = _removed(training_set.blocks)
    save_removed(folder, removed)
    counts: dict[Split, SplitCounts] = {"train": _count(training_set.blocks, removed)}
    for split, pairs in held_out.items():
        if pairs:
            counts[split] = _write(folder, split, pairs, vocabularies, _tags(config, vocabularies))
    manifest = Manifest(
        format=FORMAT,
        version=__version__,
        source=config.data.source,
        target=config.data.target,
        settings=settings,
        origin=origin,
        splits=counts,
        parts=tuple(_parts(corpora, training_set.blocks)),
        overlaps=overlaps,
        fingerprint=_fingerprint(folder),
    )
    manifest.save(folder)
    return manifest


def _read(corpora: Sequence[CorpusPart], split: Split) -> list[tuple[int, Pair]]:
    """Read the validation or the test set of each part that has it, with the part's number.

    Raises:
        DataError: the text can't be used, or a part has none.
    """
    texts: list[tuple[int, Pair]] = []
    for number, part in enumerate(corpora):
        if part.corpus.has(split):
            before = len(texts)
            texts += [(number, pair) for pair in part.corpus.pairs(split)]
            if len(texts) == before:
                raise DataError(_without_pairs(part, split))
    return texts


def _training_text(part: CorpusPart) -> Iterator[Pair]:
    """Go through the training text of a part, as far as it is wanted.

    Raises:
        DataError: it can't be read, or there is none.
    """
    pairs = islice(part.corpus.pairs("train"), part.limit)
    first = next(pairs, None)
    if first is None:
        raise DataError(_without_pairs(part, "train"))
    return chain([first], pairs)


def _without_pairs(part: CorpusPart, split: Split) -> str:
    of = f" of data.corpus.parts.{part.name}" if part.name else ""
    return f"the {split} set{of} has no pair: its text is empty"


def _number_of_pairs(corpora: Sequence[CorpusPart]) -> int:
    """Count the training pairs; 0 where that takes too long."""
    total = 0
    for part in corpora:
        if part.corpus.has("train"):
            number = part.corpus.count("train")
            if number is None:
                return 0
            total += number if part.limit is None else min(number, part.limit)
    return total


def _cleaner(config: Config, part: CorpusPart) -> Cleaner:
    return Cleaner(config.data.cleaning, part.source, part.target)


def _tags(config: Config, vocabularies: Vocabularies) -> list[int | None]:
    """List the tag of each part."""
    targets = [part.target for part in config.data.parts.values()]
    return [vocabularies.source.tag(target) if config.data.tags else None for target in targets]


def _vocabularies(work: Path, config: Config, corpora: Sequence[CorpusPart]) -> Vocabularies:
    """Take the vocabularies that there are, or learn them from the training text.

    Raises:
        DataError: the text can't be used, or can't support what is asked for.
    """
    if vocabularies := given_vocabularies(config):
        return vocabularies
    finished = work / "vocabularies"
    if not finished.exists():
        assert isinstance(config.vocabulary, VocabularyConfig)
        pairs = _sample(config, corpora, config.vocabulary.sample)
        say(f"learning the vocabulary from {len(pairs):,} pairs")
        sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
        tags = config.data.targets if config.data.tags else ()
        vocabularies = train_vocabularies(sources, targets, config.vocabulary, tags)
        with whole_folder(finished) as partial:
            vocabularies.save(partial)
    return Vocabularies.load(finished)


def _sample(config: Config, corpora: Sequence[CorpusPart], most: int) -> list[Pair]:
    """Draw pairs from the training text, and take those that are fit.

    Raises:
        DataError: the text can't be used, or there is none.
    """
    parts = [part for part in corpora if part.corpus.has("train")]
    drawn = draw(((part, pair) for part in parts for pair in _training_text(part)), most)
    pairs = list[Pair]()
    for part, some in groupby(drawn, key=itemgetter(0)):
        cleaner = _cleaner(config, part)
        for chunk in chunks(pair for _, pair in some):
            pairs += cleaner.clean(chunk).kept
    if not pairs:
        raise DataError("the train set has no pair that can be used")
    return pairs


def _make_training_set(
    work: Path,
    config: Config,
    corpora: Sequence[CorpusPart],
    vocabularies: Vocabularies,
    held_out: Numbered,
) -> TrainingSet:
    cleaning = config.data.cleaning
    removes = cleaning.overlap == "remove"
    training_set = TrainingSet(work, _without_numbers(held_out), removes_overlap=removes)
    if training_set.blocks:
        say(f"going on after {sum(block.read for block in training_set.blocks):,} pairs")
    tags = _tags(config, vocabularies)
    with Progress("encoding", total=_number_of_pairs(corpora), unit="pairs") as progress:
        for number, part in enumerate(corpora):
            if part.corpus.has("train"):
                encoder = Encoder(
                    _cleaner(config, part),
                    vocabularies,
                    tag=tags[number],
                    max_length=config.data.max_length,
                    duplicates=cleaning.duplicates,
                    looks_for_near=cleaning.overlap != "ignore",
                )
                training_set.add(
                    number,
                    _training_text(part),
                    encoder,
                    workers=len(usable_cpus()),
                    advance=progress.advance,
                )
    if not any(block.pairs for block in training_set.blocks):
        raise DataError("the train set has no pair that can be used")
    for line in told(*_characters(training_set.blocks)):
        say(line)
    return training_set


def _refuse_overlap(
    config: Config, training_set: TrainingSet, held_out: Numbered
) -> tuple[Overlap, ...]:
    """Say which held-out pairs are in the training text, or refuse them."""
    found = reduce(Found.with_more, (block.held_out for block in training_set.blocks), Found())
    every = _without_numbers(held_out).overlaps(found)
    overlaps = tuple(overlap for overlap in every if overlap.number or overlap.source)
    refused = "; ".join(each.told() for each in overlaps if each.number)
    if refused and config.data.cleaning.overlap == "refuse":
        raise DataError(
            f"{refused}: scores on them would be too good. Write data.cleaning.overlap=remove to"
            " train without them, or tell"
        )
    for overlap in overlaps:
        say(overlap.told())
    return overlaps


def _without_numbers(held_out: Numbered) -> HeldOut:
    return HeldOut({split: [pair for _, pair in pairs] for split, pairs in held_out.items()})


def _characters(blocks: Sequence[Block]) -> tuple[Characters, Characters]:
    every = (block.characters for block in blocks)
    return reduce(more_characters, every, (Characters(), Characters()))


def _removed(blocks: Sequence[Block]) -> dict[str, Examples]:
    removed: dict[str, Examples] = {}
    for block in blocks:
        for rule, examples in block.removed.items():
            removed[rule] = removed.get(rule, Examples()).with_more(examples)
    return {rule: removed[rule] for rule in RULES if rule in removed}


def _count(blocks: Sequence[Block], removed: Mapping[str, Examples]) -> SplitCounts:
    seconds: dict[str, float] = {}
    for block in blocks:
        add_times(seconds, block.seconds)
    read = sum(block.read for block in blocks)
    source, target = _characters(blocks)
    return SplitCounts(
        pairs=sum(block.pairs for block in blocks),
        source_pieces=sum(block.pieces[0] for block in blocks),
        target_pieces=sum(block.pieces[1] for block in blocks),
        removed={rule: examples.number for rule, examples in removed.items()},
        examples={rule: examples.first[:_SHOWN] for rule, examples in removed.items()},
        microseconds={rule: round(1e6 * taken / read, 2) for rule, taken in seconds.items()},
        unknown=(source.share, target.share),
    )


def _parts(corpora: Sequence[CorpusPart], blocks: Sequence[Block]) -> Iterator[PreparedPart]:
    for number, part in enumerate(corpora):
        pairs = sum(block.pairs for block in blocks if block.part == number)
        yield PreparedPart(name=part.name, source=part.source, target=part.target, pairs=pairs)


def _write(
    folder: Path,
    split: Split,
    numbered: Sequence[tuple[int, Pair]],
    vocabularies: Vocabularies,
    tags: Sequence[int | None],
) -> SplitCounts:
    """Write the validation or the test set: every pair, with its text and its part's number."""
    numbers, pairs = zip(*numbered, strict=True)
    sources, targets = zip(*pairs, strict=True)
    source = vocabularies.source.encode(sources)
    source = [tagged([ids], tags[number])[0] for ids, number in zip(source, numbers, strict=True)]
    columns = {
        "source": as_ids(vocabularies.source, source),
        "target": as_ids(vocabularies.target, vocabularies.target.encode(targets)),
    }
    batch = pyarrow.RecordBatch.from_pydict(
        {side: ids.as_column() for side, ids in columns.items()}
        | {"source_text": sources, "target_text": targets}
        | {"part": pyarrow.array(numbers, pyarrow.int32())}
    )
    with (
        pyarrow.OSFile(str(split_path(folder, split)), "wb") as file,
        pyarrow.ipc.new_file(file, batch.schema) as writer,
    ):
        writer.write_batch(batch)
    numbers_of_pieces = [len(ids.ids) for ids in columns.values()]
    return SplitCounts(
        pairs=len(pairs), source_pieces=numbers_of_pieces[0], target_pieces=numbers_of_pieces[1]
    )


def _fingerprint(folder: Path) -> str:
    """Digest everything that training reads."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.arrow"), *folder.glob("*.model")]):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def _work_folder(folder: Path, settings: dict[str, Any], origin: dict[str, str]) -> Generator[Path]:
    """Give a folder beside the data folder that outlives an interruption.

    What is in it is of these settings and this text; it is gone once the data folder is there, or
    where the text can't be used.
    """
    work = Path(os.path.realpath(folder))
    work = work.with_name(f".{work.name}.work")
    key = json.dumps([FORMAT, __version__, settings, origin], sort_keys=True, default=str).encode()
    try:
        if not (work / "key.json").exists() or (work / "key.json").read_bytes() != key:
            shutil.rmtree(work, ignore_errors=True)
            write_whole(work / "key.json", key)
        clear_leftovers(work)
        yield work
    except DataError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    except KeyboardInterrupt:
        say(f"what is finished is in {work}: the same command goes on after it")
        raise
    shutil.rmtree(work, ignore_errors=True)
