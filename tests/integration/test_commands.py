"""The commands as a person types them: what they print, write, refuse, and end with."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seq2seq.config_file import dump_config
from seq2seq.model_folder import load_model
from seq2seq.training.checkpoint import read_checkpoint
from tests.integration.conftest import Command, make_config, make_pairs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt its small language; the folder with its config."""
    folder = tmp_path_factory.mktemp("trained")
    config = make_config(
        folder,
        pairs=1000,
        model={
            "embedding_size": 32,
            "encoder_size": 32,
            "decoder_size": 32,
            "dropout": {"embeddings": 0.0, "layers": 0.0, "output": 0.0},
        },
        training={
            "folder": folder / "run",
            "steps": 500,
            "optimizer": {"learning_rate": 5e-3, "schedule": {"kind": "linear", "warmup": 20}},
            "log_every": 20,
        },
        validation={"every": 250},
    )
    path = folder / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "seq2seq", "train", path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_trained_model_translates_what_it_has_not_seen(trained: Path, command: Command) -> None:
    model = trained / "run" / "model"
    pairs = make_pairs(30, seed=77)
    text = "".join(source + "\n" for source, _ in pairs)
    ended = command("translate", model, stdin=text.encode())
    assert ended.status == 0
    translations = ended.output.splitlines()
    assert len(translations) == len(pairs)
    right = sum(line == target for line, (_, target) in zip(translations, pairs, strict=True))
    assert right >= 27


def test_translate_keeps_blank_and_odd_lines_in_place(trained: Path, command: Command) -> None:
    model = trained / "run" / "model"
    lines = [
        "The dog sees the cat.",
        "",
        "The man likes the red bird.",
        " \t\u00a0\u3000\u200b",
        "[/b] :x:",
    ]
    ended = command("translate", model, stdin="\n".join(lines).encode())
    assert ended.status == 0
    given = ended.output.split("\n")
    assert given.pop() == ""
    assert len(given) == len(lines)
    assert [number for number, line in enumerate(given) if not line] == [1, 3]
    alone = [command("translate", model, stdin=lines[number].encode()).output for number in (0, 2)]
    assert alone == [given[0] + "\n", given[2] + "\n"]


def test_translate_of_nothing_is_nothing(trained: Path, command: Command) -> None:
    assert command("translate", trained / "run" / "model") == (0, "", "")


def test_evaluate_prints_scores_with_signatures_and_writes_them(
    trained: Path, command: Command
) -> None:
    model = trained / "run" / "model"
    ended = command("evaluate", model, "--lookup")
    assert ended.status == 0
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp" in ended.output
    assert "nearest training source" in ended.output
    report = json.loads((model / "score.json").read_text())
    bleu = report["scores"]["BLEU"]["value"]
    assert bleu > 80
    assert f"{bleu:.2f}" in ended.output
    card = (model / "README.md").read_text(encoding="utf-8")
    assert f"{bleu:.2f}" in card
    assert report["scores"]["BLEU"]["signature"].replace("|", r"\|") in card
    # The same by hand: translate the test file and score it with sacrebleu's own command.
    source, reference = (trained / f"test.{language}" for language in ("en", "de"))
    hypotheses = command("translate", model, stdin=source.read_bytes()).output
    done = subprocess.run(
        [sys.executable, "-m", "sacrebleu", str(reference), "-m", "bleu", "-b", "-w", "2"],
        input=hypotheses,
        capture_output=True,
        text=True,
    )
    assert float(done.stdout) == round(bleu, 2)
    output = trained / "other.json"
    ended = command(
        "evaluate", model, "--source", source, "--reference", reference, "--output", output
    )
    assert json.loads(output.read_text())["scores"]["BLEU"]["value"] == bleu
    assert (model / "README.md").read_text(encoding="utf-8") == card


def test_validation_bleu_in_training_is_that_of_evaluate(trained: Path, command: Command) -> None:
    model = trained / "run" / "model"
    lines = (trained / "run" / "metrics.jsonl").read_text().splitlines()
    scores = [entry["bleu"] for entry in map(json.loads, lines) if entry["kind"] == "validation"]
    output = trained / "validation.json"
    command("evaluate", model, "--split", "validation", "--beam", "1", "--output", output)
    assert json.loads(output.read_text())["scores"]["BLEU"]["value"] == max(scores)


