"""One model for several target languages, told apart by tags, from the config to translations."""

import json
import math
from pathlib import Path

import pytest

from seq2seq import Request, Translator
from seq2seq.config import Config
from seq2seq.data.prepared import PreparedData
from seq2seq.errors import UserError
from seq2seq.model_folder import save_model
from seq2seq.parallel.place import Place
from seq2seq.training.run import train
from seq2seq.training.stopping import StopRequest
from seq2seq.vocabulary import NUM_SPECIAL
from tests.builders import tiny_model
from tests.integration.conftest import Command

OTHER = {"de": "fr", "fr": "de"}
LINES = ["323 megabytes", "17 months ago", "Canada and Norway"]
STDIN = "".join(f"{line}\n" for line in LINES).encode()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The settings of a model that has learnt from 2,000 pairs of each of two languages."""
    folder = tmp_path_factory.mktemp("languages")
    corpus = {"kind": "sample", "pairs": 2000, "held_out": 60}
    parts = {name: {"corpus": corpus, "target": name} for name in OTHER}
    settings = {
        "data": {
            "folder": folder / "data",
            "tags": True,
            "corpus": {"kind": "mix", "parts": parts},
        },
        "vocabulary": {"size": 800},
        "model": {
            "embedding_size": 48,
            "encoder_size": 48,
            "decoder_layers": 1,
            "decoder_size": 48,
            "dropout": {"embeddings": 0, "layers": 0, "output": 0},
        },
        "training": {
            "folder": folder / "run",
            "steps": 240,
            "tokens_per_step": 1024,
            "optimizer": {
                "learning_rate": 0.015,
                "schedule": {"kind": "inverse_sqrt", "warmup": 20},
            },
        },
        "validation": {"every": 1000, "samples": 0, "search": {"beam": 1}},
        "search": {"beam": 2},
        "monitoring": {"loggers": [], "attention": 0},
        "trainer": {"accelerator": "cpu", "threads": 1},
    }
    config = Config.model_validate(settings)
    train(config, Place(), resume=False, stop=StopRequest())
    return config


@pytest.fixture(scope="module")
def model(config: Config) -> Path:
    return config.training.folder / "model"


def loss(config: Config, *, swapped: bool) -> float:
    """The validation set's cross-entropy per target token, with the right tags or the others."""
    translator = Translator.load(config.training.folder / "model")
    data = PreparedData.open(config.data.folder)
    rows = zip(*data.text("validation"), data.directions("validation"), strict=True)
    pairs = [
        (Request(source, to=OTHER[to] if swapped else to), [target])
        for source, target, (_, to) in rows
    ]
    found = [scored for (scored,) in translator.score(pairs)]
    tokens = sum(len(scored.tokens) + 1 for scored in found)
    return -math.fsum(scored.log_probability for scored in found) / tokens


