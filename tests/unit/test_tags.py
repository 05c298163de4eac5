"""Tags of target languages: ids that no text has and that leave no text."""

import pytest

from seq2seq.config import VocabularyConfig
from seq2seq.errors import UserError
from seq2seq.vocabulary import NUM_SPECIAL, UNK, Vocabularies, shared_pieces
from seq2seq.vocabulary_learning import train_vocabularies
from tests.vocabulary_builders import ENGLISH, GERMAN, SIZE, SYMBOLS, learn


@pytest.fixture(scope="module", params=[True, False])
def tagged_sides(request: pytest.FixtureRequest) -> Vocabularies:
    """Vocabularies with tags, of a text that has their names and looks in it."""
    lines = ["\ue0f4de is \ue0f4de", "<2de> is <2de>", *ENGLISH]
    config = VocabularyConfig(size=64, joint=request.param)
    return train_vocabularies(lines, GERMAN + lines, config, ["fr", "de", "pt-BR"])


def test_tags_have_ids_of_their_own(tagged_sides: Vocabularies):
    for vocabulary in tagged_sides:
        assert vocabulary.tags == {"de": 4, "fr": 5, "pt-BR": 6}
        assert vocabulary.control == range(7)
        assert vocabulary.tag("fr") == 5
        assert vocabulary.pieces([6, UNK]) == ["<2pt-BR>", "<unk>"]
        assert len(vocabulary) == 64
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


def test_vocabularies_without_tags():
    vocabulary = learn(ENGLISH, GERMAN, size=SIZE).source
    assert (vocabulary.tags, vocabulary.control) == ({}, range(NUM_SPECIAL))
    with pytest.raises(UserError, match="no tag for the target language 'de', or for any other"):
        vocabulary.tag("de")


def test_tags_are_known_by_their_language_in_another_vocabulary():
    one, other = (
        train_vocabularies(ENGLISH, GERMAN, VocabularyConfig(size=SIZE + 8), tags).source
        for tags in (["de", "fr"], ["fr", "it"])
    )
    shared = shared_pieces(one, other)
    assert shared[other.tag("fr")] == one.tag("fr")
    assert other.tag("it") not in shared