def test_checkpoints_are_averaged_into_a_model_that_translates(
    trained: Path, command: Command, tmp_path: Path
) -> None:
    checkpoints = sorted((trained / "run" / "checkpoints").iterdir())
    output = tmp_path / "averaged"
    ended = command("average", trained / "run", "--output", output)
    assert ended.status == 0, ended.messages
    assert f"{output} is the mean of the weights after the steps 250, 498, 500" in ended.messages
    network = load_model(output).network
    saved = [read_checkpoint(path)["weights"] for path in checkpoints]
    for name, weights in network.named_parameters():
        mean = torch.stack([part[name] for part in saved]).mean(dim=0)
        torch.testing.assert_close(weights.detach(), mean, rtol=1e-6, atol=1e-6)
    ended = command("evaluate", output)
    assert ended.status == 0, ended.messages
    report = json.loads((output / "score.json").read_text())
    assert report["model"]["averaged"] == [250, 498, 500]
    assert report["scores"]["BLEU"]["value"] > 80
    ended = command("translate", output, stdin=b"The dog sees the cat.\n")
    assert ended.output == "Der Hund sieht den Kater.\n"
    again = tmp_path / "again"
    assert command("average", *checkpoints, "--output", again).status == 0
    assert (again / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()


def test_inspect_draws_a_picture(trained: Path, command: Command, tmp_path: Path) -> None:
    picture = tmp_path / "attention.png"
    ended = command(
        "inspect", trained / "run" / "model", "The dog sees the cat.", "--output", picture
    )
    assert ended.status == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert ended.output.startswith("Der Hund")


def test_text_of_users_reaches_the_terminal_as_text(
    tmp_path: Path, command: Command, config_file: Path
) -> None:
    for split in ("train", "validation", "test"):
        for language in ("en", "de"):
            path = tmp_path / f"{split}.{language}"
            lines = path.read_text().splitlines()
            path.write_text("".join(f"[/b] {line} \x1b[31m [red]\n" for line in lines))
    ended = command("train", config_file, "training.steps=4", "vocabulary.size=60")
    assert ended.status == 0
    assert "[/b] The" in ended.messages
    assert "\x1b" not in ended.messages


def test_prepare_makes_a_folder_once(config_file: Path, command: Command, tmp_path: Path) -> None:
    assert command("prepare", config_file).status == 0
    manifest = tmp_path / "data" / "manifest.json"
    first = manifest.stat().st_mtime_ns
    again = command("prepare", config_file)
    assert again.status == 0
    assert "is prepared already" in again.messages
    assert manifest.stat().st_mtime_ns == first
    changed = command("prepare", config_file, "vocabulary.size=44")
    assert changed.status == 2
    assert "vocabulary.size was 48, is 44" in changed.messages
    assert command("prepare", config_file, "vocabulary.size=44", "--overwrite").status == 0


def test_config_prints_what_would_run(config_file: Path, command: Command) -> None:
    ended = command("config", config_file, "training.optimizer.learning_rate=1e-4")
    assert ended.status == 0
    assert "learning_rate: 0.0001" in ended.output


def test_config_lists_every_mistake_and_loads_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "sede: 1\n"
        "model:\n"
        "  decoder_sise: 12\n"
        "  encoder_layers: none at all\n"
        "training:\n"
        "  steps: -5\n"
        "  label_smoothing: 0,1\n"
    )
    code = (
        "import sys\n"
        "from seq2seq.cli import main\n"
        "sys.argv = ['seq2seq', 'config', sys.argv[1]]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print([name for name in ('torch', 'pytorch_lightning') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stdout == "[]\n"
    lines = done.stderr.splitlines()
    assert "5 mistakes" in lines[0]
    wanted = ["1: sede", "3: model.decoder_sise", "4: model.encoder_layers", "6: training.steps"]
    for line, beginning in zip(lines[1:], [*wanted, "7: training.label_smoothing"], strict=True):
        assert line.startswith(f"{path}:{beginning}: "), line
    assert "did you mean 'model.decoder_size'" in lines[2]


REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "missing config": (["train", "{folder}/none.yaml"], ["none.yaml"]),
    "misspelt key": (["train", "{config}", "training.step=3"], ["training.step", "training.steps"]),
    "missing text": (
        ["train", "{config}", "data.corpus.train=[{folder}/none.en, {folder}/train.de]"],
        ["none.en", "No such file"],
    ),
    "folder for a file": (
        ["train", "{config}", "data.corpus.train=[{folder}, {folder}/train.de]"],
        ["{folder}", "Is a directory"],
    ),
    "unlike lengths": (
        ["prepare", "{config}", "data.corpus.train=[{folder}/train.en, {folder}/test.de]"],
        ["120", "20", "train.en", "test.de"],
    ),
    "empty corpus": (
        ["prepare", "{config}", "data.corpus.train=[{folder}/empty, {folder}/empty]"],
        ["empty"],
    ),
    "not UTF-8": (
        ["prepare", "{config}", "data.corpus.validation=[{folder}/latin, {folder}/validation.de]"],
        ["latin", "line 2", "UTF-8"],
    ),
    "vocabulary too large": (
        ["train", "{config}", "vocabulary.size=8000"],
        ["8000", "vocabulary.size="],
    ),
    "unknown locale": (
        ["train", "{config}", "data.corpus.kind=sample", "data.target=xx"],
        ["xx"],
    ),
    "data folder of something else": (
        ["train", "{config}", "data.folder={folder}/other"],
        ["{folder}/other", "no data folder"],
    ),
    "no model": (["translate", "{folder}/other"], ["{folder}/other", "no model folder"]),
    "no such folder": (["evaluate", "{folder}/none"], ["{folder}/none", "no model folder"]),
    "no such device": (["train", "{config}", "trainer.accelerator=cuda"], ["cuda", "cpu"]),
    "average in place of a model": (
        ["average", "{model}/..", "--output", "{model}"],
        ["{model}", "is there already"],
    ),
    "average of no run": (
        ["average", "{folder}/none", "--output", "{folder}/mean"],
        ["{folder}/none", "no run folder"],
    ),
    "average of more than there are": (
        ["average", "{model}/..", "--last", "9", "--output", "{folder}/mean"],
        ["--last is 9", "has 3 checkpoints"],
    ),
    "average of one": (
        ["average", "{model}/../checkpoints/step-00000500.ckpt", "--output", "{folder}/mean"],
        ["two checkpoints or more", "step-00000500.ckpt"],
    ),
    "reference alone": (["evaluate", "{model}", "--reference", "x"], ["--source"]),
    "blank sentence": (["inspect", "{model}", "  "], ["blank"]),
    "sentence of odd bytes": (["inspect", "{model}", "caf\udce9"], ["UTF-8"]),
    "picture in place of a folder": (
        ["inspect", "{model}", "The dog.", "--output", "{folder}/other"],
        ["{folder}/other", "no plain file"],
    ),
    "schema of one config": (["config", "{config}", "--schema"], ["--schema"]),
    "split beside files": (
        [
            "evaluate",
            "{model}",
            "--split",
            "test",
            "--source",
            "{folder}/a",
            "--reference",
            "{folder}/b",
        ],
        ["--split", "no effect"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_in_a_sentence(
    name: str, tmp_path: Path, config_file: Path, trained: Path, command: Command
) -> None:
    if name == "no such device" and torch.cuda.is_available():
        pytest.skip("there is such a device here")
    (tmp_path / "empty").touch()
    (tmp_path / "latin").write_bytes(b"fine\n\xe9t\xe9\n" + b"fine\n" * 10)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("precious")
    words, said = REFUSED[name]
    names = {"folder": tmp_path, "config": config_file, "model": trained / "run" / "model"}
    before = sorted(tmp_path.rglob("*"))
    ended = command(*(word.format(**names) for word in words))
    assert ended.status == 2
    assert "Traceback" not in ended.messages
    lines = [line for line in ended.messages.splitlines() if line.startswith("seq2seq: ")]
    assert len(lines) == 1, ended.messages
    assert all(word.format(**names) in lines[0] for word in said), ended.messages
    after = [path for path in sorted(tmp_path.rglob("*")) if "data" not in path.name]
    assert [path for path in after if path not in before] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "CONFIG"),
        (["frobnicate"], "frobnicate"),
        (["translate", "model", "--baem", "3"], "--baem"),
        (["evaluate", "model", "--split", "train"], "train"),
    ],
)
def test_words_that_cannot_be_read_are_refused(
    words: list[str], said: str, command: Command
) -> None:
    ended = command(*words)
    assert ended.status == 2
    assert said.lower() in ended.messages.lower()
    assert "Traceback" not in ended.messages


