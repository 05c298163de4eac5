"""Three hundred lines that break programs: what each gives."""

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from seq2seq.model_folder import save_model
from seq2seq.parallel.place import Place
from seq2seq.translation_job import Job, run
from seq2seq.vocabulary import NUM_SPECIAL, UNK
from tests.builders import LINES, tiny_model, tiny_vocabularies

BLANKS = "\t\x0b\x0c \x85\xa0\u1680\u2000\u2003\u2007\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u2060\u2066\u202e\u061c\ufeff\U000e0041"
CONTROLS = "".join(map(chr, [*range(1, 9), *range(14, 32), 127, 128, 155, 159]))
SYMBOLS = ["<s>", "</s>", "<unk>", "<pad>", "<2de>", "<0x0A>", "<mask>", "⁇"]
UNSEEN = [
    "\ue0f0",
    "\ue0f1",
    "\ue0f2",
    "\ue0f3",
    "\ufffe\uffff",
    "\U0010ffff",
]  # 4 are SentencePiece's
MARKS = [
    ".",
    "...",
    "…",
    "?!",
    "—",
    "«»",
    "|||",
    "¿",
    "。",
    "、",
    "؟",
    "()",
    '"',
    "''",
    "\\",
    "&amp;",
]
EMOJI = ["😀", "👩‍👩‍👧", "🇩🇪", "👍🏽", "❤️", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "the 😀 cat"]
TO_THE_LEFT = ["هذا قط", "זה חתול", "the قط sat", "\u202ethe cat", "\u2067قط\u2069 cat", "ہے۔"]
NOT_UTF8 = [
    b"\xff",
    b"caf\xe9",
    b"the \xc3( cat",
    b"the cat \xe2\x82",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe\xff\0t\0h",
    b"\x80 \x80",
    b"a\xf0\x9f\x98 b",
]
ODD = [
    "e\u0301\u0301\u0301",
    "Z̸̢̛a̴l̷g̸o",
    "\u0301",
    "ﷺ",
    "ǅ İ ı ß ſ",
    "７½²",
    "1" * 400,
    "-" * 300,
    "a\u00adb",
    "日本語の文です。",
    "ไทยภาษา",
    "अ आ।",
    '{"text": 7}',
    "[a, b]",
    "$(exit 1) `ls` %s %n",
    "../../etc/passwd",
    "=1+1",
    "[/b] [red]",
]
PLAIN = "the old cat"
QUICK = ["search.beam=1", "search.max_length_ratio=0.2"]
Translate = Callable[..., str]


class Kind(NamedTuple):
    """Lines of one kind."""

    lines: Sequence[bytes]
    outcome: str
    """`blank`, `text`, or the line whose translation it has."""


def text(lines: Sequence[str]) -> list[bytes]:
    return [line.encode() for line in lines]


def around(signs: Sequence[str]) -> list[str]:
    return [f"the {sign} cat" for sign in signs]


KINDS: dict[str, Kind] = {
    "empty": Kind([b""] * 10, "blank"),
    "one blank": Kind(text(list(BLANKS)), "blank"),
    "blanks": Kind(text([sign * 50 for sign in BLANKS]), "blank"),
    "one invisible sign": Kind(text(list(INVISIBLE)), "blank"),
    "one control character": Kind(text(list(CONTROLS)), "blank"),
    "all of these": Kind(text([BLANKS + INVISIBLE + CONTROLS + "\0"]), "blank"),
    "controls in text": Kind(text([f"the{sign} cat" for sign in CONTROLS]), "text"),
    "invisible signs in text": Kind(text([f"the{sign} cat" for sign in INVISIBLE]), "text"),
    "10,000 words": Kind(text(["the old man saw the cat " * 1666 + "the old man saw"]), "text"),
    "10,000 words without an end": Kind(text(["cat sat " * 5000, "a. " * 10000]), "text"),
    "50,000 characters": Kind(text(["thecatsaton" * 4546, "x" * 50000, "." * 50000]), "text"),
    "symbols": Kind(text(SYMBOLS), "text"),
    "symbols in text": Kind(text(around(SYMBOLS)), "text"),
    "characters without a meaning": Kind(text(UNSEEN), "blank"),
    "such in text": Kind(text(around(UNSEEN)), "text"),
    "SentencePiece's space": Kind(text(["the▁old▁cat"]), PLAIN),
    "marks alone": Kind(text(MARKS), "text"),
    "marks in text": Kind(text(around(MARKS)), "text"),
    "many marks": Kind(text([mark * 200 for mark in MARKS]), "text"),
    "emoji": Kind(text(EMOJI), "text"),
    "from right to left": Kind(text(TO_THE_LEFT), "text"),
    "no UTF-8": Kind(NOT_UTF8, "text"),
    "no UTF-8 in text": Kind([b"the " + line + b" cat" for line in NOT_UTF8], "text"),
    "odd": Kind(text(ODD), "text"),
    "odd in text": Kind(text(around(ODD)), "text"),
    "line ends of Windows": Kind([f"{PLAIN}\r".encode()] * 6, PLAIN),
    "line ends of others": Kind(
        text([f"the{s}old{s}cat" for s in "\u2028\u2029\x85\x0b\x0c\r\0"]), PLAIN
    ),
    "a byte order mark": Kind(text([f"\ufeff{PLAIN}", "the \ufeffold cat"]), PLAIN),
    "plain": Kind(text([PLAIN, *LINES]), "text"),
}
ALL = [(name, line) for name, kind in KINDS.items() for line in kind.lines]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "model"
    save_model(folder, tiny_model(seed=3))
    return folder


@pytest.fixture
def translate(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Translate:
    def run_job(lines: Sequence[bytes], *, json: bool = False) -> str:
        content = b"".join(line + b"\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        run(Job(model, json=json, overrides=QUICK), Place(), torch.device("cpu"))
        return capsys.readouterr().out

    return run_job


def test_three_hundred_lines_give_what_the_table_says(translate: Translate) -> None:
    assert len(ALL) == 300
    output = translate([line for _, line in ALL])
    assert output.splitlines() == output.split("\n")[:-1], "nothing else ends a line"
    assert len(output.splitlines()) == 300
    (plain,) = translate([PLAIN.encode()]).splitlines()
    for (name, line), found in zip(ALL, output.splitlines(), strict=True):
        expected = KINDS[name].outcome
        if expected == "text":
            assert found.strip(), (name, line)
        else:
            assert found == {"blank": "", PLAIN: plain}[expected], (name, line)


def test_json_lines_tell_each_line_as_it_was(translate: Translate) -> None:
    chosen = [line for _, line in ALL if len(line) < 1000]
    records = [json.loads(line) for line in translate(chosen, json=True).splitlines()]
    sources = [record["source"] for record in records]
    assert sources == [line.decode("utf-8", "replace").removesuffix("\r") for line in chosen]


def test_what_looks_like_a_symbol_is_text() -> None:
    lines = [line.decode("utf-8", "replace") for _, line in ALL]
    for line, ids in zip(lines, tiny_vocabularies().source.encode(lines), strict=True):
        assert all(number == UNK or number >= NUM_SPECIAL for number in ids), line