def test_the_right_tag_gives_a_lower_loss_than_the_wrong_one(config: Config):
    right, wrong = loss(config, swapped=False), loss(config, swapped=True)
    assert right < wrong - 0.2
    lines = (config.training.folder / "metrics.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[-1])["loss"] == pytest.approx(right, abs=1e-4), "of each row's own tag"


def test_every_source_begins_with_the_tag_of_its_language(config: Config):
    data = PreparedData.open(config.data.folder)
    tags = data.vocabularies.source.tags
    assert tags == {"de": NUM_SPECIAL, "fr": NUM_SPECIAL + 1}
    parts = data.manifest.parts
    assert [(part.name, part.source, part.target) for part in parts] == [
        ("de", "en", "de"),
        ("fr", "en", "fr"),
    ]
    source = data.split("train").source
    first, second = (part.pairs for part in parts)
    assert first + second == len(source)
    assert {source[number][0] for number in range(first)} == {tags["de"]}
    assert {source[number][0] for number in range(first, len(source))} == {tags["fr"]}
    assert {to for _, to in data.directions("test")} == set(OTHER)


def test_translate_into_the_language_that_is_asked_for(model: Path, command: Command):
    found = {}
    for to in ("de", "fr"):
        ended = command("translate", model, "--to", to, stdin=STDIN)
        assert ended.status == 0
        found[to] = ended.output.splitlines()
    assert len(found["de"]) == len(LINES)
    assert found["de"] != found["fr"]
    assert command("translate", model, stdin=STDIN).output.splitlines() == found["de"]
    wishes = [{"text": line, "to": to} for to in ("fr", "de") for line in LINES]
    stdin = "".join(f"{json.dumps(wish)}\n" for wish in wishes).encode()
    ended = command("translate", model, "--json-input", "--json", stdin=stdin)
    records = [json.loads(line) for line in ended.output.splitlines()]
    assert [record["text"] for record in records] == found["fr"] + found["de"]
    assert [record["to"] for record in records] == ["fr"] * 3 + ["de"] * 3
    assert records[0]["source_pieces"][0] == "<2fr>"
    # What it has written can be scored, each line with its tag.
    again = command("translate", model, "--json-input", "--score", stdin=ended.output.encode())
    expected = [record["score"] for record in records]
    assert [float(line) for line in again.output.splitlines()] == pytest.approx(expected, abs=1e-3)


def test_a_literal_tag_is_text(model: Path):
    translator = Translator.load(model)
    plain, literal = translator.encode(["17 months", "<2fr> 17 months"])
    tags = translator.vocabularies.source.tags
    assert plain[0] == literal[0] == tags["de"]
    assert not set(literal[1:]) & set(tags.values())


def test_long_lines_have_a_tag_in_each_part(model: Path):
    limit = 12
    translator = Translator.load(model, overrides=[f"search.max_source_length={limit}"])
    work = translator.work([Request("17 months ago, 3 days ago, Canada, Norway. " * 3, to="fr")])
    assert len(work.parts) > 2
    tag = translator.vocabularies.source.tag("fr")
    assert all(part.source[0] == tag for part in work.parts)
    assert max(len(part.source) for part in work.parts) <= limit


def test_unknown_languages_are_refused(
    model: Path, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    message = "no tag for the target language 'xx'; it has tags for de, fr"
    output = tmp_path / "out.txt"
    (tmp_path / "in.txt").write_bytes(STDIN)
    files = ("--input", tmp_path / "in.txt", "--output", output)
    json_line = b'{"text": "a", "to": "xx"}\n'
    for ended in (
        command("translate", model, "--to", "xx", stdin=STDIN),
        command("translate", model, "--to", "xx", *files),
        command("translate", model, "--json-input", stdin=json_line),
        command("inspect", model, "17 months", "--to", "xx", "--output", tmp_path / "a.png"),
        command("evaluate", model, "--to", "xx", "--source", files[1], "--reference", files[1]),
    ):
        assert ended.status == 2
        assert message in ended.messages
        assert ended.messages.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
    ended = command("evaluate", model, "--to", "fr")
    assert (ended.status, "--to has no effect on the sets" in ended.messages) == (2, True)


def test_models_without_tags_have_one_language(command: Command, tmp_path: Path):
    save_model(tmp_path / "model", tiny_model())
    for words, stdin in (
        (("--to", "de"), b"a cat\n"),
        (("--json-input",), b'{"text": "a", "to": "de"}\n'),
    ):
        ended = command("translate", tmp_path / "model", *words, stdin=stdin)
        assert ended.status == 2
        assert "can't be asked for the target language 'de'" in ended.messages
    translator = Translator.load(tmp_path / "model")
    with pytest.raises(UserError, match="trained without tags"):
        translator.translate([Request("a cat", to="de")])


def test_a_shared_output_is_of_one_language(model: Path, command: Command, tmp_path: Path):
    (tmp_path / "in.txt").write_bytes(STDIN)
    files = ("--input", tmp_path / "in.txt", "--output", tmp_path / "out.txt")
    assert command("translate", model, *files, "--to", "fr").status == 0
    expected = command("translate", model, "--to", "fr", stdin=STDIN).output
    assert (tmp_path / "out.txt").read_text("utf-8") == expected
    ended = command("translate", model, *files)
    assert ended.status == 2
    assert "something else (to: fr, not de)" in ended.messages


def test_scores_of_each_direction(model: Path, command: Command, tmp_path: Path):
    output = tmp_path / "score.json"
    ended = command("evaluate", model, "--output", output)
    assert ended.status == 0
    report = json.loads(output.read_text("utf-8"))
    assert list(report["directions"]) == ["en → de", "en → fr"]
    for name, scores in report["directions"].items():
        assert scores["exact"]["signature"].endswith("lines:60")
        assert f"{scores['chrF2']['value']:.2f}" in next(
            line for line in ended.output.splitlines() if line.startswith(name)
        )
    assert report["scores"]["exact"]["signature"].endswith("lines:120")
    assert report["scores"]["chrF2"]["value"] > 0
    ended = command("evaluate", model, "--lookup", "--output", output)
    row = next(line for line in ended.output.splitlines() if line.startswith("nearest"))
    assert float(row.split()[-2]) > 40, "copied from sentences in the right language"
    card = (model / "README.md").read_text("utf-8")
    assert "from en to de and from en to fr" in card


def test_inspect_draws_the_tag(model: Path, command: Command, tmp_path: Path):
    for to in ("de", "fr"):
        picture = tmp_path / f"{to}.png"
        ended = command("inspect", model, LINES[0], "--to", to, "--output", picture)
        expected = command("translate", model, "--to", to, stdin=f"{LINES[0]}\n".encode())
        assert ended.output == expected.output
        assert picture.stat().st_size


def test_a_shortlist_never_lists_a_tag_as_a_translation(model: Path, command: Command):
    assert command("shortlist", model).status == 0
    ended = command(
        "translate", model, "search.shortlist=true", "--to", "fr", "--json", stdin=STDIN
    )
    assert ended.status == 0
    assert not any(
        "<2" in line.partition('"source_pieces"')[0] for line in ended.output.splitlines()
    )
