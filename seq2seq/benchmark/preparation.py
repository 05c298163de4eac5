"""The preparation of text, with a stopwatch: beside a plain loop, and what each rule takes.

Nothing here imports torch: the processes that are measured are those of `seq2seq prepare`.
"""

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece

from seq2seq.config import CleaningConfig, Config
from seq2seq.data.cleaning import Pair
from seq2seq.data.prepare import prepare
from seq2seq.terminal import speak_as

OFF = CleaningConfig(
    characters=10**9,
    repair=False,
    ratio=None,
    identical=None,
    broken=False,
    markup=False,
    duplicates="keep",
    overlap="ignore",
)
_LOOKS = 0.1  # seconds between two looks at the memory


class Preparation(NamedTuple):
    """What preparing some text has taken."""

    pairs: int
    seconds: float
    memory: int
    """Most bytes of all processes together, those that they share counted once (PSS)."""
    microseconds: dict[str, float]
    """Of each rule, for a pair."""

    @property
    def rate(self) -> float:
        """Pairs a second."""
        return self.pairs / self.seconds


class NoisyText:
    """Text of any size made of some pairs, with what corpora from the web have; in files."""

    def __init__(
        self, folder: Path, pairs: Sequence[Pair], held_out: Sequence[Pair], number: int
    ) -> None:
        """Write `number` pairs into a folder, which holds the vocabularies already.

        No pair comes again, for a word on each side gets a number; of a hundred, five are unfit and
        one is to be repaired; one of a thousand is far too long.
        """
        self._folder, self._number = folder, number
        draws = random.Random(1)
        self._write("train", (_with_noise(draws.choice(pairs), draws) for _ in range(number)))
        self._write("validation", held_out)

    def _write(self, name: str, pairs: Any) -> None:
        with (
            (self._folder / f"{name}.source").open("w", encoding="utf-8") as sources,
            (self._folder / f"{name}.target").open("w", encoding="utf-8") as targets,
        ):
            for source, target in pairs:
                sources.write(f"{source}\n")
                targets.write(f"{target}\n")

    def prepare(self, cleaning: CleaningConfig) -> Preparation:
        """Prepare it in a process of its own."""
        with _new_process() as process:
            return process.submit(_prepare, self._folder, cleaning, self._number).result()

    def loop(self) -> Preparation:
        """Encode it line by line, and do nothing else, in a process of its own."""
        with _new_process() as process:
            return process.submit(_loop, self._folder, self._number).result()


def _with_noise(pair: Pair, draws: random.Random) -> Pair:
    source, target = (_numbered(text.split() or ["–"], draws) for text in pair)
    match draws.randrange(100):
        case 0:
            return source, ""
        case 1:
            return source, source
        case 2:
            return 8 * source, target
        case 3:
            return source, f"{target} <b>"
        case 4:
            return source, f"{target}\ufffd"
        case 5:
            return f"{source}\x07", target
        case _ if draws.randrange(1000) == 0:
            return 200 * f"{source} ", 200 * f"{target} "
        case _:
            return source, target


def _numbered(words: list[str], draws: random.Random) -> str:
    words[draws.randrange(len(words))] += str(draws.randrange(10**6))
    return " ".join(words)


@contextmanager
def _new_process() -> Generator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        yield process


def _prepare(folder: Path, cleaning: CleaningConfig, number: int) -> Preparation:
    speak_as("preparation")  # say nothing but complaints
    files = {
        split: [str(folder / f"{split}.{side}") for side in ("source", "target")]
        for split in ("train", "validation")
    }
    models = sorted(folder.glob("*.model"))  # the joint one, or the source's and the target's
    config = Config.model_validate(
        {
            "data": {
                "folder": folder / "data",
                "corpus": {"kind": "text", **files},
                "cleaning": cleaning.model_dump(),
            },
            "vocabulary": {"kind": "file"}
            | dict(zip(("source", "target"), map(str, models), strict=False)),
            "model": {"tied": "none"},
        }
    )
    with _watched_memory() as most:
        began = time.perf_counter()
        manifest = prepare(config, overwrite=True)
        seconds = time.perf_counter() - began
    return Preparation(number, seconds, most[0], manifest.splits["train"].microseconds)


def _loop(folder: Path, number: int) -> Preparation:
    models = [str(path) for path in sorted(folder.glob("*.model"))]
    processors: list[Any] = [
        sentencepiece.SentencePieceProcessor(model_file=name) for name in (models[0], models[-1])
    ]
    source, target = processors
    with (
        (folder / "train.source").open(encoding="utf-8") as sources,
        (folder / "train.target").open(encoding="utf-8") as targets,
        _watched_memory() as most,
    ):
        began = time.perf_counter()
        for one, other in zip(sources, targets, strict=True):
            source.encode(one.rstrip("\n"))
            target.encode(other.rstrip("\n"))
        seconds = time.perf_counter() - began
    return Preparation(number, seconds, most[0], {})


@contextmanager
def _watched_memory() -> Generator[list[int]]:
    """Look at the memory of this process and of its workers; give the most there was."""
    most, is_over = [_memory()], threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOKS):
            most[0] = max(most[0], _memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        is_over.set()
        watcher.join()


def _memory() -> int:
    """Add up what the system says of each process, in bytes."""
    total = 0
    for number in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
        try:
            text = Path(f"/proc/{number}/smaps_rollup").read_text()
        except OSError:  # it has ended
            continue
        total += 1024 * int(text.partition("\nPss:")[2].split()[0])
    return total
