"""What `import seq2seq` gives, and what it costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import seq2seq
from seq2seq import Translator, translation
from seq2seq.model_folder import save_model
from tests.builders import LINES, tiny_model


def test_the_translator_is_there(tmp_path: Path) -> None:
    save_model(tmp_path, tiny_model())
    assert Translator is translation.Translator
    by_text, by_path = (
        Translator.load(str(tmp_path)),
        Translator.load(tmp_path, overrides=["search.beam=2"]),
    )
    assert by_text.settings.beam == 3
    assert by_path.settings.beam == 2
    assert len(by_text.translate(LINES)) == len(LINES)


def test_torch_is_loaded_when_the_translator_is_asked_for() -> None:
    program = (
        "import sys, seq2seq; print('torch' in sys.modules); seq2seq.Translator;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"]


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'seq2seq' has no attribute 'Transistor'"):
        _ = seq2seq.Transistor
    with pytest.raises(ImportError, match="cannot import name 'Transistor' from 'seq2seq'"):
        from seq2seq import Transistor  # noqa: F401  # pyright: ignore
