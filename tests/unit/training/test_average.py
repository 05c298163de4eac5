"""Means of checkpoints, by hand, and what can't be averaged."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seq2seq.errors import ModelError, UserError
from seq2seq.model_folder import Model, load_model, save_model
from seq2seq.training.average import average_checkpoints, choose_checkpoints
from seq2seq.training.checkpoint import checkpoint_path, write_checkpoint
from tests.builders import tiny_model

FACTS = {"step": 20, "data": "fingerprint", "base": {"step": 3}, "validation": {}}


def filled(model: Model, value: float) -> dict[str, Tensor]:
    """Weights that are all alike."""
    return {name: torch.full_like(p, value) for name, p in model.network.named_parameters()}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a model, and checkpoints of the steps 10, 20 and 30."""
    folder = tmp_path / "run"
    model = tiny_model()._replace(facts=FACTS)
    save_model(folder / "model", model)
    for step in (10, 20, 30):
        write(folder, step, weights=filled(model, 1 + step / 3))
    return folder


def write(folder: Path, step: int, **changes: Any) -> Path:
    path = checkpoint_path(folder / "checkpoints", step)
    content = {"data": "fingerprint", "state": {"step": step}, "average": None, "optimizer": {}}
    write_checkpoint(path, content | changes)
    return path


def test_the_mean_is_taken_in_float64_and_stored_in_float32(run: Path, tmp_path: Path) -> None:
    ones = filled(load_model(run / "model"), 1.0)
    values = [1.0, 2**-24, 2**-24, 2**-24]  # of which each is lost in a sum in float32
    paths = [
        write(run, 40 + number, weights={name: value * one for name, one in ones.items()})
        for number, value in enumerate(values)
    ]
    average_checkpoints(paths, tmp_path / "mean")
    for weights in load_model(tmp_path / "mean").network.parameters():
        assert weights.dtype == torch.float32
        assert torch.equal(weights, torch.full_like(weights, (1 + 3 * 2**-24) / 4))


def test_all_but_the_weights_is_the_models(run: Path, tmp_path: Path) -> None:
    average_checkpoints(choose_checkpoints([run], None), tmp_path / "mean")
    before, mean = load_model(run / "model"), load_model(tmp_path / "mean")
    assert mean.config == before.config
    assert mean.vocabularies.source.names == before.vocabularies.source.names
    assert mean.facts == {"averaged": [10, 20, 30], "data": "fingerprint", "base": {"step": 3}}
    for name, weights in filled(before, 1 + 20 / 3).items():
        torch.testing.assert_close(dict(mean.network.named_parameters())[name], weights)


def test_of_a_run_with_an_average_the_averages_are_averaged(run: Path, tmp_path: Path) -> None:
    model = load_model(run / "model")
    paths = [
        write(run, step, weights=filled(model, 99.0), average=filled(model, float(step)))
        for step in (1, 4)
    ]
    average_checkpoints(paths, tmp_path / "mean")
    weights = next(load_model(tmp_path / "mean").network.parameters())
    assert torch.equal(weights, torch.full_like(weights, 2.5))


def test_the_newest_are_chosen(run: Path) -> None:
    def steps(named: list[Path], last: int | None) -> list[str]:
        return [path.stem for path in choose_checkpoints(named, last)]

    all_of_them = ["step-00000010", "step-00000020", "step-00000030"]
    assert steps([run], None) == all_of_them
    assert steps([run], 2) == all_of_them[1:]
    files = [checkpoint_path(run / "checkpoints", step) for step in (30, 10)]
    assert choose_checkpoints(files, None) == files


def test_a_checkpoint_counts_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run / "checkpoints")
    names = ("step-00000010.ckpt", "step-00000030.ckpt", "../checkpoints/step-00000010.ckpt")
    average_checkpoints([Path(name) for name in names], tmp_path / "mean")
    assert load_model(tmp_path / "mean").facts["averaged"] == [10, 30]


def lose_the_model(run: Path) -> None:
    (run / "model").rename(run / "elsewhere")


def damage(run: Path) -> None:
    path = checkpoint_path(run / "checkpoints", 20)
    path.write_bytes(path.read_bytes()[:-1])


def change_the_data(run: Path) -> None:
    write(run, 20, weights=filled(tiny_model(), 1.0), data="another")


def change_the_network(run: Path) -> None:
    weights = filled(tiny_model(), 1.0)
    write(run, 20, weights=weights | {"output.bias": weights["output.bias"][:-1]})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lose_the_model, "needs the vocabulary of the run's model: .*model is no model folder"),
        (damage, "step-00000020.ckpt is damaged"),
        (change_the_data, "step-00000020.ckpt is of another run than .*model: their data differs"),
        (change_the_network, "step-00000020.ckpt is of .* their networks differ"),
    ],
)
def test_what_can_not_be_averaged_is_said(
    run: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    change(run)
    with pytest.raises(ModelError, match=said) as caught:
        average_checkpoints(choose_checkpoints([run], None), tmp_path / "mean")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mean").exists()


def test_checkpoints_of_two_runs_are_refused(run: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", 10, weights={})
    paths = [checkpoint_path(run / "checkpoints", 10), other]
    with pytest.raises(ModelError, match=f"{re.escape(str(other))} are of two runs"):
        average_checkpoints(paths, tmp_path / "mean")


def test_a_number_has_no_effect_on_files(run: Path) -> None:
    paths = [checkpoint_path(run / "checkpoints", step) for step in (10, 20)]
    with pytest.raises(UserError, match="--last has no effect on checkpoint files"):
        choose_checkpoints(paths, 2)


def test_nothing_is_replaced(run: Path, tmp_path: Path) -> None:
    before = (run / "model" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="model is there already: choose another --output"):
        average_checkpoints(choose_checkpoints([run], None), run / "model")
    assert (run / "model" / "model.safetensors").read_bytes() == before
