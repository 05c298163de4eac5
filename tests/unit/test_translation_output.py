"""What is written of a translation: text, lists in Moses's form, JSON lines, scores."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from seq2seq.translation import Request, Translation, Translator
from seq2seq.translation_input import Line, Window
from seq2seq.translation_output import Form, Notes, Writer
from tests.builders import tiny_model

LINE = Line(Request("ein\u2028Hund"))
BEST = Translation(
    "a dog",
    [7, 8],
    score=-0.41236,
    log_probability=-1.2370812345,
    source_pieces=("▁ein", "▁Hund"),
    pieces=("▁a", "▁dog"),
    attention=((0.75, 0.25), (1 / 3, 2 / 3)),
)
OTHER = BEST._replace(text="one dog", score=-2.0, pieces=("▁one", "▁dog"))


class Known(Translator):
    """Gives what is known."""

    def __init__(self, *found: Translation, scores: Sequence[Sequence[Translation]] = ()):
        model = tiny_model()
        super().__init__(model.network, model.vocabularies, model.config.search)
        self.found, self.scores = list(found), [list(entry) for entry in scores]

    def translate(self, lines: Sequence[str | Request]) -> list[Translation]:
        return self.found

    def score(
        self, pairs: Sequence[tuple[str | Request, Sequence[str]]]
    ) -> list[list[Translation]]:
        return self.scores


def written(form: Form, *found: Translation, lines: Sequence[Line] = (), start: int = 0) -> str:
    writer = Writer(Known(*found), form)
    content, _ = writer.write(Window(start, lines or [LINE] * len(found)))
    return content.decode()


def test_text_has_a_line_for_each_line() -> None:
    blank = Translation("", [], 0.0)
    assert written(Form(), BEST, blank, OTHER) == "a dog\n\none dog\n"
    assert written(Form(alignment=True), BEST, blank) == "a dog ||| 0-0 1-1\n ||| \n"


def test_several_hypotheses_are_written_as_moses_writes_them() -> None:
    found = BEST._replace(alternatives=(OTHER,)), Translation("", [], 0.0)
    assert written(Form(nbest=True), *found, start=1024) == (
        "1024 ||| a dog ||| -0.4124\n1024 ||| one dog ||| -2.0000\n1025 |||  ||| 0.0000\n"
    )
    with_alignment = written(Form(nbest=True, alignment=True), found[0])
    assert with_alignment.splitlines()[0] == "0 ||| a dog ||| -0.4124 ||| 0-0 1-1"


FACTS: dict[str, Any] = {
    "text": "a dog",
    "score": -0.41236,
    "log_probability": -1.237081,
    "pieces": ["▁a", "▁dog"],
}
ALIGNED = {"alignment": "0-0 1-1", "attention": [[0.75, 0.25], [0.3333, 0.6667]]}
OTHER_FACTS = {**FACTS, "text": "one dog", "score": -2.0, "pieces": ["▁one", "▁dog"]}


def test_json_lines_say_all() -> None:
    common = {"source": "ein\u2028Hund", "source_pieces": ["▁ein", "▁Hund"]}
    text = written(Form(json=True), BEST, BEST._replace(unmet=("cat",)))
    assert text.splitlines() == text.split("\n")[:-1], "nothing else ends a line"
    first, second = map(json.loads, text.splitlines())
    assert first == {**common, **FACTS}
    assert second == {**common, **FACTS, "unmet": ["cat"]}
    found = BEST._replace(alternatives=(OTHER,))
    assert json.loads(written(Form(json=True, nbest=True), found)) == {
        **common,
        **FACTS,
        "hypotheses": [FACTS, OTHER_FACTS],
    }
    assert json.loads(written(Form(json=True, alignment=True), BEST)) == {
        **common,
        **FACTS,
        **ALIGNED,
    }


def scored(form: Form, *lines: Line, scores: Sequence[Sequence[float]]) -> str:
    found = [[BEST._replace(score=score) for score in entry] for entry in scores]
    content, _ = Writer(Known(scores=found), form).write(Window(0, lines))
    return content.decode()


def test_scores_are_those_of_the_text_that_was_given() -> None:
    one, several = LINE._replace(targets=["A  dog"]), LINE._replace(targets=["a", "b", "c"])
    scores = [[-0.5], [-3.0, -1.25, -2.0]]
    assert scored(Form(scored=True), one, several, scores=scores) == "-0.5000\n-1.2500\n"
    text = scored(Form(scored=True, json=True), one, several, scores=scores)
    first, second = map(json.loads, text.splitlines())
    assert (first["text"], first["score"]) == ("A  dog", -0.5)
    assert "hypotheses" not in first
    assert (second["text"], second["score"]) == ("b", -1.25)
    hypotheses = [(entry["text"], entry["score"]) for entry in second["hypotheses"]]
    assert hypotheses == [("b", -1.25), ("c", -2.0), ("a", -3.0)]


def test_what_is_to_be_said_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [LINE, LINE._replace(is_damaged=True), LINE._replace(is_damaged=True)]
    found = BEST, BEST, BEST._replace(unmet=("cat",))
    _, notes = Writer(Known(*found), Form()).write(Window(100, lines))
    assert notes == Notes(3, 2, 102, 1, 103)
    together = Notes(100).with_more(notes).with_more(notes)
    assert together == Notes(106, 4, 102, 2, 103)
    Notes(5).tell()
    assert capsys.readouterr().err == ""
    together.tell()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("lines that were no UTF-8: 4, the first of them line 102")
    assert second.startswith("translations that lack what was asked for: 2, the first of them of l")
    assert "line 103" in second
