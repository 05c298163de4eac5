"""Scores side by side, against numbers computed by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from seq2seq import evaluation
from seq2seq.comparison import names, read_entry, show_comparison
from seq2seq.config import Config, SearchConfig
from seq2seq.errors import DataError
from seq2seq.model_description import ModelDescription
from seq2seq.model_folder import save_model
from seq2seq.scoring import score
from tests.builders import tiny_model


def write_score(
    path: Path, bleu: float, *, sha: str = "ab", chrf: str = "chrf", beam: int = 5
) -> Path:
    scores = {
        "BLEU": {"name": "BLEU", "value": bleu, "signature": "bleu|tok:13a"},
        "chrF2": {"name": "chrF2", "value": bleu + 20, "signature": chrf},
        "exact": {"name": "exact", "value": bleu / 2, "signature": "lines:3"},
    }
    report = {"test": {"sha256": sha}, "scores": scores, "search": {"beam": beam}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report))
    return path


def run_with(folder: Path, bleu: float, beam: int = 5, **settings: Any) -> Path:
    """A run's score beside its model."""
    path = write_score(folder / "model" / "score.json", bleu, beam=beam)
    settings["training"] = {"folder": str(folder)} | settings.get("training", {})
    ModelDescription(Config.model_validate(settings), {}).save(folder / "model")
    return path


def shown(capsys: pytest.CaptureFixture[str], *paths: Path) -> list[list[str]]:
    show_comparison([read_entry(path) for path in paths])
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_best_is_first_with_the_settings_that_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        run_with(tmp_path / "sweep" / "narrow", 30.004, model={"encoder_size": 64}),
        run_with(tmp_path / "sweep" / "wide", 31.5, model={"encoder_size": 128}),
        write_score(tmp_path / "sweep" / "other.json", 12),
    ]
    table = shown(capsys, *paths)
    assert table[:4] == [
        ["scores", "BLEU", "chrF2", "exact", "%", "settings"],
        ["wide", "31.50", "51.50", "15.75", "model.encoder_size=128"],
        ["narrow", "30.00", "50.00", "15.00", "model.encoder_size=64"],
        ["other.json", "12.00", "32.00", "6.00"],
    ]
    assert table[-4:] == [
        ["score", "signature"],
        ["BLEU", "bleu|tok:13a"],
        ["chrF2", "chrf"],
        ["exact", "lines:3"],
    ]
    assert not [line for line in table if "±" in line]


def test_the_search_is_that_of_the_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = run_with(tmp_path / "a", 20, beam=1), run_with(tmp_path / "b", 21)
    table = shown(capsys, one, other)
    assert [line[-1] for line in table[1:3]] == ["search.beam=5", "search.beam=1"]


def test_settings_of_another_form_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = {"kind": "plateau"}
    one = run_with(tmp_path / "a", 20, training={"optimizer": {"schedule": schedule}})
    table = shown(capsys, one, run_with(tmp_path / "b", 10))
    assert "training.optimizer.schedule.kind=plateau" in table[1]
    assert not {"null", "None"} & set(" ".join(table[2]).split("="))


def test_seeds_alone_give_mean_and_standard_deviation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 1, 2 and 6: the mean is 3, the squares of the distances are 4, 1 and 9: 14 / 2 = 7."""
    paths = [run_with(tmp_path / f"{seed}", [1, 2, 6][seed], seed=seed) for seed in range(3)]
    table = shown(capsys, *paths)
    assert ["2", "6.00", "26.00", "3.00", "seed=2"] in table
    assert ["3", "seeds", "BLEU", "chrF2", "exact", "%"] in table
    row = ["mean", "±", "sd", "3.00", "±", "2.65", "23.00", "±", "2.65", "1.50", "±", "1.32"]
    assert row in table
    paths.append(run_with(tmp_path / "other", 3, seed=4, model={"encoder_size": 32}))
    assert not [line for line in shown(capsys, *paths) if "mean" in line]


def test_what_evaluate_writes_is_read(tmp_path: Path) -> None:
    model = tiny_model()
    save_model(tmp_path / "model", model)
    path, search = tmp_path / "model" / "score.json", SearchConfig(beam=4)
    scores = score(["a b c d e", "x"], ["a b c d e", "y"], language="de")
    test_set = evaluation.TestSet("a test", ["1", "2"], ["a b c d e", "y"], [("en", "de")] * 2)
    found = evaluation.Evaluation(scores, {})
    evaluation.write_scores(path, found, model, test_set, search)
    entry = read_entry(path)
    assert entry.test_set == test_set.digest()
    assert entry.scores == {one.name: one.value for one in scores}
    assert entry.signatures == {one.name: one.signature for one in scores}
    assert entry.settings is not None
    assert entry.settings["search.beam"] == 4
    assert entry.settings["model.decoder_size"] == model.config.model.decoder_size


def test_one_score_is_a_table_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = shown(capsys, run_with(tmp_path / "a", 20))
    assert table[1] == ["a", "20.00", "40.00", "10.00"]


def test_names_say_what_differs() -> None:
    def short(*paths: str) -> list[str]:
        return names([Path(path) for path in paths])

    assert short("runs/a/model/score.json", "runs/b/model/score.json") == ["a", "b"]
    assert short("runs/a/x/model/score.json", "runs/a/model/score.json") == ["a/x", "a"]
    assert short("runs/a.json", "/tmp/score.json") == ["runs/a.json", "/tmp/score.json"]
    assert short("model/score.json", "score.json") == [".", "score.json"]
    assert short("a/model/score.json", "a/model/score.json") == ["a", "a"]


def test_scores_of_different_text_are_refused(tmp_path: Path) -> None:
    one = write_score(tmp_path / "a.json", 1)
    other = write_score(tmp_path / "b.json", 1, sha="cd")
    with pytest.raises(DataError, match=rf"^{one} and {other} are scores on different test sets"):
        show_comparison([read_entry(one), read_entry(other)])


def test_scores_by_different_rules_are_refused(tmp_path: Path) -> None:
    one = write_score(tmp_path / "a.json", 1)
    other = write_score(tmp_path / "b.json", 1, chrf="chrf|nw:2")
    with pytest.raises(DataError, match=r"scored differently \(chrF2: chrf and chrf\|nw:2\)"):
        show_comparison([read_entry(one), read_entry(other)])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"scores": {}}', '{"scores": null}', "3"])
def test_what_is_no_score_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "score.json").write_text(content)
    with pytest.raises(DataError, match=rf"^{tmp_path / 'score.json'} is no score file"):
        read_entry(tmp_path / "score.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json can't be read: No such file"):
        read_entry(tmp_path / "none.json")
