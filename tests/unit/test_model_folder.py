"""The model folder: what is saved comes back, and what is no model is named."""

import json
import os
import pickle
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
from seq2seq.translation import Translator
from seq2seq.vocabulary import Vocabularies, Vocabulary
from seq2seq.vocabulary_learning import train_vocabularies
from tests import builders
from tests.builders import LINES, TINY, batch_of, tiny_model

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
    names = ("README.md", "config.json", "joint.model", "model.safetensors")
    assert modes == dict.fromkeys(names, 0o644)


def test_a_second_save_replaces_the_folder_whole(folder: Path) -> None:
    (folder / "stray.txt").write_text("of the first model")
    second = tied_model("target", seed=1, joint=False)
    save_model(folder, second)
    names = {path.name for path in folder.iterdir()}
    vocabularies = {"source.model", "target.model"}
    assert names == {"README.md", "config.json", "model.safetensors", *vocabularies}
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


def both(first: Callable[[Path], None], second: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        first(folder)
        second(folder)

    return change


def forget_digests(description: Any) -> None:
    """Make a description like those that were written before vocabularies had digests in them."""
    del description["vocabularies"]


def other_vocabulary(*, size: int) -> bytes:
    lines = [line[::-1] for line in LINES]
    config = builders.vocabulary_config().model_copy(update={"size": size})
    return train_vocabularies(lines, lines, config).source.model


def cut_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "config missing": (remove("config.json"), "{folder} is no model folder (no readable config"),
    "no JSON": (write("config.json", b'{"format": 1,'), "{folder} is no model folder"),
    "no text": (write("config.json", b"\xff\xfe\0"), "{folder} is no model folder"),
    "no object": (
        write("config.json", b"[1]"),
        "{folder} has no format number, but this version reads the formats 1 and 2",
    ),
    "no format": (
        edit_config(lambda it: it.pop("format")),
        "{folder} has no format number, but this version reads the formats 1 and 2",
    ),
    "format of the future": (
        edit_config(lambda it: it.update(format=3)),
        "{folder} has format 3, but this version reads the formats 1 and 2",
    ),
    "format of something else": (
        edit_config(lambda it: it.update(format="x")),
        "{folder} has format x, but this version reads the formats 1 and 2",
    ),
    "format 1 of the first hours": (
        edit_config(lambda it: (it.update(format=1), it["config"].pop("monitoring"))),
        "{folder} was written by one of the first versions, whose networks can't be told",
    ),
    "no settings": (
        edit_config(lambda it: it.pop("config")),
        "{folder}/config.json is damaged: its config can't be read",
    ),
    "impossible settings": (
        edit_config(lambda it: it["config"]["model"].update(encoder_size=-1)),
        "{folder}/config.json is damaged: its config can't be read",
    ),
    "digests that are none": (
        edit_config(lambda it: it.update(vocabularies=["joint.model"])),
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
    "vocabulary of another model": (
        write("joint.model", other_vocabulary(size=40)),
        "the vocabulary {folder}/joint.model doesn't belong to the model in that folder",
    ),
    "vocabulary of another model and size": (
        write("joint.model", other_vocabulary(size=32)),
        "the vocabulary {folder}/joint.model doesn't belong to the model in that folder",
    ),
    "vocabulary of another size in an older folder": (
        both(edit_config(forget_digests), write("joint.model", other_vocabulary(size=32))),
        "the vocabulary {folder}/joint.model has 32 pieces, but the weights"
        " {folder}/model.safetensors are for 40: it may be another model's",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_in_a_sentence(damage: str, folder: Path) -> None:
    do, message = DAMAGES[damage]
    do(folder)
    with pytest.raises(ModelError, match=re.escape(message.format(folder=folder))) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_swapped_vocabularies_are_told_by_their_digests(tmp_path: Path) -> None:
    model = tied_model("none", joint=False)
    other = Vocabulary(other_vocabulary(size=40))
    model = model._replace(vocabularies=Vocabularies(other, model.vocabularies.target))
    save_model(tmp_path, model)
    source, target = tmp_path / "source.model", tmp_path / "target.model"
    target.write_bytes(source.read_bytes())
    with pytest.raises(ModelError, match=re.escape(f"{target} doesn't belong to the model")):
        load_model(tmp_path)


def test_a_folder_of_before_the_digests_is_read(folder: Path) -> None:
    edit_config(forget_digests)(folder)
    assert torch.equal(logits_of(load_model(folder).network), logits_of(tiny_model().network))


@pytest.mark.parametrize("again", [False, True], ids=["as stored", "written anew"])
def test_a_model_of_format_1_translates_as_it_did(again: bool, tmp_path: Path) -> None:
    """The folder, and what it says, are of the last commit whose networks had other names."""
    stored = Path(__file__).parents[1] / "data" / "model_format_1"
    said = json.loads((stored / "translations.json").read_text(encoding="utf-8"))
    folder = stored / "model"
    if again:
        folder = tmp_path / "model"
        save_model(folder, load_model(stored / "model"))
        assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["format"] == 2
    translator = Translator.load(folder)
    assert (translator.settings.beam, translator.settings.length_penalty) == (3, 0.8)
    found = translator.translate([entry["source"] for entry in said])
    assert [translation.text for translation in found] == [entry["text"] for entry in said]
    scores = [translation.score for translation in found]
    assert scores == pytest.approx([entry["score"] for entry in said], abs=1e-5)
    assert len(set(scores)) == len(said)


def test_a_late_model_of_format_1_is_read(folder: Path) -> None:
    """Format 1 had today's names before it was given up."""
    edit_config(lambda it: it.update(format=1))(folder)
    assert torch.equal(logits_of(load_model(folder).network), logits_of(tiny_model().network))


class Trap:
    """What, once it is unpickled, makes a file."""

    def __init__(self, sprung: Path):
        self.sprung = sprung

    def __reduce__(self) -> Any:
        return Path.touch, (self.sprung,)


def test_nothing_in_the_folder_is_run(folder: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    pickled = pickle.dumps(Trap(sprung))
    for name in ("model.bin", "pytorch_model.bin", "model.pt", "tokenizer.pkl"):
        (folder / name).write_bytes(pickled)
    for name in ("__init__.py", "modeling.py", "configuration.py", "conftest.py"):
        (folder / name).write_text(f"from pathlib import Path\nPath({str(sprung)!r}).touch()\n")
    edit_config(lambda it: it.update(auto_map={"AutoModel": "modeling.Model"}))(folder)
    assert Translator.load(folder).translate(["the cat"])[0].tokens
    (folder / "model.safetensors").write_bytes(pickled)
    with pytest.raises(ModelError, match="can't be read"):
        load_model(folder)
    assert not sprung.exists()
    pickle.loads(pickled)
    assert sprung.exists()


def test_loading_draws_no_weights(folder: Path) -> None:
    before = torch.get_rng_state()
    load_model(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_run_folder_leads_to_its_model(folder: Path) -> None:
    hint = re.escape(f"did you mean {folder}?")
    with pytest.raises(ModelError, match=hint):
        load_model(folder.parent)


def test_what_is_no_folder_is_no_model(folder: Path) -> None:
    for path in (folder / "config.json", folder / "nowhere"):
        with pytest.raises(ModelError, match=re.escape(f"{path} is no model folder")) as caught:
            load_model(path)
        assert "did you mean" not in str(caught.value)
