"""Text to ids and back, and vocabularies of a size that the text can't support."""

import re
import unicodedata
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import VocabularyConfig
from seq2seq.errors import DataError, ModelError, UserError
from seq2seq.vocabulary import (
    BOS,
    EOS,
    NUM_SPECIAL,
    PAD,
    UNK,
    Vocabularies,
    Vocabulary,
    normalize,
    shared_pieces,
)
from seq2seq.vocabulary_learning import train_vocabularies

BREAKS = "\0\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
BYTE_ORDER_MARK = "\ufeff"
# What SentencePiece, and other programs, would take for something else than text.
SYMBOLS = ["<pad>", "<s>", "</s>", "<unk>", "<2de>", "<0x0A>", "[MASK]", "@@", "⁇"]
SIZE = 60  # of a vocabulary of the sentences below, joint or not
ALPHABET = "abcdehiklnorstuwÄäéß☃漢0123456789.,!'<>/ "


def sentences(
    number: str, things: tuple[str, ...], verbs: tuple[str, ...], places: tuple[str, ...]
) -> list[str]:
    return [
        f"{number} {100 + i}: {things[i % len(things)]} {verbs[i % len(verbs)]}"
        f" {places[i % len(places)]}."
        for i in range(60)
    ]


ENGLISH = sentences(
    "Number",
    ("the bicycle", "the mirror", "the clock", "the barrel", "the kettle", "the letter"),
    ("lies", "stands", "waits", "creaks", "gleams"),
    ("at the ferry", "behind the mill", "beside the oven", "over the gate"),
)
GERMAN = sentences(
    "Nummer",
    ("das Fahrrad", "der Spiegel", "die Uhr", "das Fass", "der Kessel", "der Brief"),
    ("liegt", "steht", "wartet", "knarrt", "glänzt"),
    ("an der Fähre", "hinter der Mühle", "neben dem Ofen", "über dem Tor"),
)


def learn(source: list[str], target: list[str], **settings: Any) -> Vocabularies:
    return train_vocabularies(source, target, VocabularyConfig(**settings))


def learn_one(lines: list[str], **settings: Any) -> Vocabulary:
    """A vocabulary of the text, not much larger than its alphabet."""
    characters = {character for line in lines for character in normalize(line)}
    size = len(characters | {" "}) + NUM_SPECIAL + 5
    return learn(lines, [], **{"size": size, **settings}).source


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


@settings(deadline=None)
@given(data=st.data())
def test_no_ids_decode_to_more_than_one_line(vocabulary: Vocabulary, data: st.DataObject):
    ids = data.draw(st.lists(st.integers(0, len(vocabulary) - 1), max_size=20))
    (text,) = vocabulary.decode([ids])
    assert not set(text) & set(BREAKS + BYTE_ORDER_MARK)
    assert len(f"x{text}x".splitlines()) == 1


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


@pytest.fixture(scope="module", params=[True, False])
def tagged_sides(request: pytest.FixtureRequest) -> Vocabularies:
    """Vocabularies with tags, of a text that has their names and looks in it."""
    lines = ["\ue0f4de is \ue0f4de", "<2de> is <2de>", *ENGLISH]
    config = VocabularyConfig(size=66, joint=request.param)
    return train_vocabularies(lines, GERMAN + lines, config, ["fr", "de", "pt-BR"])


def test_tags_have_ids_of_their_own(tagged_sides: Vocabularies):
    for vocabulary in tagged_sides:
        assert vocabulary.tags == {"de": 4, "fr": 5, "pt-BR": 6}
        assert vocabulary.control == range(7)
        assert vocabulary.tag("fr") == 5
        assert vocabulary.pieces([6, UNK]) == ["<2pt-BR>", "<unk>"]
        assert len(vocabulary) == 66
        with pytest.raises(UserError, match="language 'it'; it has tags for de, fr, pt-BR"):
            vocabulary.tag("it")


