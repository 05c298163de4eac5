"""`seq2seq shortlist`: what it prints, writes and refuses; commands that use what it writes."""

from pathlib import Path

import pyarrow
import pytest

from seq2seq.data.prepared import PreparedData, split_path
from seq2seq.model_folder import Model, load_model, new_network, save_model
from seq2seq.shortlist import FILE, Shortlist
from tests.integration.conftest import Command, make_config, prepared


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model that has learnt nothing, beside its data."""
    config = make_config(tmp_path, search={"shortlist": True})
    prepared(config)
    vocabularies = PreparedData.open(config.data.folder).vocabularies
    network = new_network(config, vocabularies)
    save_model(tmp_path / "model", Model(network, vocabularies, config, {}))
    return tmp_path / "model"


def test_a_shortlist_is_made_shown_and_used(model: Path, command: Command) -> None:
    without = command("evaluate", model)
    assert without.status == 2
    assert f"make it with `seq2seq shortlist {model}`" in without.messages
    ended = command("shortlist", model)
    assert ended.status == 0
    rows = {line.split("  ")[0]: line.split() for line in ended.output.splitlines()}
    # So few pieces are all among the most frequent ones, but for those that training hasn't.
    assert rows["a sentence"][-1] == rows["a batch of 4,000 positions"][-1] == "100.00%"
    pieces = len(load_model(model).vocabularies.target)
    assert Shortlist.load(model).tokens([[4]]) == list(range(pieces))
    assert command("evaluate", model).status == 0
    assert command("translate", model, stdin=b"The dog sees the cat.\n").status == 0


def empty_training(folder: Path) -> None:
    path = split_path(folder, "train")
    table = pyarrow.ipc.open_file(str(path)).read_all()
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as out:
        out.write_table(table[:0])


def test_what_it_cannot_be_learnt_from_is_said(
    model: Path, tmp_path: Path, command: Command
) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    other.mkdir()
    smaller = make_config(other, vocabulary={"size": 40})
    prepared(smaller)
    for words, said in (
        ([data], f"{data} is no model folder"),
        ([model, "--data", tmp_path], f"{tmp_path} is no data folder"),
        ([model, "--data", smaller.data.folder], "other vocabularies than the model"),
    ):
        ended = command("shortlist", *words)
        assert ended.status == 2
        assert said in ended.messages
    empty_training(data)
    ended = command("shortlist", model)
    assert (ended.status, "the training set of" in ended.messages) == (2, True)
    assert not (model / FILE).exists()
