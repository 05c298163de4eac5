"""What training and evaluation read from a data folder."""

from collections.abc import Callable
from pathlib import Path

import numpy
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import Config
from seq2seq.data.prepare import prepare
from seq2seq.data.prepared import MANIFEST, PreparedData, Sentences
from seq2seq.errors import DataError, ModelError

MakeConfig = Callable[..., Config]
Pairs = list[tuple[str, str]]
IDS = pyarrow.list_(pyarrow.uint32())


@pytest.fixture
def folder(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose splits are several record batches each."""
    monkeypatch.setattr("seq2seq.data.training_set._CHUNK", 4)
    monkeypatch.setattr("seq2seq.data.training_set._CHUNKS", 1)
    config = make_config(validation=[("one", "eins"), ("", "zwei"), ("is", ""), *[("a", "d")] * 7])
    prepare(config)
    return config.data.folder


def as_lists(sentences: Sentences) -> list[list[int]]:
    return [sentence.tolist() for sentence in sentences]


@settings(deadline=None)
@given(
    chunks=st.lists(
        st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=4), max_size=4), max_size=4
    )
)
def test_sentences_in_any_chunks_are_the_lists(chunks: list[list[list[int]]]):
    sentences = Sentences(pyarrow.chunked_array(chunks, IDS))
    plain = [sentence for chunk in chunks for sentence in chunk]
    assert len(sentences) == len(plain)
    assert as_lists(sentences) == plain
    assert [sentences[index].tolist() for index in range(len(plain))] == plain
    assert sentences.lengths.tolist() == [len(sentence) for sentence in plain]
    assert sentences.lengths.dtype == numpy.int64
    with pytest.raises(IndexError):
        sentences[len(plain)]


def test_the_ids_of_all_record_batches(folder: Path, pairs: Pairs):
    with pyarrow.OSFile(str(folder / "train.arrow")) as file:
        assert pyarrow.ipc.open_file(file).num_record_batches == len(pairs) / 4
    data = PreparedData.open(folder)
    train = data.split("train")
    vocabularies = data.vocabularies
    assert as_lists(train.source) == vocabularies.source.encode([source for source, _ in pairs])
    assert as_lists(train.target) == vocabularies.target.encode([target for _, target in pairs])
    assert data.manifest.splits["train"].target_pieces == train.target.lengths.sum()


def test_pairs_without_a_side_have_no_loss_but_keep_their_text(folder: Path):
    data = PreparedData.open(folder)
    pairs, text = data.split("validation"), data.text("validation")
    assert len(pairs.source) == len(pairs.target) == 8
    decoded = data.vocabularies.source.decode(as_lists(pairs.source))
    assert decoded == ["one", *["a"] * 7]
    assert data.vocabularies.target.decode(as_lists(pairs.target)) == ["eins", *["d"] * 7]
    assert text.source == ["one", "", "is", *["a"] * 7]
    assert text.target == ["eins", "zwei", "", *["d"] * 7]


def test_a_split_that_is_not_there(folder: Path):
    data = PreparedData.open(folder)
    for read in (data.split, data.text):
        with pytest.raises(DataError, match=r"has no readable test set \(test\.arrow\)"):
            read("test")


def test_a_split_that_is_cut_short(folder: Path):
    path = folder / "train.arrow"
    data = PreparedData.open(folder)
    for content in (path.read_bytes()[:-100], b"text\n", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"has no readable train set \(train\.arrow\)"):
            data.split("train")


def test_a_folder_that_is_not_whole(folder: Path, tmp_path: Path):
    (folder / "joint.model").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="model can't be read"):
        PreparedData.open(folder)
    (folder / MANIFEST).unlink()
    for place in (folder, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="is no data folder") as error:
            PreparedData.open(place)
        assert f"{place} is no" in str(error.value)


@settings(deadline=None)
@given(data=st.data())
def test_some_sentences_of_any_chunks(data: st.DataObject):
    sentence = st.lists(st.integers(0, 2**32 - 1), max_size=4)
    chunks = data.draw(st.lists(st.lists(sentence, min_size=1, max_size=4), min_size=1, max_size=4))
    sentences = Sentences(pyarrow.chunked_array(chunks, IDS))
    plain = [ids for chunk in chunks for ids in chunk]
    chosen = data.draw(st.lists(st.integers(0, len(plain) - 1), min_size=1, max_size=9))
    examples = numpy.array(chosen)
    lengths = [len(plain[example]) for example in chosen]
    assert sentences.lengths_of(examples).tolist() == lengths
    flat = sentences.gather(examples)
    assert flat.lengths.tolist() == lengths
    assert flat.ids.tolist() == [piece for example in chosen for piece in plain[example]]
