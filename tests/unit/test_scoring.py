"""Scores: the numbers and signatures of sacrebleu's own command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seq2seq.scoring import Score, score

REFERENCES = ("The cat sat on the mat.", "Two birds sang in a tall tree.", "It costs 3,50 €.")
HYPOTHESES = ("The cat sat on a mat.", "Two birds sang in a tall tree.", "It cost 3,50 € .")
CHINESE_REFERENCES = ("猫坐在垫子上。", "两只鸟在高高的树上唱歌。", "价格是3.50欧元。")
CHINESE_HYPOTHESES = ("猫坐在一个垫子上。", "两只鸟在树上唱歌。", "价格是3.50欧元。")


def by_command(
    folder: Path, hypotheses: tuple[str, ...], references: tuple[str, ...], *options: str
) -> list[dict[str, Any]]:
    """What `sacrebleu reference -i hypothesis -m bleu chrf` says."""
    files = (folder / "hypotheses", folder / "references")
    for file, lines in zip(files, (hypotheses, references), strict=True):
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", files[1], "-i", files[0], "-m", "bleu", "chrf"]
    done = subprocess.run([*command, "-w", "9", *options], capture_output=True, check=True)
    return json.loads(done.stdout)


def assert_same(found: Score, expected: dict[str, Any]) -> None:
    assert found.name == expected["name"]
    assert found.value == pytest.approx(expected["score"], abs=1e-8)
    assert found.signature == expected["signature"]


def test_the_numbers_are_those_of_sacrebleu_on_the_command_line(tmp_path: Path) -> None:
    scores = score(HYPOTHESES, REFERENCES, language="de")
    bleu, chrf = by_command(tmp_path, HYPOTHESES, REFERENCES)
    assert_same(scores.bleu, bleu)
    assert_same(scores.chrf, chrf)
    assert "tok:13a" in scores.bleu.signature
    assert 50 < scores.bleu.value < 90


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [("zh", "zh"), ("zh-Hant", "zh"), ("ZH_TW", "zh"), ("ja", "char"), ("th", "char")],
)
def test_languages_without_spaces_have_tokenizers_of_their_own(
    language: str, tokenizer: str, tmp_path: Path
) -> None:
    scores = score(CHINESE_HYPOTHESES, CHINESE_REFERENCES, language=language)
    options = ("--tokenize", tokenizer)
    bleu, chrf = by_command(tmp_path, CHINESE_HYPOTHESES, CHINESE_REFERENCES, *options)
    assert_same(scores.bleu, bleu)
    assert_same(scores.chrf, chrf)
    assert f"tok:{tokenizer}" in scores.bleu.signature


def test_exact_matches_are_counted_by_line() -> None:
    scores = score(HYPOTHESES, REFERENCES, language="en")
    assert scores.exact.value == pytest.approx(100 / 3)
    assert scores.exact.signature == "case:mixed|lines:3"
    assert score(["the cat."], ["The cat."], language="en").exact.value == 0.0


def test_perfect_and_empty_translations() -> None:
    assert [entry.value for entry in score(REFERENCES, REFERENCES, language="de")] == (
        pytest.approx([100.0, 100.0, 100.0])
    )
    assert [entry.value for entry in score([""] * 3, REFERENCES, language="de")] == [0.0, 0.0, 0.0]
