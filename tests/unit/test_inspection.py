"""Attention as search sees it, and its picture."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seq2seq.errors import UserError
from seq2seq.inspection import attention_pictures, attention_weights, inspect_attention
from seq2seq.model.attention import Memory
from seq2seq.model.decoder import State
from seq2seq.model.network import Network, StepScores
from seq2seq.search import Symbols, search
from seq2seq.translation import Translator
from seq2seq.vocabulary import BOS, EOS, PAD, UNK
from tests.builders import LINES, assert_close, columns, tiny_model, tiny_network


class Recorder:
    """A network that notes the attention of each step of a search."""

    def __init__(self, network: Network):
        self.network, self.rows = network, list[Tensor]()

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        return self.network.encode(source, lengths)

    def start(self, memory: Memory, beam: int) -> State:
        return self.network.start(memory, beam)

    def step(self, memory: Memory, state: State, tokens: Tensor) -> StepScores:
        scores = self.network.step(memory, state, tokens)
        self.rows.append(scores.attention[0, 0])
        return scores


@pytest.mark.parametrize("seed", range(5))
def test_the_weights_are_those_of_the_search(seed: int) -> None:
    recorder = Recorder(tiny_network(seed))
    source = [4, 5, 8, 6]
    padded, lengths = columns([source])
    symbols = Symbols(start=BOS, end=EOS, never=(PAD, BOS, UNK))
    (found,) = search(
        recorder,
        padded,
        lengths,
        symbols=symbols,
        beam=1,
        length_penalty=1.0,
        max_lengths=torch.tensor([6]),
    )
    weights = attention_weights(recorder.network, source, found.tokens)
    assert weights.shape == (len(found.tokens) + 1, len(source))  # a row for the end as well
    assert_close(weights, torch.stack(recorder.rows))
    assert_close(weights.sum(dim=1), torch.ones(len(weights), dtype=torch.float64))


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
