"""Translation with a stopwatch: what is counted, and what text it is."""

import gzip
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.benchmark.translation import (
    Candidate,
    Text,
    measure_translation,
    prepared_text,
    read_text,
    shares_of,
)
from seq2seq.errors import DataError, ModelError
from seq2seq.model_folder import save_model
from seq2seq.translation import Translator
from tests.builders import LINES, tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, without its data folder."""
    folder = tmp_path_factory.mktemp("translation") / "model"
    save_model(folder, tiny_model())
    return folder


def test_tokens_are_the_pieces_of_the_text_and_of_its_translations() -> None:
    model = tiny_model()
    translator = Translator(model.network, model.vocabularies, model.config.search)
    lines = [*LINES] * 300  # more than a window
    candidate = Candidate(translator, Text("text", lines), [lines[:2], lines[:3]], CPU)
    source = [len(ids) for ids in model.vocabularies.source.encode(LINES)]
    target = [len(translation.tokens) for translation in translator.translate(LINES)]
    candidate.fill(seconds=0)
    for singles in (2, 3):
        sample = candidate.take()
        assert sample.source_tokens / sample.sentences == pytest.approx(sum(source) / len(LINES))
        assert sample.target_tokens / sample.sentences == pytest.approx(sum(target) / len(LINES))
        assert len(sample.alone) == singles
        assert min(sample.alone) > 0
        assert sample.memory > 2**20


@given(lines=st.integers(1, 5000), samples=st.integers(1, 20))
def test_single_sentences_come_from_the_whole_text_and_once(lines: int, samples: int) -> None:
    shares = shares_of([str(number) for number in range(lines)], samples)
    chosen = sorted(int(line) for share in shares for line in share)
    step = chosen[1] - chosen[0] if len(chosen) > 1 else lines
    assert chosen == list(range(0, lines, step))
    assert min(lines, 501) <= len(chosen) <= 1000
    assert len(shares) == samples
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_the_settings_that_replace_a_model_s_are_its_search(folder: Path) -> None:
    models = {"MODEL": (folder, ["search.beam=2"]), "--vs": (folder, [])}
    text = Text("text", [*LINES])
    measured = measure_translation(models, text, CPU, samples=3, seconds=0)
    assert {name: it["beam"] for name, it in measured.record["search"].items()} == {
        "MODEL": 2,
        "--vs": 3,
    }
    assert measured.rows[-1] == ["beam", "2", "3"]
    for name, taken in measured.record["results"].items():
        assert measured.rates[name] == [sample["sentences"] for sample in taken]
        assert [len(sample["alone"]) for sample in taken] == [2, 1, 1]
    assert measured.record["models"]["--vs"]["facts"] == {"step": 7, "note": "für ältere Läufe"}


def test_blank_lines_of_a_text_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "text.en.gz"
    path.write_bytes(gzip.compress(b"one\n\n \ntwo\r\n"))
    text = read_text(path)
    assert text == Text(str(path), ["one", "two"])
    assert text.facts["lines"] == 2


def test_a_text_that_is_missing_is_asked_for(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "blank").write_text("\n \n")
    with pytest.raises(DataError, match="blank has no line to translate: give a text with --input"):
        read_text(tmp_path / "blank")
    with pytest.raises(DataError, match=r"has no test set to translate: give a text with --input$"):
        prepared_text(folder)
    with pytest.raises(ModelError, match="is no model folder"):
        prepared_text(tmp_path)
