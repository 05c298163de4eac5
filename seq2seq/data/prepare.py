"""Text to data folder: vocabularies, memory-mapped ids, and a manifest that says what was done."""

import hashlib
import socket
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow

from seq2seq import __version__
from seq2seq.claims import Claims
from seq2seq.config import Config, SampleCorpus, VocabularyConfig, VocabularyFiles
from seq2seq.data.corpus import SPLITS, Corpus, Split, open_corpus
from seq2seq.data.given_vocabularies import given_vocabularies
from seq2seq.data.prepared import FORMAT, Manifest, SplitCounts, split_path
from seq2seq.errors import DataError
from seq2seq.files import whole_folder
from seq2seq.terminal import Progress, say
from seq2seq.unknown_characters import say_what_is_unknown
from seq2seq.vocabulary import Vocabularies, blank
from seq2seq.vocabulary_learning import train_vocabularies

_CHUNK = 2000  # pairs encoded and written at a time
_DISK_DELAY = 30.0  # seconds until other nodes see a new folder on a shared disk
_GIVEN_VOCABULARY = "vocabulary.digest"  # of a base's, or of files
_IDS = pyarrow.list_(pyarrow.uint32())

Pair = tuple[str, str]


def prepare(config: Config, *, overwrite: bool = False) -> Manifest:
    """Make the data folder of a config, unless it is there already.

    Args:
        config: names the corpus, the vocabularies and the folder.
        overwrite: make it anew where there is a data folder already.

    Raises:
        DataError: the text can't be used, or the folder holds something else.
    """
    folder = config.data.folder
    corpus = open_corpus(config.data, config.seed)
    settings, origin = _settings(config), corpus.origin()

    if overwrite and folder.exists():
        Manifest.load(folder, any_format=True)  # refuses to replace what is no data folder

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
        with whole_folder(folder) as partial:
            manifest = _build(partial, config, corpus, settings, origin)
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
    origin = open_corpus(config.data, config.seed).origin()
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


def _settings(config: Config) -> dict[str, Any]:
    """Flatten the settings that decide what the folder holds."""
    flat: dict[str, Any] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
                visit(f"{prefix}.{key}", item)
        else:
            flat[prefix] = value

    visit("data", config.data.model_dump(mode="json", exclude={"folder"}))
    # What files hold counts, not where they are.
    is_file = isinstance(config.vocabulary, VocabularyFiles)
    visit(
        "vocabulary",
        config.vocabulary.model_dump(mode="json", include={"kind"} if is_file else None),
    )
    if isinstance(config.data.corpus, SampleCorpus):
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
    folder: Path, config: Config, corpus: Corpus, settings: dict[str, Any], origin: dict[str, str]
) -> Manifest:
    say(f"reading the text ({config.data.source} → {config.data.target})")
    # All of it, so that what is wrong with a test set is found before the long work.
    texts: dict[Split, list[Pair]] = {
        split: list(corpus.pairs(split)) for split in SPLITS if corpus.has(split)
    }
    kept = [pair for pair in texts["train"] if not any(blank(side) for side in pair)]
    if not kept:
        raise DataError("the training corpus is empty: no pair has text on both sides")
    vocabularies = _vocabularies(config, kept)
    vocabularies.save(folder)
    counts: dict[Split, SplitCounts] = {}
    for split, pairs in texts.items():
        limit = config.data.max_length if split == "train" else None
        counts[split] = _write(folder, split, pairs, vocabularies, limit=limit)
        if not counts[split].pairs:
            raise DataError(f"the {split} set has no pair that can be used")
    manifest = Manifest(
        format=FORMAT,
        version=__version__,
        source=config.data.source,
        target=config.data.target,
        settings=settings,
        origin=origin,
        splits=counts,
        fingerprint=_fingerprint(folder),
    )
    manifest.save(folder)
    return manifest


def _vocabularies(config: Config, pairs: Sequence[Pair]) -> Vocabularies:
    """Take the vocabularies that there are, or learn them from the training text."""
    source, target = [source for source, _ in pairs], [target for _, target in pairs]
    if vocabularies := given_vocabularies(config):
        say_what_is_unknown(vocabularies, source, target)
        return vocabularies
    assert isinstance(config.vocabulary, VocabularyConfig)
    say(f"learning the vocabulary from {min(len(pairs), config.vocabulary.sample):,} pairs")
    return train_vocabularies(source, target, config.vocabulary)


def _write(
    folder: Path,
    split: Split,
    pairs: Sequence[Pair],
    vocabularies: Vocabularies,
    *,
    limit: int | None,
) -> SplitCounts:
    """Encode one split into an Arrow file.

    Training pairs (`limit` given) that are empty on a side or too long are left out and counted.
    The other splits keep every pair, and their text: scores are taken on that.
    """
    removed: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    columns = [("source", _IDS), ("target", _IDS)]
    if limit is None:
        columns += [("source_text", pyarrow.string()), ("target_text", pyarrow.string())]
    schema = pyarrow.schema(columns)
    with (
        pyarrow.OSFile(str(split_path(folder, split)), "wb") as file,
        pyarrow.ipc.new_file(file, schema) as writer,
        Progress(f"encoding {split}", total=len(pairs), unit="pairs") as progress,
    ):
        for chunk in _chunks(pairs):
            rows = _encode(chunk, vocabularies)
            if limit is None:
                for row, (source_text, target_text) in zip(rows, chunk, strict=True):
                    row |= {"source_text": source_text, "target_text": target_text}
            else:
                rows = [
                    row
                    for row, pair in zip(rows, chunk, strict=True)
                    if not _unfit(row, pair, limit, removed)
                ]
            writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))
            numbers["pairs"] += len(rows)
            for side in ("source", "target"):
                numbers[f"{side}_pieces"] += sum(len(row[side]) for row in rows)
            progress.advance(len(chunk))
    return SplitCounts(**numbers, removed=dict(removed))


def _chunks(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    rest = iter(pairs)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def _encode(chunk: list[Pair], vocabularies: Vocabularies) -> list[dict[str, Any]]:
    source = vocabularies.source.encode([pair[0] for pair in chunk])
    target = vocabularies.target.encode([pair[1] for pair in chunk])
    return [{"source": left, "target": right} for left, right in zip(source, target, strict=True)]


def _unfit(row: dict[str, Any], pair: Pair, limit: int, removed: Counter[str]) -> bool:
    lengths = (len(row["source"]), len(row["target"]))
    if min(lengths) == 0 or any(blank(side) for side in pair):
        removed["empty"] += 1
    elif max(lengths) > limit:
        removed["too_long"] += 1
    else:
        return False
    return True


def _fingerprint(folder: Path) -> str:
    """Digest everything that training reads."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
