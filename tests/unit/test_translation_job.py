"""`translate` from standard input to standard output: a line for each line, whatever it is."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.errors import UserError
from seq2seq.model_folder import save_model
from seq2seq.parallel.place import Place
from seq2seq.translation import Request, Translator
from seq2seq.translation_job import Job, run
from tests.builders import LINES, tiny_model

TEXT = (*LINES, "cat", "the tall tree sang to the old red mat", "a b c 5 日本 😀", "dog, dog!")
Translate = Callable[..., str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job") / "model"
    save_model(folder, tiny_model())
    return folder


@pytest.fixture
def translate(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Translate:
    """Give what `translate < source` writes to standard output."""

    def run_job(content: bytes | str, place: Place | None = None, **options: Any) -> str:
        content = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        run(Job(model, **options), place or Place(), torch.device("cpu"))
        return capsys.readouterr().out

    return run_job


def test_each_line_has_its_translation(model: Path, translate: Translate) -> None:
    lines = [TEXT[0], "", TEXT[1], " ", TEXT[2]]
    expected = [found.text for found in Translator.load(model).translate(lines)]
    for ending in ("\n", ""):  # the last line may lack its end
        assert translate("\n".join(lines) + ending).split("\n") == [*expected, ""]
    assert translate("") == ""
    assert translate("\n\n") == "\n\n"


@pytest.mark.parametrize("window", [1, 3, 8, 9])
def test_the_window_changes_nothing(translate: Translate, window: int) -> None:
    assert translate("\n".join(TEXT), window=window) == translate("\n".join(TEXT))


def test_lines_from_windows_are_the_same_lines(translate: Translate) -> None:
    unix = "\n".join(TEXT) + "\n"
    expected = translate(unix)
    assert translate(unix.replace("\n", "\r\n")) == expected
    assert translate("\ufeff" + unix) == expected


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1c", "\r", "\0"])
def test_what_other_programs_take_for_a_line_end_is_text(translate: Translate, sign: str) -> None:
    lines = [f"the cat{sign}sat on", TEXT[1], f"{sign}a dog"]
    output = translate("\n".join(lines) + "\n")
    assert len(output.splitlines()) == output.count("\n") == 3
    assert output == translate("\n".join(line.replace(sign, " ") for line in lines) + "\n")
    written = translate("\n".join(lines) + "\n", json=True)
    assert len(written.splitlines()) == 3
    assert json.loads(written.splitlines()[0])["source"] == lines[0]


def test_settings_of_search_are_those_of_the_command(model: Path, translate: Translate) -> None:
    greedy = Translator.load(model, overrides=["search.beam=1"]).translate(TEXT)
    expected = "".join(found.text + "\n" for found in greedy)
    assert translate("\n".join(TEXT), overrides=["search.beam=1"]) == expected
    assert translate("\n".join(TEXT)) != expected


def test_what_is_written_can_be_scored(translate: Translate) -> None:
    found = translate("\n".join(TEXT), json=True, overrides=["search.beam=1"])
    scored = translate(found, score=True, has_json=True, json=True)
    assert [json.loads(line)["text"] for line in scored.splitlines()] == [
        json.loads(line)["text"] for line in found.splitlines()
    ]
    pairs = [(json.loads(line)["source"], json.loads(line)["text"]) for line in found.splitlines()]
    text = "".join(f"{source}\t{target}\n" for source, target in pairs)
    scores = [f"{json.loads(line)['score']:.4f}" for line in scored.splitlines()]
    assert translate(text, score=True).splitlines() == scores


def test_lines_that_were_no_text_are_told_once(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = b"the cat\nthe c\xe9t\n\xff\n" * 3
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    run(Job(model, window=2), Place(), torch.device("cpu"))
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 9
    assert captured.err == (
        "lines that were no UTF-8: 6, the first of them line 2; what couldn't be read was taken"
        " for U+FFFD\n"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the cat\n")))
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(UserError, match=r"output can't be written: No space left on device$"):
            run(Job(model), Place(), torch.device("cpu"))


FILE = {"source": "in.txt", "output": Path("out.txt")}
STARTED = Place(world_size=2, local_size=2)
REFUSED: dict[str, tuple[dict[str, Any], Place, str]] = {
    "resume": ({"resume": True}, Place(), "--resume has no effect without --output"),
    "overwrite": ({"overwrite": True}, Place(), "--overwrite has no effect without --output"),
    "both": ({**FILE, "resume": True, "overwrite": True}, Place(), "contradict each other"),
    "devices without files": ({}, STARTED, "--devices needs --output and, as --input, a file"),
    "devices without output": ({"source": "in.txt"}, STARTED, "--devices needs --output"),
    "devices without input": ({"output": Path("out.txt")}, STARTED, "--devices needs --output"),
    "devices and a pipe": ({**FILE, "source": "/dev/null"}, STARTED, "a file that can be read mo"),
    "packed": ({**FILE, "output": Path("out.gz")}, Place(), "leave .gz away"),
    "no file": ({"output": Path("/dev/null")}, Place(), "/dev/null can't be written: it is no pl"),
    "onto itself": ({**FILE, "output": Path("in.txt")}, Place(), "in.txt is the input: choose ano"),
    "folder": ({"source": "."}, Place(), r"\. must be a file, but is a folder; a data set in it"),
    "prefix of scores": (
        {"score": True, "common": Request("", prefix="x")},
        Place(),
        "--prefix, --require and --avoid have no effect on translations that are scored",
    ),
    "blank word": (
        {"common": Request("", require=("x", " "))},
        Place(),
        "--require and --avoid need words, but one is blank",
    ),
    "another section": ({"overrides": ["training.steps=3"]}, Place(), "training: is the model's o"),
    "JSON of a file": ({"source": "in.txt", "has_json": True}, Place(), "--json-input is about st"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, translate: Translate, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("one\n")
    options, place, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        translate("", place, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
