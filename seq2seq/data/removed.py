"""What was left out of the training text: by which rule, how many pairs, and which, for example."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from seq2seq.data.cleaning import RULES, Examples, Pair
from seq2seq.data.prepared import Manifest
from seq2seq.errors import DataError
from seq2seq.terminal import say, show_table

FILE = "removed.jsonl"

_SHOWN = 3  # of each rule, in the table of all
_WIDTH = 40  # characters of a side there


def save_removed(folder: Path, removed: Mapping[str, Examples]) -> None:
    """Write the examples into a data folder."""
    with (folder / FILE).open("w", encoding="utf-8") as file:
        for rule, examples in removed.items():
            for source, target in examples.first:
                row = {"rule": rule, "source": source, "target": target}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def show_removed(folder: Path, manifest: Manifest) -> None:
    """Print a table of the rules that have left pairs out, with some of these."""
    counts = manifest.splits["train"]
    read = counts.pairs + sum(counts.removed.values())
    rows: list[list[str]] = []
    for rule, number in counts.removed.items():
        time = counts.microseconds.get(rule)
        first = [
            rule,
            f"{number:,}",
            f"{100 * number / read:.2f} %",
            "–" if time is None else f"{time:.2f}",
        ]
        for source, target in list(_pairs(folder, rule))[:_SHOWN]:
            rows.append([*first, _short(source), _short(target)])
            first = [""] * len(first)
    if rows:
        columns = ["rule", "pairs", "share", "µs/pair", "source, for example", "target"]
        show_table("left out of training", columns, rows)


def explain(folder: Path, rule: str) -> None:
    """Say what a rule is, and print the pairs it has left out that are kept for this.

    Raises:
        DataError: there is no such rule, or no such data folder.
    """
    if rule not in RULES:
        raise DataError(f"there is no rule '{rule}': choose one of {', '.join(RULES)}")
    counts = Manifest.load(folder).splits["train"]
    number = counts.removed.get(rule, 0)
    say(f"{rule}: {RULES[rule]}; {number:,} pairs of {folder} were left out by it")
    if number:
        pairs = [list(pair) for pair in _pairs(folder, rule)]
        say(f"the first {len(pairs):,} of them:")
        show_table("", ["source", "target"], pairs)


def _pairs(folder: Path, rule: str) -> Iterable[Pair]:
    try:
        with (folder / FILE).open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder / FILE} can't be read: make the folder anew with `seq2seq prepare"
            " --overwrite`"
        ) from error
    return ((row["source"], row["target"]) for row in rows if row["rule"] == rule)


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
