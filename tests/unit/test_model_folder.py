"""The model folder: what is saved comes back, and what is no model is named."""

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from seq2seq.errors import ModelError
from seq2seq.model.network import Network
from seq2seq.model_folder import Model, load_model, save_model
from tests import builders
from tests.builders import TINY, batch_of, tiny_model

Tied = Literal["all", "target", "none"]


def logits_of(network: Network) -> Tensor:
    return builders.logits_of(network, batch_of(([4, 5, 6], [7, 8]), ([5], [4, 4, 4]))).detach()


def tied_model(tied: Tied, *, seed: int = 0, joint: bool = True) -> Model:
    return tiny_model(seed, TINY.model_copy(update={"tied": tied}), joint=joint)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a model, in a run folder."""
    save_model(tmp_path / "run" / "model", tiny_model())
    return tmp_path / "run" / "model"


@pytest.mark.parametrize(
    ("tied", "joint"),
    [("all", True), ("target", True), ("none", True), ("target", False), ("none", False)],
)
def test_what_is_saved_is_loaded(tied: Tied, joint: bool, tmp_path: Path) -> None:
    model = tied_model(tied, joint=joint)
    save_model(tmp_path / "model", model)
    torch.manual_seed(1)
    loaded = load_model(tmp_path / "model")
    assert torch.equal(logits_of(loaded.network), logits_of(model.network))
    assert not loaded.network.training
    assert loaded.config == model.config
    assert loaded.facts == model.facts
    assert loaded.vocabularies.joint == joint
    for ours, theirs in zip(model.vocabularies, loaded.vocabularies, strict=True):
        assert theirs.model == ours.model
    assert (loaded.network.source_embedding.weight is loaded.network.output.weight) == (
        tied == "all"
    )


@pytest.mark.parametrize("tied", ["all", "target", "none"])
def test_a_tied_tensor_is_stored_once(tied: Tied, tmp_path: Path) -> None:
    model = tied_model(tied)
    save_model(tmp_path / "model", model)
    path = tmp_path / "model" / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        stored: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    parameters = list(model.network.parameters())
    assert len(stored) == len(parameters)
    counted = sum(parameter.numel() for parameter in parameters)
    assert sum(tensor.numel() for tensor in stored.values()) == counted
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert path.stat().st_size == 8 + header + 4 * counted


def test_everybody_may_read_a_model_folder(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_model(tmp_path / "model", tiny_model())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o755
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").iterdir()
    }
    assert modes == dict.fromkeys(("config.json", "joint.model", "model.safetensors"), 0o644)


def test_a_second_save_replaces_the_folder_whole(folder: Path) -> None:
    (folder / "stray.txt").write_text("of the first model")
    second = tied_model("target", seed=1, joint=False)
    save_model(folder, second)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "source.model", "target.model"}
    assert torch.equal(logits_of(load_model(folder).network), logits_of(second.network))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_the_old_model(folder: Path) -> None:
    with pytest.raises(TypeError):
        save_model(folder, tiny_model(seed=1)._replace(facts={"no JSON": object()}))
    assert torch.equal(logits_of(load_model(folder).network), logits_of(tiny_model().network))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def edit_config(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Make something that changes config.json."""

    def edit(folder: Path) -> None:
        description = json.loads((folder / "config.json").read_text())
        change(description)
        (folder / "config.json").write_text(json.dumps(description))

    return edit


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def overwrite(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return overwrite


def remove(name: str) -> Callable[[Path], None]:
    def unlink(folder: Path) -> None:
        (folder / name).unlink()

    return unlink


def cut_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "config missing": (remove("config.json"), "{folder} is no model folder (no readable config"),
    "no JSON": (write("config.json", b'{"format": 1,'), "{folder} is no model folder"),
    "no text": (write("config.json", b"\xff\xfe\0"), "{folder} is no model folder"),
    "no object": (write("config.json", b"[1]"), "{folder} has format None, but this version reads"),
    "format of the future": (
        edit_config(lambda it: it.update(format=99)),
        "{folder} has format 99, but this version reads format 2",
    ),
    "no settings": (
        edit_config(lambda it: it.pop("config")),
        "{folder}/config.json is damaged: its config can't be read",
    ),
    "impossible settings": (
        edit_config(lambda it: it["config"]["model"].update(encoder_size=-1)),
        "{folder}/config.json is damaged: its config can't be read",
    ),
    "settings of another network": (
        edit_config(lambda it: it["config"]["model"].update(encoder_size=7)),
        "the weights {folder}/model.safetensors don't fit the network",
    ),
    "settings of a deeper network": (
        edit_config(lambda it: it["config"]["model"].update(decoder_layers=5)),
        "the weights {folder}/model.safetensors don't fit the network",
    ),
    "weights missing": (
        remove("model.safetensors"),
        "the weights {folder}/model.safetensors can't be read",
    ),
    "half the weights": (cut_weights, "the weights {folder}/model.safetensors can't be read"),
    "empty weights": (
        write("model.safetensors", b""),
        "the weights {folder}/model.safetensors can't be read",
    ),
    "vocabulary missing": (
        remove("joint.model"),
        "the vocabulary {folder}/source.model can't be read: No such file",
    ),
    "vocabulary damaged": (
        write("joint.model", b"text"),
        "{folder}/joint.model is not a SentencePiece model, or is damaged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_in_a_sentence(damage: str, folder: Path) -> None:
    do, message = DAMAGES[damage]
    do(folder)
    with pytest.raises(ModelError, match=re.escape(message.format(folder=folder))) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_a_run_folder_leads_to_its_model(folder: Path) -> None:
    hint = re.escape(f"did you mean {folder}?")
    with pytest.raises(ModelError, match=hint):
        load_model(folder.parent)


def test_what_is_no_folder_is_no_model(folder: Path) -> None:
    for path in (folder / "config.json", folder / "nowhere"):
        with pytest.raises(ModelError, match=re.escape(f"{path} is no model folder")) as caught:
            load_model(path)
        assert "did you mean" not in str(caught.value)
