"""Shortlists: which pieces are on them, files, and translating with one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import pyarrow
import pytest
from safetensors.numpy import load_file, save_file

from seq2seq.data.prepared import PreparedSplit, Sentences
from seq2seq.errors import ModelError
from seq2seq.model_folder import save_model
from seq2seq.shortlist import FILE, Shortlist, learn_shortlist
from seq2seq.translation import Request, Translator
from seq2seq.vocabulary import NUM_SPECIAL
from tests.builders import LINES, tiny_model, tiny_vocabularies

SPECIAL = list(range(NUM_SPECIAL))
SIZE = len(tiny_vocabularies().target)


def sentences(texts: Sequence[Sequence[int]]) -> Sentences:
    return Sentences(pyarrow.chunked_array([pyarrow.array(texts, pyarrow.list_(pyarrow.uint32()))]))


def learn(likely: int, always: int) -> Shortlist:
    """Learn from pairs in which 4 becomes 14, 5 becomes 15, 6 becomes 16; 16 is most frequent."""
    sources = [[4, 5], [4, 6], [5, 6], [6]]
    pairs = PreparedSplit(
        sentences(sources), sentences([[piece + 10 for piece in source] for source in sources])
    )
    return learn_shortlist(pairs, source_size=9, target_size=20, likely=likely, always=always)


def listing(*pieces: int, source_size: int = SIZE) -> Shortlist:
    """List these pieces and the special ones, whatever the source."""
    always = numpy.array([*SPECIAL, *pieces], numpy.int32)
    return Shortlist(always, numpy.zeros((source_size, 1), numpy.int32), target_size=SIZE)


def test_what_a_piece_becomes_is_listed_with_it() -> None:
    shortlist = learn(likely=1, always=0)
    assert shortlist.tokens([[4]]) == [*SPECIAL, 14]
    assert shortlist.tokens([[5, 5]]) == [*SPECIAL, 15]
    assert shortlist.tokens([[6, 4], [5]]) == [*SPECIAL, 14, 15, 16]


def test_more_are_listed_where_more_are_wanted() -> None:
    assert learn(likely=2, always=0).tokens([[4]]) == [*SPECIAL, 14, 15]
    assert learn(likely=9, always=0).tokens([[4]]) == [*SPECIAL, 14, 15, 16]


def test_the_most_frequent_pieces_are_always_listed() -> None:
    shortlist = learn(likely=1, always=1)
    assert shortlist.tokens([[4]]) == [*SPECIAL, 14, 16]
    assert shortlist.tokens([[8]]) == [*SPECIAL, 16]  # a source piece that training hasn't


def test_a_vocabulary_may_have_fewer_pieces_than_are_always_listed() -> None:
    assert learn(likely=1, always=99).tokens([[4]]) == list(range(20))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a model with a shortlist."""
    model = tiny_model()
    save_model(tmp_path / "model", model)
    listing(5, 9).save(tmp_path / "model", model.vocabularies)
    return tmp_path / "model"


def test_what_is_saved_is_loaded(folder: Path) -> None:
    assert Shortlist.load(folder).tokens([[4, 8]]) == [*SPECIAL, 5, 9]


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def of_other_vocabularies(path: Path) -> None:
    listing(5).save(path.parent, tiny_vocabularies(joint=False))


def without_a_list(path: Path) -> None:
    vocabularies = {"vocabularies": tiny_vocabularies().digest}
    save_file({"always": load_file(path)["always"]}, path, vocabularies)


def of_no_source_piece(path: Path) -> None:
    listing(5, source_size=1).save(path.parent, tiny_vocabularies())


def beyond_the_vocabulary(path: Path) -> None:
    listing(SIZE).save(path.parent, tiny_vocabularies())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove, "has no shortlist"),
        (cut, "can't be read"),
        (without_a_list, "can't be read"),
        (of_other_vocabularies, "other vocabularies"),
        (of_no_source_piece, "is damaged"),
        (beyond_the_vocabulary, "is damaged"),
    ],
)
def test_what_is_no_shortlist_of_the_model_is_said(
    damage: Callable[[Path], None], said: str, folder: Path
) -> None:
    damage(folder / FILE)
    with pytest.raises(ModelError, match=said) as caught:
        Translator.load(folder, overrides=["search.shortlist=true"])
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"make it with `seq2seq shortlist {folder}`")
    Translator.load(folder)  # who doesn't use it needs none


def translator(shortlist: Shortlist | None) -> Translator:
    model = tiny_model()
    return Translator(
        model.network.double(), model.vocabularies, model.config.search, shortlist=shortlist
    )


def test_a_list_of_everything_changes_nothing() -> None:
    expected = translator(None).translate(LINES)
    found = translator(listing(*range(NUM_SPECIAL, SIZE))).translate(LINES)
    assert [entry.tokens for entry in found] == [entry.tokens for entry in expected]
    assert [entry.text for entry in found] == [entry.text for entry in expected]
    scores = [entry.score for entry in expected]
    assert [entry.score for entry in found] == pytest.approx(scores, abs=1e-12)


def test_what_is_not_listed_is_not_written_unless_it_is_asked_for() -> None:
    few = listing(5, 9, 12)
    for found in translator(few).translate(LINES):
        assert found.tokens
        assert set(found.tokens) <= {5, 9, 12}
    (found,) = translator(few).translate([Request(LINES[0], require=("red house",))])
    assert "red house" in found.text
