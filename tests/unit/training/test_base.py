"""What a run takes over from a base: rows of shared pieces, and which parameters are a part's."""

from pathlib import Path
from typing import Literal

import pytest
import torch

from seq2seq.config import Config, ModelConfig
from seq2seq.model_folder import Model, new_network, save_model
from seq2seq.training.base import freeze, start_from_base, with_rows
from seq2seq.training.state import RunState
from seq2seq.vocabulary import (
    NUM_SPECIAL,
    Vocabularies,
    Vocabulary,
    shared_pieces,
)
from seq2seq.vocabulary_learning import train_vocabularies
from tests.builders import LINES, TINY, tiny_model, tiny_network, vocabulary_config

Tied = Literal["all", "target", "none"]
NEW_LINES = ("the cat ran to Ω", "a red ☃ sat on the house", "old birds saw the ☃")
TYINGS: list[tuple[Tied, bool]] = [
    ("all", True),
    ("target", True),
    ("none", True),
    ("target", False),
    ("none", False),
]


def learn(source: tuple[str, ...], target: tuple[str, ...], *, joint: bool) -> Vocabularies:
    return train_vocabularies(source, target, vocabulary_config(joint=joint))


def test_rows_are_put_where_their_pieces_are() -> None:
    fresh = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    rows = with_rows(fresh, torch.tensor([[10.0], [20.0], [30.0]]), {0: 0, 3: 1})
    assert rows.tolist() == [[10], [2], [3], [20]]
    assert fresh.tolist() == [[1], [2], [3], [4]]


def test_shared_pieces_are_those_of_one_name() -> None:
    old = learn(LINES, LINES, joint=True).source
    new = learn(NEW_LINES, LINES, joint=True).source
    shared = shared_pieces(old, new)
    assert [shared[special] for special in range(NUM_SPECIAL)] == list(range(NUM_SPECIAL))
    assert {
        new.pieces([number])[0]: old.pieces([place])[0] for number, place in shared.items()
    } == {name: name for name in {*old.pieces(range(len(old)))} & {*new.pieces(range(len(new)))}}
    assert NUM_SPECIAL < len(shared) < len(new)


@pytest.mark.parametrize(("tied", "joint"), TYINGS)
def test_with_an_own_vocabulary_shared_rows_are_the_bases_and_others_fresh(
    tied: Tied, joint: bool, tmp_path: Path
) -> None:
    base = _base(tmp_path, tied, joint=joint)
    own = learn(NEW_LINES, NEW_LINES[::-1] if joint else LINES[:3] + NEW_LINES, joint=joint)
    config = _config(tmp_path, base, own)
    assert config.base is not None
    weights = start_from_base(config, config.base, "")["weights"]

    torch.manual_seed(config.seed)
    fresh = dict(new_network(config, own).named_parameters())
    learnt = dict(base.network.named_parameters())
    assert weights.keys() == fresh.keys() == learnt.keys()
    per_piece = {
        "source_embedding.weight": (base.vocabularies.source, own.source),
        "target_embedding.weight": (base.vocabularies.target, own.target),
        "output.weight": (base.vocabularies.target, own.target),
        "output.bias": (base.vocabularies.target, own.target),
    }
    kinds: set[bool] = set()
    for name, tensor in weights.items():
        if name not in per_piece:
            assert torch.equal(tensor, learnt[name]), name
            continue
        old, new = per_piece[name]
        assert len(tensor) == len(new)
        for number, piece in enumerate(_names(new)):
            known = piece in _names(old)
            kinds.add(known)
            row = learnt[name][_names(old).index(piece)] if known else fresh[name][number]
            assert torch.equal(tensor[number], row), (name, piece)
    assert kinds == {True, False}


def _names(vocabulary: Vocabulary) -> list[str]:
    return vocabulary.pieces(range(len(vocabulary)))


def _base(folder: Path, tied: Tied, *, joint: bool) -> Model:
    model = tiny_model(3, TINY.model_copy(update={"tied": tied}), joint=joint)
    save_model(folder / "base", model)
    return model


def _config(folder: Path, base: Model, own: Vocabularies) -> Config:
    (folder / "data").mkdir()
    own.save(folder / "data")
    return Config.model_validate(
        {
            "base": {"model": folder / "base", "vocabulary": "own"},
            "data": {"folder": folder / "data"},
            "model": base.config.model,
            "vocabulary": base.config.vocabulary,
            "training": {"folder": folder / "run"},
        }
    )


def test_with_the_bases_vocabulary_all_weights_are_the_bases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = _base(tmp_path, "all", joint=True)
    config = _config(tmp_path, base, base.vocabularies)
    section = config.base
    assert section is not None
    start = start_from_base(config, section.model_copy(update={"vocabulary": "base"}), "")
    for name, parameter in base.network.named_parameters():
        assert torch.equal(start["weights"][name], parameter)
    state = RunState.from_plain(start["state"])
    assert (state.step, state.schedule_step, state.position) == (0, 0, (0, 0))
    assert state.base is not None
    assert state.base["step"] == 7
    assert start["optimizer"] is None
    assert f"starting from the model {tmp_path / 'base'} (step 7)\n" in capsys.readouterr().err


@pytest.mark.parametrize("tied", ["all", "target", "none"])
def test_every_parameter_belongs_to_one_part(tied: Tied) -> None:
    model = ModelConfig.model_validate(TINY.model_dump() | {"tied": tied})
    total = len(list(tiny_network(model=model).parameters()))
    frozen = 0
    for part in ("embeddings", "encoder", "decoder"):
        network = tiny_network(model=model)
        freeze(network, (part,))
        frozen += sum(not parameter.requires_grad for parameter in network.parameters())
        assert network.output.weight.requires_grad == (
            part != ("decoder" if tied == "none" else "embeddings")
        )
        assert network.output.bias.requires_grad == (part != "decoder")
    assert frozen == total
