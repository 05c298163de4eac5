"""`seq2seq benchmark`, on a corpus on which a step takes next to no time."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from seq2seq.config_file import load_config
from seq2seq.data.prepared import PreparedData
from seq2seq.model_folder import Model, new_network, save_model
from tests.integration.conftest import Command, make_config, prepared
from tests.integration.processes import ranks, run_all

QUICK = ("--samples", "2", "--seconds", "0")
PARTS = {"step", "wait", "forward", "backward", "optimizer", "frame"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config as a file, with the data prepared."""
    return prepared(make_config(tmp_path_factory.mktemp("benchmark")))


@pytest.fixture(scope="module")
def model(settings: Path) -> Path:
    """The folder of a model that has learned nothing, beside the data with its test set."""
    config = load_config(settings)
    vocabularies = PreparedData.open(config.data.folder).vocabularies
    folder = settings.with_name("model")
    save_model(folder, Model(new_network(config, vocabularies), vocabularies, config, {"step": 0}))
    return folder


def test_two_configs_are_measured_in_turn_and_nothing_is_left(
    settings: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    before = sorted(settings.parent.rglob("*"))
    output = tmp_path / "measured.json"
    versus = ("--vs", "model.layout=input_feeding", "--vs", "model.decoder_layers=1")
    ended = command(
        "benchmark", "train", settings, *versus, *QUICK, "--output", output, "--target", "0"
    )
    assert ended.status == 0, ended.messages
    assert "CONFIG / --vs: " in ended.output
    for row in (
        "real tokens/s",
        "padded tokens/s",
        "arithmetic, real",
        "memory of a process, GiB",
        "torch 2.",
        "backward, ms",
    ):
        assert row in ended.output
    measured = json.loads(output.read_text())
    layouts = {name: entry["model"]["layout"] for name, entry in measured["configs"].items()}
    assert layouts == {"CONFIG": "gnmt", "--vs": "input_feeding"}
    assert measured["configs"]["--vs"]["model"]["decoder_layers"] == 1
    for taken in measured["results"].values():
        assert len(taken) == 2
        for sample in taken:
            parts = sample["milliseconds"]
            assert parts.keys() == PARTS
            assert sum(parts.values()) == pytest.approx(2 * parts["step"])
            assert 0 < sample["useful"] < sample["computed"]
    assert sorted(settings.parent.rglob("*")) == before, "no run folder, no log"
    assert not list((tmp_path / "own").glob("seq2seq*"))


def test_a_target_that_is_missed_is_a_failure(settings: Path, command: Command) -> None:
    ended = command("benchmark", "train", settings, *QUICK, "--target", "1e12")
    assert ended.status == 1
    assert "is below the target" in ended.messages


def test_what_feeds_training_is_measured(settings: Path, tmp_path: Path, command: Command) -> None:
    output = tmp_path / "measured.json"
    ended = command(
        "benchmark",
        "data",
        settings,
        "--text",
        "3000",
        "--pairs",
        "3000",
        *QUICK,
        "--output",
        output,
    )
    assert ended.status == 0, ended.messages
    for row in (
        "preparation of 3,000 pairs of noisy text: median of 2 (range)",
        "by the plain loop's",
        "identical",
        "plan of 3,000 simulated pairs",
        "first step from its file, ms",
        "padding",
        "OpenNMT-py's rule",
        "meet again in the next epoch",
        "loader / bare collate: ",
    ):
        assert row in ended.output
    measured = json.loads(output.read_text())
    plain, off, on = measured["preparation"].values()
    assert all(taken[0]["pairs"] == 3000 for taken in (plain, off, on))
    assert off[0]["microseconds"].keys() < on[0]["microseconds"].keys()
    assert all(2**20 < taken[0]["memory"] < 2**31 for taken in (plain, off, on))
    assert measured["plan"]["pairs"] == 3000
    assert measured["plan"]["memory"] > 2**20
    assert 0 < measured["batches"]["seq2seq"]["padding"] < 1
    assert [entry["tokens"] > 0 for entry in measured["loader"]["loader"]] == [True, True]


def test_two_processes_measure_together(settings: Path, tmp_path: Path) -> None:
    output = tmp_path / "measured.json"
    words = ("benchmark", "train", settings, *QUICK, "--output", output)
    first, second = run_all(ranks(2), *words)
    assert (first.status, second.status) == (0, 0), (first, second)
    assert "exchange, ms" in first.output
    assert second.output == ""
    (taken,) = json.loads(output.read_text())["results"].values()
    assert all(sample["milliseconds"].keys() == PARTS | {"exchange"} for sample in taken)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--vs", "a.yaml", "--vs", "b.yaml"), "--vs takes one YAML file at most"),
        (("--vs", "missing.yaml"), "missing.yaml"),
        (("--vs", "model.layouts=luong"), "did you mean 'model.layout'"),
        (("--vs", "trainer.threads=2"), "`trainer.threads` must be the same for both"),
        (("trainer.precision=tf32",), "cpu doesn't compute in it"),
        (("--output", "missing/measured.json"), "there is no folder missing"),
        (("--seconds", "nan"), "'--seconds'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    settings: Path, command: Command, words: tuple[str, ...], sentence: str
) -> None:
    ended = command("benchmark", "train", settings, *QUICK, *words)
    assert ended.status == 2
    assert sentence in ended.messages
    assert ended.output == ""


def test_translation_with_two_settings_is_measured_in_turn(
    model: Path, tmp_path: Path, command: Command
) -> None:
    output = tmp_path / "measured.json"
    words = ("search.beam=3", "search.length_penalty=0", "--vs", "search.beam=1", "--target", "0")
    ended = command("benchmark", "translate", model, *words, *QUICK, "--output", output)
    assert ended.status == 0, ended.messages
    assert "test of " in ended.output
    assert "20 sentences: median of 2 samples (range)" in ended.output
    for row in ("target tokens/s", "memory, GiB", "a single sentence, p99, ms", "sentencepiece 0."):
        assert row in ended.output
    assert "MODEL / --vs: " in ended.output
    measured = json.loads(output.read_text())
    assert measured["text"]["lines"] == 20
    search = {name: (it["beam"], it["length_penalty"]) for name, it in measured["search"].items()}
    assert search == {"MODEL": (3, 0), "--vs": (1, 0)}
    for taken in measured["results"].values():
        assert sum(len(sample["alone"]) for sample in taken) == 20


def test_all_translations_can_have_one_length(
    model: Path, tmp_path: Path, command: Command
) -> None:
    text = tmp_path / "text"
    text.write_text("The dog sees the cat.\nA\n" + 3 * "The man likes the tree. " + "\n")
    words = ("search.min_length=20", "search.max_length=20", "--input", text)
    ended = command("benchmark", "translate", model, *words, *QUICK)
    assert ended.status == 0, ended.messages
    (row,) = (line for line in ended.output.splitlines() if "tokens of a sentence" in line)
    assert row.endswith("  20.00 (20.00 to 20.00)")


def test_another_model_and_another_text_are_measured(
    model: Path, tmp_path: Path, command: Command
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    text = tmp_path / "text"
    text.write_text("The dog sees the cat.\n\nThe man likes the tree.\n")
    words = ("--vs", other, "--input", text, "--target", "1e9")
    ended = command("benchmark", "translate", model, *words, *QUICK)
    assert ended.status == 1
    assert "is below the target" in ended.messages
    assert f"{text}, 2 sentences" in ended.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--vs", "one", "--vs", "other"), "--vs takes one model folder at most"),
        (("--vs", "missing"), "missing is no model folder"),
        (("search.beams=2",), "did you mean 'search.beam'"),
        (("--vs", "search.beam=0"), "search.beam"),
        (("--input", "missing.txt"), "missing.txt"),
        (("--output", "missing/measured.json"), "there is no folder missing"),
    ],
)
def test_translation_that_cannot_be_measured_is_refused(
    model: Path, command: Command, words: tuple[str, ...], sentence: str
) -> None:
    ended = command("benchmark", "translate", model, *QUICK, *words)
    assert ended.status == 2
    assert sentence in ended.messages
    assert ended.output == ""


def test_without_a_test_set_a_text_is_asked_for(
    model: Path, tmp_path: Path, command: Command
) -> None:
    config = load_config(model.with_name("config.yaml"), [f"data.folder={tmp_path / 'gone'}"])
    vocabularies = PreparedData.open(model.with_name("data")).vocabularies
    moved = tmp_path / "model"
    save_model(moved, Model(new_network(config, vocabularies), vocabularies, config, {}))
    ended = command("benchmark", "translate", moved, *QUICK)
    assert ended.status == 2
    assert "gone, the data folder of " in ended.messages
    assert "has no test set to translate: give a text with --input" in ended.messages
