"""Text to ids and back."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import VocabularyConfig
from seq2seq.errors import DataError, ModelError
from seq2seq.vocabulary import BOS, EOS, PAD, UNK, Vocabularies, Vocabulary, normalize, whole_text
from seq2seq.vocabulary_learning import train_vocabularies
from tests.vocabulary_builders import (
    ALPHABET,
    BREAKS,
    BYTE_ORDER_MARK,
    ENGLISH,
    GERMAN,
    SIZE,
    SYMBOLS,
    learn,
    learn_one,
)


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    """A vocabulary of `ALPHABET` whose text had in it what must never come out again."""
    dirty = [f"the cat{ending}is here" for ending in (*BREAKS, BYTE_ORDER_MARK)]
    lines = [*ENGLISH, *dirty, *(character * 2 for character in ALPHABET)]
    return learn_one(lines, algorithm=request.param)


def there_and_back(vocabulary: Vocabulary, text: str) -> str:
    (decoded,) = vocabulary.decode(vocabulary.encode([text]))
    return decoded


@settings(deadline=None)
@given(texts=st.lists(st.text(ALPHABET, max_size=40), max_size=4))
def test_known_text_comes_back_with_all_its_spaces(vocabulary: Vocabulary, texts: list[str]):
    assert vocabulary.decode(vocabulary.encode(texts)) == texts


@pytest.mark.parametrize("text", ["", " ", "   ", " a", "a ", "  a   b  ", "1  , 2 !"])
def test_spaces_are_text(vocabulary: Vocabulary, text: str):
    assert there_and_back(vocabulary, text) == text


def test_empty_text_has_no_ids(vocabulary: Vocabulary):
    assert vocabulary.encode([]) == []
    assert vocabulary.encode(["", BYTE_ORDER_MARK]) == [[], []]
    assert vocabulary.decode([]) == []
    assert vocabulary.decode([[], [PAD, BOS, EOS]]) == ["", ""]


@pytest.fixture(scope="module", params=["unigram", "bpe", "char"])
def with_bytes(request: pytest.FixtureRequest) -> Vocabulary:
    """A vocabulary that has all bytes, a symbol of the user's, and tags of languages."""
    config = VocabularyConfig(
        algorithm=request.param, byte_fallback=True, symbols=("<br>",), size=320
    )
    return train_vocabularies(ENGLISH, [], config, ["de", "fr"]).source


def check_what_ids_decode_to(vocabulary: Vocabulary, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, len(vocabulary) - 1), max_size=20))
    (text,) = vocabulary.decode([ids])
    for line in (text, whole_text("".join(vocabulary.surfaces[number] for number in ids))):
        assert not set(line) & set(BREAKS + BYTE_ORDER_MARK)
        assert len(f"x{line}x".splitlines()) == 1


@settings(deadline=None)
@given(data=st.data())
def test_no_ids_decode_to_more_than_one_line(vocabulary: Vocabulary, data: st.DataObject):
    check_what_ids_decode_to(vocabulary, data)


@settings(deadline=None)
@given(data=st.data())
def test_no_bytes_and_tags_decode_to_more_than_one_line(
    with_bytes: Vocabulary, data: st.DataObject
):
    check_what_ids_decode_to(with_bytes, data)


@settings(deadline=None)
@given(data=st.data())
def test_special_ids_and_tags_leave_nothing(with_bytes: Vocabulary, data: st.DataObject):
    ids = data.draw(st.lists(st.sampled_from(with_bytes.control), max_size=20))
    assert with_bytes.decode([[number for number in ids if number != UNK]]) == [""]


def test_bytes_that_end_a_line_become_a_space(with_bytes: Vocabulary):
    for ending in BREAKS:
        ids = [with_bytes.names.index(f"<0x{byte:02X}>") for byte in ending.encode()]
        ids = [*with_bytes.encode(["the"])[0], *ids, *with_bytes.encode(["the"])[0]]
        assert with_bytes.decode([ids]) == ["the  the"]


@settings(deadline=None)
@given(text=st.text(ALPHABET + "Ω日語😀", max_size=20))
def test_with_bytes_nothing_is_unknown(with_bytes: Vocabulary, text: str):
    (ids,) = with_bytes.encode([text])
    assert UNK not in ids
    assert with_bytes.decode([ids]) == [text]
    surfaces = [with_bytes.surfaces[number] for number in ids]
    assert whole_text("".join(surfaces)).removeprefix(" ") == text
    assert with_bytes.cut(text) == surfaces
    assert all(map(with_bytes.knows, text))


def test_a_symbol_is_one_piece_wherever_it_stands(with_bytes: Vocabulary):
    for text in ("<br>", "the<br>clock", "a <br><br> b", "<b<br>r>"):
        (ids,) = with_bytes.encode([text])
        number = with_bytes.names.index("<br>")
        assert ids.count(number) == text.count("<br>")
        assert with_bytes.decode([ids]) == [text]


def test_text_that_looks_like_a_byte_is_text(with_bytes: Vocabulary):
    (ids,) = with_bytes.encode(["<0x0A>"])
    assert with_bytes.names.index("<0x0A>") not in ids
    assert with_bytes.decode([ids]) == ["<0x0A>"]


@pytest.mark.parametrize("ending", BREAKS)
def test_what_ends_a_line_becomes_a_space(vocabulary: Vocabulary, ending: str):
    assert there_and_back(vocabulary, f"one{ending}two") == "one two"


def test_byte_order_marks_are_dropped(vocabulary: Vocabulary):
    marked = f"{BYTE_ORDER_MARK}the c{BYTE_ORDER_MARK}at"
    assert vocabulary.encode([marked]) == vocabulary.encode(["the cat"])
    assert not any(BYTE_ORDER_MARK in piece for piece in vocabulary.pieces(range(len(vocabulary))))


