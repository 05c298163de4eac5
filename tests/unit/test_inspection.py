"""A sentence's translation, and the picture of its attention."""

import re
from pathlib import Path

import pytest

from seq2seq.errors import UserError
from seq2seq.inspection import attention_pictures, inspect_attention
from seq2seq.translation import Translator
from tests.builders import LINES, tiny_model


def test_a_sentence_is_translated_and_drawn(tmp_path: Path) -> None:
    model = tiny_model()
    path = tmp_path / "pictures" / "cat.png"
    text = inspect_attention(model, LINES[0], path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    translator = Translator(model.network, model.vocabularies, model.config.search)
    assert text == translator.translate([LINES[0]])[0].text
    assert [entry.name for entry in path.parent.iterdir()] == ["cat.png"]
    assert attention_pictures(translator, LINES, 1) == [path.read_bytes()]


def test_pictures_are_of_the_first_lines_that_say_something() -> None:
    model = tiny_model()
    translator = Translator(model.network, model.vocabularies, model.config.search)
    pictures = attention_pictures(translator, LINES, 2)
    assert len(pictures) == 2
    assert attention_pictures(translator, ["", LINES[0], " ", LINES[1]], 2) == pictures
    assert attention_pictures(translator, ["", LINES[0]], 2) == pictures[:1]
    assert attention_pictures(translator, LINES, 0) == []


def test_a_place_that_takes_no_file_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "file" / "a.png", tmp_path / "folder.png"):
        with pytest.raises(UserError, match=re.escape(f"{path} can't be written")):
            inspect_attention(tiny_model(), LINES[0], path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize("sentence", ["", "  ", "\u3000\u200b"])
def test_a_blank_sentence_is_refused(sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the sentence to inspect is blank"):
        inspect_attention(tiny_model(), sentence, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
