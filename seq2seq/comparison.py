"""Scores of several models side by side, best first, with the settings in which they differ."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from seq2seq.config_file import by_key
from seq2seq.config_mistakes import flow
from seq2seq.errors import DataError, ModelError
from seq2seq.model_description import ModelDescription
from seq2seq.terminal import show_table

_COLUMNS = {"BLEU": "BLEU", "chrF2": "chrF2", "exact": "exact %"}
_SEED = "seed"


class Entry(NamedTuple):
    """What a score file says."""

    path: Path
    test_set: str
    """Its digest."""
    scores: dict[str, float]
    signatures: dict[str, str]
    settings: dict[str, Any] | None
    """The model's, with the search that the score was made with; none where it isn't there."""


def read_entry(path: Path) -> Entry:
    """Read a score file, and the config of the model that it lies beside.

    Raises:
        DataError: it is missing, or no score file.
    """
    try:
        report = json.loads(path.read_bytes())
        scores = {name: report["scores"][name] for name in _COLUMNS}
        return Entry(
            path,
            str(report["test"]["sha256"]),
            {name: float(score["value"]) for name, score in scores.items()},
            {name: str(score["signature"]) for name, score in scores.items()},
            _settings(path.parent, dict(report["search"])),
        )
    except IsADirectoryError as error:
        raise DataError(
            f"{path} is a folder: name the score file in it, as in runs/NAME/model/score.json"
        ) from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} is no score file as `seq2seq evaluate` writes it, such as MODEL/score.json"
        ) from error


def _settings(folder: Path, search: dict[str, Any]) -> dict[str, Any] | None:
    try:
        config = ModelDescription.load(folder).config.model_dump(mode="json")
    except ModelError:
        return None
    settings = by_key(config | {"search": search})
    return {key: value for key, value in settings.items() if not key.endswith(".folder")}


def check_comparable(entries: Sequence[Entry]) -> None:
    """Refuse scores that mean different things.

    Raises:
        DataError: they are of other test sets, or were computed in another way.
    """
    first = entries[0]
    for entry in entries[1:]:
        if entry.test_set != first.test_set:
            raise DataError(
                f"{first.path} and {entry.path} are scores on different test sets: compare scores"
                " on the same text"
            )
        for name, signature in entry.signatures.items():
            if signature != first.signatures[name]:
                raise DataError(
                    f"{first.path} and {entry.path} were scored differently ({name}:"
                    f" {first.signatures[name]} and {signature}): evaluate one of them again"
                )


def differing_settings(entries: Iterable[Entry]) -> list[str]:
    """Give the keys of the settings in which the models differ, in the config's order."""
    known = [entry.settings for entry in entries if entry.settings is not None]
    keys = {key: None for settings in known for key in settings}
    return [key for key in keys if any(s.get(key) != known[0].get(key) for s in known)]


def names(paths: Sequence[Path]) -> list[str]:
    """Name score files shortly: without `model/score.json`, and what all begin with."""
    parts = [p.parts[:-2] if p.parts[-2:] == ("model", "score.json") else p.parts for p in paths]
    parts = [part or (".",) for part in parts]
    shortest = min(map(len, parts))
    shared = 0
    while shared < shortest - 1 and len({part[shared] for part in parts}) == 1:
        shared += 1
    return [str(Path(*part[shared:])) for part in parts]


def show_comparison(entries: Sequence[Entry]) -> None:
    """Print the scores, best first, what they mean, and what runs with other seeds give together.

    Raises:
        DataError: the scores can't be compared.
    """
    check_comparable(entries)
    keys = differing_settings(entries)
    named = zip(names([entry.path for entry in entries]), entries, strict=True)
    rows = [
        [name, *(f"{entry.scores[column]:.2f}" for column in _COLUMNS), _written(entry, keys)]
        for name, entry in sorted(named, key=lambda item: -item[1].scores["BLEU"])
    ]
    show_table("", ["scores", *_COLUMNS.values(), "settings"], rows)
    if keys == [_SEED] and all(entry.settings for entry in entries):
        spread = [_spread([entry.scores[name] for entry in entries]) for name in _COLUMNS]
        show_table("", [f"{len(entries)} seeds", *_COLUMNS.values()], [["mean ± sd", *spread]])
    show_table("", ["score", "signature"], [list(s) for s in entries[0].signatures.items()])


def _written(entry: Entry, keys: Iterable[str]) -> str:
    settings = entry.settings or {}
    return " ".join(f"{key}={flow(settings[key])}" for key in keys if key in settings)


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}"