def test_decomposed_letters_are_composed(vocabulary: Vocabulary):
    text = "ä é"
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    assert vocabulary.encode([decomposed]) == vocabulary.encode([text])
    assert there_and_back(vocabulary, decomposed) == text


def test_unknown_characters_are_marked(vocabulary: Vocabulary):
    (ids,) = vocabulary.encode(["the cat Ω"])
    assert ids.count(UNK) == 1
    assert "⁇" in there_and_back(vocabulary, "the cat Ω")


@settings(deadline=None)
@given(text=st.text(ALPHABET + "Ω日\u2028", max_size=40))
def test_text_is_cut_as_it_is_encoded_and_keeps_what_is_unknown(vocabulary: Vocabulary, text: str):
    pieces, (ids,) = vocabulary.cut(text), vocabulary.encode([text])
    assert "".join(pieces).removeprefix(" ") == normalize(text)
    assert [set(piece) <= set("Ω日") for piece in pieces] == [number == UNK for number in ids]


def test_special_pieces_have_names(vocabulary: Vocabulary):
    assert vocabulary.pieces([PAD, BOS, EOS, UNK]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert "".join(vocabulary.pieces(vocabulary.encode(["the cat"])[0])) == "▁the▁cat"


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_text_that_looks_like_symbols_is_text(algorithm: str):
    lines = [f"Write {symbol} here, then{symbol}" for symbol in SYMBOLS]
    vocabulary = learn_one([*ENGLISH, *lines], algorithm=algorithm)
    encoded = vocabulary.encode([*SYMBOLS, *lines])
    assert not {PAD, BOS, EOS, UNK} & {piece for ids in encoded for piece in ids}
    assert vocabulary.decode(encoded) == [*SYMBOLS, *lines]


def test_symbols_that_were_never_seen_are_text_too():
    vocabulary = learn_one(ENGLISH)
    for ids in vocabulary.encode([*SYMBOLS, *(f"the{symbol} clock" for symbol in SYMBOLS)]):
        assert not {PAD, BOS, EOS} & set(ids)


def test_joint_and_separate():
    joint = learn(ENGLISH, GERMAN, size=SIZE)
    assert joint.joint
    assert joint.source is joint.target
    assert len(joint.source) == SIZE
    separate = learn(ENGLISH, GERMAN, size=SIZE, joint=False)
    assert not separate.joint
    assert [len(vocabulary) for vocabulary in separate] == [SIZE, SIZE]
    assert UNK in separate.source.encode(["Mühle"])[0]
    assert UNK not in separate.target.encode(["Mühle"])[0]


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_the_same_text_gives_the_same_bytes(algorithm: str, joint: bool):
    one, two = (
        learn(ENGLISH, GERMAN, size=SIZE, algorithm=algorithm, joint=joint) for _ in range(2)
    )
    assert one.source.model == two.source.model
    assert one.target.model == two.target.model


def test_text_may_be_read_once_only():
    read_once = train_vocabularies(iter(ENGLISH), iter(GERMAN), VocabularyConfig(size=SIZE))
    assert read_once.source.model == learn(ENGLISH, GERMAN, size=SIZE).source.model


def test_split_digits():
    whole, split = (
        learn_one([*ENGLISH, *["2024 2024"] * 20], split_digits=split) for split in (False, True)
    )
    assert max(len(piece) for piece in whole.pieces(whole.encode(["2024"])[0])) > 1
    assert split.pieces(split.encode(["2024"])[0])[-4:] == ["2", "0", "2", "4"]


def test_normalization_changes_text_only_where_it_is_asked_for():
    lines = [*ENGLISH, "ﬁve… ﬁve…"]
    assert there_and_back(learn_one(lines), "ﬁve…") == "ﬁve…"
    assert there_and_back(learn_one(lines, normalization="nfkc"), "ﬁve…") == "five..."


@pytest.mark.parametrize("lines", [[], [""], [BYTE_ORDER_MARK]])
def test_no_text_at_all(lines: list[str]):
    with pytest.raises(DataError, match="no vocabulary can be learnt from the training text"):
        learn(lines, lines)


@pytest.mark.parametrize("joint", [True, False])
def test_saved_and_loaded(tmp_path: Path, joint: bool):
    learnt = learn(ENGLISH, GERMAN, size=SIZE, joint=joint)
    learnt.save(tmp_path)
    names = ["joint.model"] if joint else ["source.model", "target.model"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    loaded = Vocabularies.load(tmp_path)
    assert loaded.joint == joint
    for before, after in zip(learnt, loaded, strict=True):
        assert after.model == before.model
        assert after.encode(GERMAN) == before.encode(GERMAN)


@pytest.mark.parametrize("missing", ["source.model", "target.model"])
def test_a_missing_vocabulary(tmp_path: Path, missing: str):
    learn(ENGLISH, GERMAN, size=SIZE, joint=False).save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ModelError, match=f"{missing} can't be read: No such file"):
        Vocabularies.load(tmp_path)


def test_a_damaged_vocabulary(tmp_path: Path):
    learnt = learn(ENGLISH, GERMAN, size=SIZE)
    learnt.save(tmp_path)
    path, model = tmp_path / "joint.model", learnt.source.model
    after_a_piece = model.index(b"\n", len(model) // 2)
    for damaged in (b"", b"# A text\n", bytes(200), model[:after_a_piece], model[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(
            ModelError, match="is not a SentencePiece model, or is damaged"
        ) as error:
            Vocabularies.load(tmp_path)
        assert str(path) in str(error.value)