def test_no_standard_input_is_said(trained: Path) -> None:
    line = f"{sys.executable} -m seq2seq translate {trained / 'run' / 'model'} <&-"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no standard input" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_a_translation_quietly(trained: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "seq2seq", "translate", trained / "run" / "model"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("The dog sees the cat.\n" * 1024)
    process.stdin.flush()
    process.stdout.readline()  # it is at work, and waits for more
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in messages


def test_a_plain_locale_changes_nothing(tmp_path: Path, trained: Path) -> None:
    text = "The man sees the green tree.\n"
    outputs: list[bytes] = []
    for environment in ({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}, {"LANG": "C.UTF-8"}):
        done = subprocess.run(
            [sys.executable, "-m", "seq2seq", "translate", trained / "run" / "model"],
            input=text.encode(),
            capture_output=True,
            env=os.environ | environment,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert "grünen" in outputs[0].decode()


def test_a_reader_that_goes_away_ends_it_quietly(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("The dog sees the cat.\n" * 3000)
    model = trained / "run" / "model"
    line = f"{sys.executable} -m seq2seq translate {model} < {tmp_path / 'in'} | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stdout == "Der Hund sieht den Kater.\n"
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_the_scripts_are_doors_to_the_commands(trained: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "translate.py"
    done = subprocess.run(
        [sys.executable, script, trained / "run" / "model"],
        input="The dog sees the cat.\n",
        capture_output=True,
        text=True,
    )
    assert done.stdout == "Der Hund sieht den Kater.\n", done.stderr


def test_a_person_who_types_gets_each_answer_and_no_bar_between(trained: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "seq2seq", "translate", trained / "run" / "model"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, b"The dog sees the cat.\n")
    seen = b""
    while b"Der Hund sieht den Kater." not in seen:
        seen += os.read(ours, 4096)
    os.write(ours, b"\x04")  # the end of what is typed
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert b"translating" not in seen
