"""Text to data folder: vocabularies, memory-mapped ids, and a manifest that says what was done."""

import hashlib
import socket
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow

from seq2seq import __version__
from seq2seq.claims import Claims
from seq2seq.config import Config, SampleCorpus
from seq2seq.data.base_vocabulary import base_vocabularies, say_what_is_unknown
from seq2seq.data.corpus import SPLITS, CorpusPart, Split, open_corpora
from seq2seq.data.prepared import FORMAT, Manifest, PreparedPart, SplitCounts, split_path
from seq2seq.errors import DataError
from seq2seq.files import whole_folder
from seq2seq.terminal import Progress, say
from seq2seq.vocabulary import Vocabularies, blank, tagged, train_vocabularies

_CHUNK = 2000  # pairs encoded and written at a time
_DISK_DELAY = 30.0  # seconds until other nodes see a new folder on a shared disk
_BASE_VOCABULARY = "base.vocabulary"
_HOW_IT_IS_READ = {"streaming": True}
_OTHER_SETTINGS: Any = {  # these change nothing in the folder
    "folder": True,
    "corpus": {
        **_HOW_IT_IS_READ,
        "temperature": True,
        "parts": {"__all__": {"weight": True, "corpus": _HOW_IT_IS_READ}},
    },
}
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
    corpora = open_corpora(config.data, config.seed)
    settings, origin = _settings(config), _origin(corpora)

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
            manifest = _build(partial, config, corpora, settings, origin)
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
    visit("vocabulary", config.vocabulary.model_dump(mode="json"))
    if any(isinstance(part.corpus, SampleCorpus) for part in config.data.parts.values()):
        flat["seed"] = config.seed
    if vocabularies := base_vocabularies(config):
        flat[_BASE_VOCABULARY] = _named(vocabularies)
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
    if _BASE_VOCABULARY in settings:  # the base's own data folder has learnt this vocabulary
        old = old | {_BASE_VOCABULARY: _named(Vocabularies.load(folder))}
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
    config: Config,
    corpora: Sequence[CorpusPart],
    settings: dict[str, Any],
    origin: dict[str, str],
) -> Manifest:
    say(f"reading the text ({config.data.source} → {', '.join(config.data.targets)})")
    # All of it, so that what is wrong with a test set is found before the long work.
    texts: dict[Split, dict[int, list[Pair]]] = {split: _read(corpora, split) for split in SPLITS}
    kept = [
        pair
        for part in texts["train"].values()
        for pair in part
        if not any(blank(side) for side in pair)
    ]
    if not kept:
        raise DataError("the training corpus is empty: no pair has text on both sides")
    vocabularies = _vocabularies(config, kept)
    vocabularies.save(folder)
    counts: dict[Split, SplitCounts] = {}
    parts: list[PreparedPart] = []
    for split, by_part in texts.items():
        if not by_part:
            continue
        limit = config.data.max_length if split == "train" else None
        tags = [
            vocabularies.source.tag(part.target) if config.data.tags else None for part in corpora
        ]
        counts[split], sizes = _write(folder, split, by_part, vocabularies, tags, limit=limit)
        if not counts[split].pairs:
            raise DataError(f"the {split} set has no pair that can be used")
        if split == "train":
            parts = [
                PreparedPart(
                    name=part.name, source=part.source, target=part.target, pairs=sizes[number]
                )
                for number, part in enumerate(corpora)
            ]
    manifest = Manifest(
        format=FORMAT,
        version=__version__,
        source=config.data.source,
        target=config.data.target,
        settings=settings,
        origin=origin,
        splits=counts,
        parts=tuple(parts),
        fingerprint=_fingerprint(folder),
    )
    manifest.save(folder)
    return manifest


def _read(corpora: Sequence[CorpusPart], split: Split) -> dict[int, list[Pair]]:
    """Read a split of each part that has it, by the part's number.

    Raises:
        DataError: the text can't be used, or a part has none.
    """
    texts: dict[int, list[Pair]] = {}
    for number, part in enumerate(corpora):
        if part.corpus.has(split):
            limit = part.limit if split == "train" else None
            texts[number] = list(islice(part.corpus.pairs(split), limit))
            if part.name and not texts[number]:
                raise DataError(f"data.corpus.parts.{part.name} has no pair in its {split} set")
    return texts


def _vocabularies(config: Config, pairs: Sequence[Pair]) -> Vocabularies:
    """Take the vocabularies of the base, or learn them from the training text."""
    source, target = [source for source, _ in pairs], [target for _, target in pairs]
    if vocabularies := base_vocabularies(config):
        say_what_is_unknown(vocabularies, source, target)
        return vocabularies
    say(f"learning the vocabulary from {len(pairs):,} pairs")
    tags = config.data.targets if config.data.tags else ()
    return train_vocabularies(source, target, config.vocabulary, tags)


def _write(
    folder: Path,
    split: Split,
    by_part: dict[int, list[Pair]],
    vocabularies: Vocabularies,
    tags: Sequence[int | None],
    *,
    limit: int | None,
) -> tuple[SplitCounts, Counter[int]]:
    """Encode one split into an Arrow file.

    Training pairs (`limit` given) that are empty on a side or too long are left out and counted.
    The other splits keep every pair, their text and the number of their part: scores are taken on
    that. Gives the numbers of pairs of the parts, too.
    """
    removed: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    columns = [("source", _IDS), ("target", _IDS)]
    if limit is None:
        columns += [("source_text", pyarrow.string()), ("target_text", pyarrow.string())]
        columns += [("part", pyarrow.int32())]
    schema = pyarrow.schema(columns)
    total = sum(map(len, by_part.values()))
    with (
        pyarrow.OSFile(str(split_path(folder, split)), "wb") as file,
        pyarrow.ipc.new_file(file, schema) as writer,
        Progress(f"encoding {split}", total=total, unit="pairs") as progress,
    ):
        for part, chunk in _chunks(by_part):
            rows = _encode(chunk, vocabularies, tags[part])
            if limit is None:
                for row, (source_text, target_text) in zip(rows, chunk, strict=True):
                    row |= {"source_text": source_text, "target_text": target_text, "part": part}
            else:
                rows = [
                    row
                    for row, pair in zip(rows, chunk, strict=True)
                    if not _unfit(row, pair, limit, removed)
                ]
            writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))
            sizes[part] += len(rows)
            for side in ("source", "target"):
                numbers[f"{side}_pieces"] += sum(len(row[side]) for row in rows)
            progress.advance(len(chunk))
    return SplitCounts(pairs=sizes.total(), **numbers, removed=dict(removed)), sizes


def _chunks(by_part: dict[int, list[Pair]]) -> Iterator[tuple[int, list[Pair]]]:
    for part, pairs in by_part.items():
        rest = iter(pairs)
        while chunk := list(islice(rest, _CHUNK)):
            yield part, chunk


def _encode(chunk: list[Pair], vocabularies: Vocabularies, tag: int | None) -> list[dict[str, Any]]:
    source = tagged(vocabularies.source.encode([pair[0] for pair in chunk]), tag)
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
