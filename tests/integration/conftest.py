"""A small corpus and small settings, on which a run takes seconds; commands run in this process."""

import io
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from seq2seq import cli
from seq2seq.config import Config
from seq2seq.config_file import dump_config
from seq2seq.data.prepare import prepare
from tests.integration import processes

NOUNS = {"dog": "Hund", "cat": "Kater", "man": "Mann", "bird": "Vogel", "tree": "Baum"}
VERBS = {"sees": "sieht", "likes": "mag", "finds": "findet"}
COLOURS = {"red": "roten", "green": "grünen", "old": "alten", "small": "kleinen"}


def make_pairs(number: int, seed: int) -> list[tuple[str, str]]:
    """Make sentences like "The dog sees the old tree." with their translations."""
    generator = random.Random(seed)

    def pick(words: dict[str, str]) -> tuple[str, str]:
        return generator.choice(list(words.items()))

    pairs: list[tuple[str, str]] = []
    for _ in range(number):
        subject, verb, thing = pick(NOUNS), pick(VERBS), pick(NOUNS)
        colours = [pick(COLOURS) for _ in range(generator.randint(0, 2))]
        source = [colour for colour, _ in colours] + [thing[0]]
        target = [colour for _, colour in colours] + [thing[1]]
        pairs.append(
            (
                f"The {subject[0]} {verb[0]} the {' '.join(source)}.",
                f"Der {subject[1]} {verb[1]} den {' '.join(target)}.",
            )
        )
    return pairs


def write_corpus(folder: Path, train: int) -> dict[str, object]:
    """Write a corpus as text files; returns the settings that name them."""
    corpus: dict[str, object] = {"kind": "text"}
    for seed, (split, number) in enumerate({"train": train, "validation": 12, "test": 20}.items()):
        pairs = make_pairs(number, seed)
        files: list[str] = []
        for side, language in enumerate(("en", "de")):
            path = folder / f"{split}.{language}"
            path.write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
            files.append(str(path))
        corpus[split] = files
    return corpus


def make_config(folder: Path, *, pairs: int = 120, **sections: dict[str, object]) -> Config:
    """Make the settings of a tiny run in a folder; sections are merged over the defaults."""
    settings: dict[str, dict[str, object]] = {
        "data": {
            "folder": folder / "data",
            "corpus": write_corpus(folder, pairs),
            "cleaning": {"overlap": "ignore", "duplicates": "keep"},  # there are few sentences
        },
        "vocabulary": {"size": 48},
        "model": {
            "embedding_size": 8,
            "encoder_size": 8,
            "decoder_size": 8,
            "dropout": {"embeddings": 0.1, "layers": 0.1, "output": 0.1, "words": 0.1},
        },
        "training": {
            "folder": folder / "run",
            "steps": 14,
            "tokens_per_step": 512,
            "tokens_per_device": 600,
            "checkpoint": {"every": 3},
            "log_every": 1,
        },
        "validation": {"every": 4, "samples": 1, "search": {"beam": 1}},
        "search": {"beam": 2},
        "monitoring": {"loggers": [], "attention": 0},  # they take longer than so small a run
        "trainer": {"accelerator": "cpu", "threads": 1},
    }
    for name, section in sections.items():
        settings[name] = settings.get(name, {}) | section
    return Config.model_validate(settings)


def prepared(config: Config) -> Path:
    """Prepare a run's data, and write its settings to a file beside it."""
    prepare(config)
    path = config.data.folder.with_name("config.yaml")
    path.write_text(dump_config(config), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def no_process_outlives_its_test() -> Iterator[None]:
    yield
    for process in processes.started:
        process.kill()
    processes.started.clear()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The settings of a tiny run."""
    return make_config(tmp_path)


@pytest.fixture
def config_file(tmp_path: Path, config: Config) -> Path:
    """The same as a file."""
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    return path


class Ended(NamedTuple):
    status: int
    output: str
    messages: str


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process."""

    def run(*words: object, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "argv", ["seq2seq", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run