def test_no_text_has_a_tag_and_no_tag_gives_text(tagged_sides: Vocabularies):
    texts = ["<2de>", "\ue0f4de", "is \ue0f4fr", "the <2de> clock", "<2fr> \ue0f4", *SYMBOLS]
    for vocabulary in tagged_sides:
        for ids in vocabulary.encode(texts):
            assert not set(ids) & (set(vocabulary.control) - {UNK})
        assert vocabulary.decode(vocabulary.encode(["<2de>"])) == ["<2de>"]
        (clock,) = vocabulary.encode(["the clock"])
        assert vocabulary.decode([[4, *clock], [*clock, 6], [5]]) == ["the clock", "the clock", ""]
        assert [vocabulary.surfaces[number] for number in vocabulary.control] == [""] * 7


def test_vocabularies_without_tags(vocabulary: Vocabulary):
    assert (vocabulary.tags, vocabulary.control) == ({}, range(NUM_SPECIAL))
    with pytest.raises(UserError, match="no tag for the target language 'de', or for any other"):
        vocabulary.tag("de")


def test_tags_are_known_by_their_language_in_another_vocabulary():
    one, other = (
        train_vocabularies(ENGLISH, GERMAN, VocabularyConfig(size=SIZE + 10), tags).source
        for tags in (["de", "fr"], ["fr", "it"])
    )
    shared = shared_pieces(one, other)
    assert shared[other.tag("fr")] == one.tag("fr")
    assert other.tag("it") not in shared


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_the_named_size_counts_the_tags(algorithm: Literal["unigram", "bpe"]):
    def learn_tagged(size: int) -> Vocabularies:
        config = VocabularyConfig(size=size, algorithm=algorithm)
        return train_vocabularies(ENGLISH, GERMAN, config, ["de", "fr", "it"])

    with pytest.raises(DataError) as error:
        learn_tagged(8000)
    assert len(learn_tagged(named_size(error)).source) == named_size(error)


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


def named_size(error: pytest.ExceptionInfo[DataError]) -> int:
    """The size that the message says to write."""
    match = re.search(r"write vocabulary\.size=(\d+)$", str(error.value))
    assert match, error.value
    return int(match[1])


@pytest.mark.parametrize("size", [5, 8000])
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_a_size_that_the_text_cannot_support(algorithm: str, joint: bool, size: int):
    with pytest.raises(DataError) as error:
        learn(ENGLISH, GERMAN, size=size, algorithm=algorithm, joint=joint)
    extreme = "smallest" if size == 5 else "largest"
    assert f"`vocabulary.size` is {size}, but the {extreme} " in str(error.value)
    assert f" {algorithm} vocabulary that " in str(error.value)
    assert ("the " + extreme + " joint " in str(error.value)) == joint
    named = named_size(error)
    learnt = learn(ENGLISH, GERMAN, size=named, algorithm=algorithm, joint=joint)
    assert [len(vocabulary) for vocabulary in learnt] == [named, named]
    beyond = named - 1 if size == 5 else named + 1
    with pytest.raises(DataError):
        learn(ENGLISH, GERMAN, size=beyond, algorithm=algorithm, joint=joint)


@pytest.mark.parametrize("size", [5, 8000])
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_the_named_size_suits_unlike_sides(algorithm: str, size: int):
    for sides in ([ENGLISH, GERMAN[:20]], [ENGLISH[:20], GERMAN]):
        with pytest.raises(DataError) as error:
            learn(*sides, size=size, algorithm=algorithm, joint=False)
        named = named_size(error)
        learnt = learn(*sides, size=named, algorithm=algorithm, joint=False)
        assert [len(vocabulary) for vocabulary in learnt] == [named, named]


@pytest.mark.parametrize("size", [5, 40, 8000])
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_sides_that_no_size_suits(algorithm: str, size: int):
    few, many = ["a b"] * 20, [chr(0x4E00 + number) * 2 for number in range(80)]
    for sides in ([few, many], [many, few]):
        with pytest.raises(DataError, match=r"no `vocabulary.size` suits both sides") as error:
            learn(*sides, size=size, algorithm=algorithm, joint=False)
        assert str(error.value).endswith("write vocabulary.joint=true")
    assert learn(few, many, size=87, algorithm=algorithm).joint


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
