"""Preparing data that is interrupted at any moment, by any number of processes."""

import json
import random
import shutil
import time
from pathlib import Path

import pytest

from seq2seq.data.prepare import prepare
from seq2seq.data.prepared import Manifest
from tests.builders import LINES
from tests.integration.conftest import Command
from tests.integration.processes import Process

LONG = pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(3600)])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 60,000 pairs, some of which are to be left out: two blocks."""
    folder = tmp_path_factory.mktemp("corpus")
    generator, words = random.Random(1), " ".join(LINES).split()
    with (folder / "a.en").open("w") as source, (folder / "a.de").open("w") as target:
        for number in range(60_000):
            text = " ".join(generator.choices(words, k=generator.randint(1, 8)))
            print(number if number % 50 else "", text, file=source)
            print(text.upper() if number % 70 else "", file=target)
    for side in ("en", "de"):
        (folder / f"val.{side}").write_text("not there\n")
    return folder


def settings(corpus: Path, folder: Path) -> list[str]:
    return [
        f"data.folder={folder}",
        "data.corpus.kind=text",
        f"data.corpus.train=[{corpus}/a.en, {corpus}/a.de]",
        f"data.corpus.validation=[{corpus}/val.en, {corpus}/val.de]",
        "vocabulary.size=64",
        "vocabulary.sample=5000",
    ]


@pytest.fixture(scope="module")
def config(corpus: Path) -> Path:
    path = corpus / "config.yaml"
    path.write_text("seed: 1\n")
    return path


@pytest.fixture(scope="module")
def expected(corpus: Path, config: Path) -> Manifest:
    """Prepare the corpus without an interruption."""
    folder = corpus / "whole"
    end = Process("prepare", config, *settings(corpus, folder)).finish(300.0)
    assert end.status == 0, end
    return Manifest.load(folder)


def same(manifest: Manifest) -> dict[str, object]:
    """What doesn't depend on the folder or on the time that was taken."""
    counts = {name: it.model_dump(exclude={"microseconds"}) for name, it in manifest.splits.items()}
    return {"fingerprint": manifest.fingerprint, "counts": counts, "parts": manifest.parts}


@pytest.mark.parametrize("kills", [3, LONG])
def test_kills_change_nothing(
    corpus: Path, config: Path, expected: Manifest, tmp_path: Path, kills: int
) -> None:
    folder, generator = tmp_path / "data", random.Random(kills)
    command = ("prepare", config, *settings(corpus, folder))
    for _ in range(kills):
        process = Process(*command)
        time.sleep(generator.uniform(0.5, 6.0))
        process.kill()
        process.finish()
        if folder.exists():  # it was done before: once more from the beginning
            assert same(Manifest.load(folder)) == same(expected)
            shutil.rmtree(folder)
    end = Process(*command).finish(300.0)
    assert end.status == 0, end
    assert same(Manifest.load(folder)) == same(expected)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_is_finished_is_used_again(
    corpus: Path, config: Path, expected: Manifest, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    process = Process("prepare", config, *settings(corpus, folder))
    deadline = time.monotonic() + 120
    while not (tmp_path / ".data.work" / "000000.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.finish()
    assert not folder.exists()
    end = Process("prepare", config, *settings(corpus, folder)).finish(300.0)
    assert "going on after 50,000 pairs" in end.messages
    assert "learning the vocabulary" not in end.messages
    assert same(Manifest.load(folder)) == same(expected)


def test_other_settings_begin_anew(
    corpus: Path, config: Path, tmp_path: Path, command: Command
) -> None:
    work = tmp_path / ".data.work"
    work.mkdir()
    (work / "key.json").write_text(json.dumps(["of something else"]))
    (work / "000000.json").write_text("{}")
    (tmp_path / "text").write_text(
        "".join(f"{number} {line}\n" for number, line in enumerate(LINES))
    )
    words = settings(corpus, tmp_path / "data")
    words[2] = f"data.corpus.train=[{tmp_path}/text, {tmp_path}/text]"
    words[4] = "vocabulary.size=32"
    assert command("prepare", config, *words, "data.cleaning.identical=null").status == 0
    assert not work.exists()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_processes_changes_nothing(
    corpus: Path,
    config: Path,
    expected: Manifest,
    tmp_path: Path,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from seq2seq.config_file import load_config

    monkeypatch.setattr("seq2seq.data.prepare.usable_cpus", lambda: range(workers))
    found = prepare(load_config(config, settings(corpus, tmp_path / "data")))
    assert same(found) == same(expected)


def test_pairs_of_the_test_set_are_refused_or_left_out(tmp_path: Path, command: Command) -> None:
    def write(name: str, lines: list[str]) -> None:
        for side, change in (("en", str), ("de", str.upper)):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{change(x)}\n" for x in lines))

    lines = [f"{number} {line}" for number, line in enumerate(LINES * 4)]
    write("train", [*lines, lines[0], "so it is.", lines[1] + "!"])
    write("val", ["quite another one", "So it is"])
    config = tmp_path / "config.yaml"
    config.write_text("vocabulary: {size: 40}\n")
    words = settings(tmp_path, tmp_path / "data")
    words[2] = f"data.corpus.train=[{tmp_path}/train.en, {tmp_path}/train.de]"

    ended = command("prepare", config, *words)
    assert ended.status == 2
    assert (
        "1 of 2 validation pairs are in the training text (0 as they are, 1 but" in ended.messages
    )
    assert not [*tmp_path.glob("*data*")]

    ended = command("prepare", config, *words, "data.cleaning.overlap=remove")
    assert ended.status == 0
    assert Manifest.load(tmp_path / "data").splits["train"].removed == {
        "duplicates": 1,
        "overlap": 1,
    }
    assert "duplicates" in ended.output
    assert "left out of training: 1 overlap, 1 duplicates" in ended.messages
    shown = command("prepare", config, *words, "--explain", "overlap")
    assert (shown.status, shown.output.split()[-2:]) == (0, ["IT", "IS."])

    both = command("prepare", config, *words, "--explain", "overlap", "--overwrite")
    assert (both.status, "--overwrite has no effect" in both.messages) == (2, True)

    near = ("data.cleaning.overlap=tell", "data.cleaning.duplicates=near", "--overwrite")
    assert command("prepare", config, *words, *near).status == 0
    assert Manifest.load(tmp_path / "data").splits["train"].removed == {"duplicates": 2}
