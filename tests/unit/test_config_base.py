"""A config with a base: what it takes over from the base's, and what it may not change."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seq2seq.config import (
    BaseConfig,
    Config,
    DropoutConfig,
    ModelConfig,
    VocabularyConfig,
    VocabularyFiles,
)
from seq2seq.config_file import dump_config
from seq2seq.model_description import ModelDescription
from tests.unit.test_config_file import mistakes, read

BASE = Config(
    model=ModelConfig(
        embedding_size=24, encoder_layers=2, tied="all", dropout=DropoutConfig(words=0.3)
    ),
    vocabulary=VocabularyConfig(size=160, algorithm="bpe"),
)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder's description, under a path without anything odd in it."""
    monkeypatch.chdir(tmp_path)
    folder = Path("run/model")
    folder.mkdir(parents=True)
    ModelDescription(BASE, {"step": 7}).save(folder)
    return folder


@pytest.mark.parametrize("vocabulary", ["base", "own"])
def test_the_base_gives_the_defaults_of_its_network_and_vocabulary(
    base: Path, vocabulary: str
) -> None:
    config = read(f"base: {{model: {base}, vocabulary: {vocabulary}}}\nseed: 5")
    assert config == Config.model_validate(
        {
            "seed": 5,
            "base": {"model": base, "vocabulary": vocabulary},
            "model": BASE.model,
            "vocabulary": BASE.vocabulary,
        }
    )


def test_what_is_given_as_the_base_has_it_is_no_mistake(base: Path) -> None:
    text = "vocabulary: {size: 1.6e2, joint: yes}\nmodel: {embedding_size: 024}"
    assert read(text, f"base.model={base}") == read("{}", f"base.model={base}")


def test_dropout_is_free_and_what_is_not_given_of_it_is_the_bases(base: Path) -> None:
    config = read("model: {dropout: {layers: 0.5}}", f"base.model={base}")
    assert config.model.dropout == DropoutConfig(layers=0.5, words=0.3)


def test_an_own_vocabulary_is_free(base: Path) -> None:
    config = read("vocabulary: {size: 90}", f"base.model={base}", "base.vocabulary=own")
    assert config.vocabulary == VocabularyConfig(size=90, algorithm="bpe")


def test_what_the_base_has_decided_is_listed_with_the_other_mistakes(base: Path) -> None:
    text = f"base:\n  model: {base}\nvocabulary:\n  size: 200\n  joint: no\nsede: 1\n"
    assert mistakes(text, "model.encoder_layers=1", "model.embedding_size=many") == [
        "5 mistakes in x.yaml:",
        "x.yaml:4: vocabulary.size: must be 160 as in the base run/model, but is 200: leave it out,"
        " or learn a new one with base.vocabulary=own",
        # and not that `model.tied`, which the base has decided, must be another
        "x.yaml:5: vocabulary.joint: must be true as in the base run/model, but is false: leave it"
        " out, or learn a new one with base.vocabulary=own",
        "x.yaml:6: sede: unknown key; did you mean 'seed'?",
        # and nothing about the base's embedding_size, which isn't this class's default
        "command line: model.embedding_size: must be a whole number ≥ 1, but is 'many'",
        "command line: model.encoder_layers: must be 2 as in the base run/model, but is 1: leave it"
        " out",
    ]


def test_files_in_the_place_of_the_bases_vocabulary(base: Path) -> None:
    text = "vocabulary: {kind: file, source: spm.model}"
    assert mistakes(text, f"base.model={base}") == [
        "x.yaml:1: vocabulary.kind: must be 'learnt' as in the base run/model, but is 'file': leave"
        " it out, or learn a new one with base.vocabulary=own",
    ]
    config = read(text, f"base.model={base}", "base.vocabulary=own")
    assert config.vocabulary == VocabularyFiles(kind="file", source=Path("spm.model"))


def test_a_base_on_the_command_line_takes_the_place_of_the_files(base: Path) -> None:
    assert read("base: {model: nowhere}", f"base.model={base}").model == BASE.model
    assert read(f"base: {{model: {base}}}", "base=null") == Config()


def test_a_base_of_a_base_is_not_looked_for(base: Path) -> None:
    second = read("{}", f"base.model={base}")
    (folder := Path("second/model")).mkdir(parents=True)
    ModelDescription(second, {}).save(folder)
    (base / "config.json").unlink()
    assert read("{}", f"base.model={folder}").model == BASE.model


def test_a_written_config_is_read_back(base: Path) -> None:
    config = read(
        "base: {keep: [schedule, optimizer]}", f"base.model={base}", "base.freeze=encoder"
    )
    assert config.base == BaseConfig(
        model=base, keep=("schedule", "optimizer"), freeze=("encoder",)
    )
    assert read(dump_config(config)) == config


@pytest.mark.parametrize(
    ("base_section", "said"),
    [
        ("{model: gone}", "base.model: gone is no model folder (no readable config.json in it)"),
        (
            "{model: run}",
            "base.model: run is no model folder (no readable config.json in it); did you mean"
            " run/model?",
        ),
        ("{model: [a, b]}", "base.model: must be a path, but is [a, b]"),
        ("{freeze: encoder}", "base.model: is missing, but base needs it"),
        (
            "{model: run/model, keep: [position, position]}",
            "base.keep: must name each once, but is",
        ),
        (
            "{model: run/model, keep: momentum}",
            "base.keep: must be a list, each 'optimizer', 'schedule' or 'position', but is"
            " 'momentum'",
        ),
        (
            "{model: run/model, freeze: [decoder, encoder, embeddings]}",
            "base.freeze: must leave a part to train",
        ),
        (
            "{model: run/model, vocabulary: own, keep: [schedule, optimizer]}",
            "base.keep: must not have optimizer where `base.vocabulary` is own",
        ),
    ],
)
def test_mistakes_in_the_section(base: Path, base_section: str, said: str) -> None:
    (line,) = mistakes(f"seed: 1\nbase: {base_section}")
    assert line.startswith(f"x.yaml:2: {said}")


@pytest.mark.parametrize("damage", ["format", "config", "text"])
def test_a_damaged_base_is_named(base: Path, damage: str) -> None:
    path = base / "config.json"
    description = json.loads(path.read_text())
    if damage == "format":
        description["format"] = 99
    else:
        description["config"]["model"] = {"tied": "sideways"}
    path.write_text("{" if damage == "text" else json.dumps(description))
    (line,) = mistakes("{}", f"base.model={base}")
    assert line.startswith("command line: base.model: ")
    assert str(base) in line


def test_the_base_is_read_without_torch(base: Path) -> None:
    Path("x.yaml").write_text(f"base: {{model: {base}}}")
    code = (
        "import sys\n"
        "from seq2seq.cli import main\n"
        "sys.argv = ['seq2seq', 'config', 'x.yaml']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert "embedding_size: 24" in done.stdout
    assert done.stdout.endswith("False\n")
