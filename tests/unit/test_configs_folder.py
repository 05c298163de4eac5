import json
import re
import shlex
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import yaml
from pydantic.fields import FieldInfo

from seq2seq.config import BaseConfig, Config, MixPart, Section
from seq2seq.config_file import config_schema, load_config
from seq2seq.config_mistakes import entries_of, forms_of, takes_none
from seq2seq.errors import ConfigError
from seq2seq.model_description import ModelDescription

FOLDER = Path(__file__).parents[2] / "configs"
REFERENCE = FOLDER / "reference.yaml"
CONFIGS = sorted(FOLDER.glob("*.yaml"))

each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)


class Written(NamedTuple):
    """A line `key: value` of the reference, with the comment above it."""

    key: str
    value: str
    comment: str


def written() -> Iterator[Written]:
    """Yield the reference's settings; `#key` is a setting of another form, `# text` a comment."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in REFERENCE.read_text("utf-8").split("\n\n", 1)[1].splitlines():
        line = re.sub(r"^( *)#(?=\w|  )", r"\1", line)
        text = line.strip()
        if text.startswith("#"):
            comment.append(text.removeprefix("#").strip())
        elif text:
            indent = len(line) - len(line.lstrip())
            name, _, value = text.partition(":")
            path = [*(part for part in path if part[0] < indent), (indent, name)]
            yield Written(".".join(part[1] for part in path), value.strip(), " ".join(comment))
            comment = []


ENTRY = "news"  # the name of what a user names
SECTIONS = [field.annotation for field in Config.model_fields.values()]


def settings(
    form: type[Section] = Config, section: str = "", *, other: bool = False
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield each key in order, then, for a section with several forms, its other forms.

    What has several forms within an `other` form is described in the first one.
    """
    for name, field in form.model_fields.items():
        key = section + name
        yield key, field
        forms = forms_of(field.annotation)
        if takes_none(field) and forms[:1] and forms[0] in SECTIONS:
            continue  # an own copy of a section that is described where it belongs
        if entry := entries_of(field.annotation):
            yield f"{key}.{ENTRY}", FieldInfo(description="")
            yield from settings(entry, f"{key}.{ENTRY}.", other=True)
        if other and len(forms) > 1:
            continue
        for inner in sorted(forms, key=lambda inner: inner is not type(field.default)):
            first = inner is type(field.default)
            if not first and (len(forms) > 1 or takes_none(field)):
                yield key, FieldInfo(description=inner.__doc__)
            yield from settings(inner, f"{key}.", other=other or not first)


def read(text: str) -> Any:
    return yaml.load(text, Loader=yaml.BaseLoader)


def test_reference_has_every_setting_in_order():
    assert [line.key for line in written()] == [key for key, _ in settings()]


def test_reference_says_what_each_setting_means():
    for line, (key, field) in zip(written(), settings(), strict=True):
        if not key.endswith(f".{ENTRY}"):
            assert field.description
            assert field.description.split("\n\n")[0] in line.comment, key


def test_reference_is_the_defaults():
    assert load_config(REFERENCE) == Config()


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("data.corpus", 6),
        ("vocabulary", 2),
        ("training.sampling", 3),
        ("training.optimizer", 3),
        ("training.optimizer.schedule", 6),
    ],
)
def test_forms_in_the_comments_of_the_reference_can_be_used(key: str, number: int):
    forms: list[list[str]] = []
    for line in written():
        parent = line.key.rpartition(".")[0]
        if line.key == key and not line.value:
            forms.append([])
        elif parent in (key, f"{key}.parts.{ENTRY}") and line.value:
            forms[-1].append(f"{line.key}={line.value}")
    assert len(forms) == number
    for overrides in forms:
        needed = ["vocabulary.algorithm=bpe"] if f"{key}.kind=bpe_dropout" in overrides else []
        section = attrgetter(key)(load_config(REFERENCE, [*overrides, *needed]))
        assert f"{key}.kind={section.kind}" in overrides
        examples = {
            name: value
            for name, value in section.model_dump().items()
            if name in ("kind", "name", "train", "validation", "parts", "source")
        }
        for part in examples.get("parts", {}).values():
            assert part == MixPart(corpus=part["corpus"]).model_dump()
        default = type(section).model_validate(examples)
        assert section == default, "a default in a comment isn't the default"


def test_base_in_the_comments_of_the_reference_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lines = [line for line in written() if line.key.startswith("base.")]
    monkeypatch.chdir(tmp_path)
    folder = Path(lines[0].value)
    folder.mkdir(parents=True)
    ModelDescription(Config(), {}).save(folder)
    config = load_config(REFERENCE, [f"{line.key}={line.value}" for line in lines])
    assert config.base == BaseConfig(model=folder), "a default in a comment isn't the default"


def test_schema_file_is_up_to_date():
    assert (FOLDER / "schema.json").read_text("utf-8") == config_schema()


@each_config
def test_config_loads(path: Path):
    load_config(path)


@each_config
def test_config_begins_with_its_command(path: Path):
    command, schema, *_ = path.read_text("utf-8").splitlines()
    assert command == f"# seq2seq train configs/{path.name}"
    assert schema == "# yaml-language-server: $schema=schema.json"


