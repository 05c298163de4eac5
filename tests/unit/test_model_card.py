"""The card of a model folder: what it says is so, and no name makes anything else of it."""

import contextlib
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from safetensors.numpy import load_file

from seq2seq.config import DataConfig
from seq2seq.model_card import add_test_scores
from seq2seq.model_folder import Model, save_model
from seq2seq.translation import Translator
from tests.builders import tiny_model, variant

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1"
ODD = "a|b `c` *d* <!-- --> [e](f) \\ g_h_i &amp; $x$ #1 ~~j~~\n\n# k\u2028\x1b[1m"
SHOWN = "a|b `c` *d* <!-- --> [e](f) \\ g_h_i &amp; $x$ #1 ~~j~~\\n\\n# k\\u2028\\x1b[1m"


def described(model: Model, *, source: str = "en", target: str = "de", **facts: Any) -> Model:
    """The model, with these languages and facts."""
    data = DataConfig(source=source, target=target)
    return model._replace(config=model.config.model_copy(update={"data": data}), facts=facts)


def card_of(model: Model, folder: Path) -> str:
    save_model(folder, model)
    return (folder / "README.md").read_text(encoding="utf-8")


def parts_of(card: str) -> tuple[dict[str, Any], list[str], list[list[str]]]:
    """The front matter; headings, as they are read; and rows of all tables likewise."""
    front, text = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL).groups()  # pyright: ignore
    headings, rows, within = list[str](), list[list[str]](), ""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        within = token.type if token.type.endswith("_open") else within
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            read = "".join(child.content for child in token.children or [])
            if within == "heading_open":
                headings.append(read)
            elif within in ("th_open", "td_open"):
                rows[-1].append(read)
    return yaml.safe_load(front), headings, rows


def test_the_card_says_what_the_model_is(tmp_path: Path) -> None:
    model = described(
        tiny_model(model=variant(bidirectional_layers=1)),
        source="no",
        target="en_GB",
        step=12_000,
        validation={"BLEU": {"name": "BLEU", "value": 31.415, "signature": SIGNATURE}},
        data="0123abc",
    )
    card = card_of(model, tmp_path)
    front, headings, rows = parts_of(card)
    assert front == {
        "language": ["no", "en"],
        "pipeline_tag": "translation",
        "library_name": "seq2seq",
    }
    assert headings == ["Translation from no to en_GB", "Use", "Scores", "Fingerprints"]
    assert "those after step 12,000" in card
    said = {row[0]: row[1:] for row in rows}
    stored = load_file(tmp_path / "model.safetensors")
    assert said["parameters"] == [f"{sum(tensor.size for tensor in stored.values()):,}"]
    assert said["vocabulary"] == ["joint.model: 40 pieces"]
    assert said["embeddings"] == ["6 wide; one table for source, target and output"]
    assert said["encoder"] == [
        "2 LSTM layers, 4 wide in each direction, bidirectional (the lowest 1)"
    ]
    assert said["decoder"] == ["3 LSTM layers, 5 wide; layout gnmt"]
    assert said["attention"] == ["general"]
    assert said["BLEU"] == ["31.41", SIGNATURE]
    assert said["the prepared training data"] == ["0123abc"]
    for name in ("model.safetensors", "joint.model"):
        assert said[name] == [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()]


def test_an_average_and_a_base_are_told(tmp_path: Path) -> None:
    base = {"folder": "runs/old_one/model", "step": 3, "weights": "feed"}
    card = card_of(
        described(
            tiny_model(joint=False, model=variant(tied="none")), averaged=[500, 1000], base=base
        ),
        tmp_path,
    )
    assert "the mean of those after the steps 500, 1,000" in card
    assert r"began with the model runs/old\_one/model." in card
    rows = dict(row for row in parts_of(card)[2] if len(row) == 2)
    assert rows["vocabulary"] == "source.model: 40 pieces, target.model: 40 pieces"
    assert rows["the weights that the training began with"] == "feed"


def test_nothing_that_a_user_writes_is_markdown(tmp_path: Path) -> None:
    score = {"name": "BLEU", "value": 1.0, "signature": ODD}
    base = {"folder": ODD, "weights": ODD}
    facts: dict[str, Any] = {"validation": {"BLEU": score}, "data": ODD, "base": base}
    card = card_of(described(tiny_model(), source=ODD, target="x", **facts), tmp_path)
    add_test_scores(tmp_path, ODD, [("BLEU", 2.0, ODD)])
    plain = parts_of(card_of(described(tiny_model(), **facts), tmp_path / "plain"))
    front, headings, rows = parts_of(card)
    assert "language" not in front
    assert headings == [f"Translation from {SHOWN} to x", *plain[1][1:]]
    assert [len(row) for row in rows] == [len(row) for row in plain[2]]
    assert ["BLEU", "1.00", SHOWN] in rows
    assert ["the prepared training data", SHOWN] in rows
    with_test = parts_of((tmp_path / "README.md").read_text(encoding="utf-8"))
    assert with_test[1] == headings
    assert [row for row in with_test[2] if row not in rows] == [["BLEU", "2.00", SHOWN]]


def test_the_card_s_program_runs(tmp_path: Path) -> None:
    card = card_of(tiny_model(), tmp_path)
    (program,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program.replace("FOLDER", str(tmp_path)), {})
    (translation,) = Translator.load(tmp_path).translate(["A sentence."])
    assert printed.getvalue() == f"{translation.text}\n"


def test_a_test_score_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    card = card_of(tiny_model(), tmp_path)
    edited = card.replace("## Use", "It is for weather reports.\n\n## Use")
    path = tmp_path / "README.md"
    path.write_text(edited, encoding="utf-8")
    add_test_scores(tmp_path, "first", [("BLEU", 11.0, SIGNATURE)])
    add_test_scores(tmp_path, "second", [("BLEU", 22.0, SIGNATURE), ("chrF2", 33.0, "nc:6")])
    found = path.read_text(encoding="utf-8")
    assert [row for row in parts_of(found)[2] if row[0] in ("BLEU", "chrF2")] == [
        ["BLEU", "22.00", SIGNATURE],
        ["chrF2", "33.00", "nc:6"],
    ]
    assert "It is for weather reports." in found
    assert "second" in found
    assert "first" not in found


@pytest.mark.parametrize("card", [None, "my own card"])
def test_a_card_that_has_no_place_for_scores_stays(card: str | None, tmp_path: Path) -> None:
    save_model(tmp_path, tiny_model())
    path = tmp_path / "README.md"
    path.unlink()
    if card is not None:
        path.write_text(card)
    add_test_scores(tmp_path, "test", [("BLEU", 11.0, SIGNATURE)])
    assert path.read_text() == card if card else not path.exists()
