"""A small corpus in files, and pairs of ids as training reads them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import pyarrow
import pytest

from seq2seq.config import Config
from seq2seq.data.prepared import PreparedSplit, Sentences

Pairs = list[tuple[str, str]]


@pytest.fixture
def pairs() -> Pairs:
    things = [
        ("the cat", "die Katze"),
        ("a dog", "ein Hund"),
        ("my house", "mein Häuschen"),
        ("the kettle", "der Kessel"),
    ]
    verbs = [
        ("sleeps.", "schläft."),
        ("is here!", "ist da!"),
        ("waits outside", "wartet draußen"),
    ]
    return [
        (f"{number}: {source} {verb}", f"{number}: {target} {german}")
        for number in range(3)
        for source, target in things
        for verb, german in verbs
    ]


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


@pytest.fixture
def make_config(tmp_path: Path, pairs: Pairs) -> Callable[..., Config]:
    """Write the files of a corpus, and describe them; the data folder is `tmp_path / "data"`."""

    def make(
        train: Pairs = pairs,
        *,
        validation: Pairs = pairs[:5],
        test: Pairs | None = None,
        size: int = 50,
        max_length: int = 60,
        joint: bool = True,
    ) -> Config:
        splits = {"train": train, "validation": validation, "test": test}
        files = {
            split: [
                write_lines(tmp_path / f"{split}.en", [source for source, _ in content]),
                write_lines(tmp_path / f"{split}.de", [target for _, target in content]),
            ]
            for split, content in splits.items()
            if content is not None
        }
        return Config.model_validate(
            {
                "data": {
                    "folder": tmp_path / "data",
                    "corpus": {"kind": "text", **files},
                    "max_length": max_length,
                    "cleaning": {"overlap": "ignore", "duplicates": "keep"},
                },
                "vocabulary": {"size": size, "joint": joint},
                "model": {"tied": "none"},
            }
        )

    return make


@pytest.fixture(scope="session")
def make_split() -> Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], PreparedSplit]:
    """Turn lists of ids into what a data folder gives."""

    def sentences(ids: Sequence[Sequence[int]]) -> Sentences:
        arrays = [numpy.array(sentence, dtype=numpy.uint32) for sentence in ids]
        return Sentences(pyarrow.chunked_array([arrays], pyarrow.list_(pyarrow.uint32())))

    def make(source: Sequence[Sequence[int]], target: Sequence[Sequence[int]]) -> PreparedSplit:
        return PreparedSplit(sentences(source), sentences(target))

    return make