@each_config
@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.BaseLoader])
def test_config_fits_the_schema(path: Path, loader: Any):
    text = path.read_text("utf-8")
    if loader is yaml.BaseLoader:  # a reader to which every scalar is a text, `null` too
        text = re.sub(r"^.*: null$\n", "", text, flags=re.M)
    jsonschema.validate(yaml.load(text, Loader=loader), json.loads(config_schema()))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("{}", True),
        ("training: {optimizer: {learning_rate: 1e-3}, steps: 5e4}", True),
        ("training: {steps: 5.0e+4}", True),
        ("vocabulary: {joint: yes, split_digits: On}", True),
        ("data: {source: no, folder: 2024}", True),
        ("data: {corpus: {pairs: 100}}", True),
        ("data: {corpus: {kind: hub, name: x, test: null}}", True),
        ("data: {corpus: {kind: table, train: a.tsv, validation: [b, 7]}}", True),
        ("data: {corpus: {kind: table, train: a.tsv, validation: []}}", False),
        ("validation: {search: {beam: 1}, patience: null}", True),
        ("training: {optimizer: {betas: [0.9, 0.98]}}", True),
        ("monitoring: {loggers: [csv, wandb]}", True),
        ("monitoring: {loggers: mlflow}", True),
        ("monitoring: {loggers: []}", True),
        ("monitoring: {loggers: [csv, excel]}", False),
        ("monitoring: {loggers: null}", False),
        ("base: null", True),
        ("base: {model: base, keep: schedule, freeze: [encoder, decoder]}", True),
        ("base: {model: base, keep: [schedule, warmup]}", False),
        ("base: {vocabulary: own}", False),
        ("training: {optimizer: {betas: [0.9]}}", False),
        ("training: {optimizer: {learning_rate: 0}}", False),
        ("training: {optimizer: {schedule: {warmup: 500}}}", True),
        ("training: {optimizer: {schedule: {warmup: 5e2}}}", True),
        ("training: {optimizer: {schedule: {warmup: 500 steps}}}", True),
        ("training: {optimizer: {schedule: {warmup: 1_000 tokens}}}", True),
        ("training: {optimizer: {schedule: {warmup: .5 epochs}}}", True),
        ("training: {optimizer: {schedule: {warmup: 12.5%}}}", True),
        ("training: {optimizer: {schedule: {warmup: 0}}}", False),
        ("training: {optimizer: {schedule: {warmup: 0.5}}}", False),
        ("training: {optimizer: {schedule: {warmup: 2 weeks}}}", False),
        ("training: {optimizer: {schedule: {warmup: null}}}", False),
        ("training: {optimizer: {schedule: {kind: gnmt, interval: null}}}", True),
        ("training: {optimizer: {kind: sgd, momentum: 0.9, schedule: {kind: constant}}}", True),
        ("training: {optimizer: {kind: sgd, betas: [0.9, 0.98]}}", False),
        ("training: {optimizer: {momentum: 0.9}}", False),
        ("training: {optimizer: {learning_rate: '0,1'}}", False),
        ("training: {steps: 1.5}", False),
        ("training: {steps: 0}", False),
        ("vocabulary: {joint: maybe}", False),
        ("vocabulary: {algorithm: word}", False),
        ("vocabulary: {algorithm: char, byte_fallback: yes, symbols: [<br>, ©]}", True),
        ("vocabulary: {symbols: <br>}", True),
        ("vocabulary: {kind: file, source: spm.model}", True),
        ("vocabulary: {kind: file}", False),
        ("vocabulary: {kind: file, source: spm.model, size: 8000}", False),
        ("vocabulary: {algorithm: bpe}\ntraining: {sampling: {kind: bpe_dropout}}", True),
        ("training: {sampling: {kind: unigram, alpha: 0.1}}", True),
        ("training: {sampling: {alpha: 0.1}}", False),
        ("data: {corpus: {kind: hub}}", False),
        ("data: {corpus: {name: x}}", False),
        ("model: {hiden_size: 3}", False),
        ("seed: null", False),
    ],
)
def test_schema_accepts_what_the_reader_accepts(
    text: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("base").mkdir()
    ModelDescription(Config(), {}).save(Path("base"))
    validator = jsonschema.Draft202012Validator(json.loads(config_schema()))
    assert validator.is_valid(yaml.safe_load(text)) is fits  # pyright: ignore[reportUnknownMemberType]
    (tmp_path / "config.yaml").write_text(text, "utf-8")
    if fits:
        load_config(tmp_path / "config.yaml")
    else:
        with pytest.raises(ConfigError):
            load_config(tmp_path / "config.yaml")


def test_multi30k_runs_from_local_files_as_its_comment_says():
    path = FOLDER / "multi30k_en_de.yaml"
    comment = re.findall(r"^#   (.*)$", path.read_text("utf-8"), re.M)
    words = shlex.split(" ".join(line.removesuffix("\\") for line in comment))
    assert words[:3] == ["seq2seq", "train", f"configs/{path.name}"]
    config = load_config(path, words[3:])
    assert config.data.corpus.model_dump(mode="json") == {
        "kind": "text",
        "train": ["train.en.gz", "train.de.gz"],
        "validation": ["val.en.gz", "val.de.gz"],
        "test": ["test.en.gz", "test.de.gz"],
    }
