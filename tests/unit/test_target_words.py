"""What is asked for in words: in tokens, and in the text at the end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.target_words import Asked, TargetWords, kept
from seq2seq.vocabulary import UNK
from tests.builders import tiny_vocabularies

VOCABULARY = tiny_vocabularies().target
WORDS = TargetWords(VOCABULARY)


def ask(*required: str, prefix: str = "", avoid: tuple[str, ...] = ()) -> Asked:
    return WORDS.asked(prefix, required, avoid)


def written(text: str, asked: Asked) -> str:
    """A text, cut and put together again."""
    (tokens,) = VOCABULARY.encode([text])
    return WORDS.text(tokens, asked.spans(tokens))


def is_complete(text: str, asked: Asked) -> bool:
    (tokens,) = VOCABULARY.encode([text])
    assert asked.required is not None
    return asked.required.progress(tokens).is_complete


@pytest.mark.parametrize("text", ["cat", "the cat", "the cat sat", "cat on the mat"])
def test_a_word_is_there_wherever_it_stands(text: str) -> None:
    assert is_complete(text, ask("cat"))
    assert ask("cat").unmet(text) == []


@pytest.mark.parametrize("text", ["cats", "the mat", ""])
def test_a_longer_word_is_not_it(text: str) -> None:
    assert not is_complete(text, ask("cat"))
    assert ask("cat").unmet(text) == ["cat"]


def test_letters_that_the_vocabulary_lacks_survive() -> None:
    asked = ask("日本", "Ωμέγα")
    assert UNK in VOCABULARY.encode(["日本"])[0]
    assert written("the 日本 cat Ωμέγα", asked) == "the 日本 cat Ωμέγα"
    assert asked.unmet("the 日本 cat Ωμέγα") == []
    assert written("日本 sat", ask("日本")) == "日本 sat"
    assert written("日本 sat", ask()) != "日本 sat"
    assert written("Ωμέγα sat", ask(prefix="Ωμέγα")) == "Ωμέγα sat"


WORDS_ASKED = ["cat", "dog", "the", "red", "house", "tall", "日", "x1", "a"]


@given(st.lists(st.sampled_from(WORDS_ASKED), max_size=4, unique=True))
@settings(deadline=None, max_examples=50)
def test_what_is_asked_for_is_written_letter_by_letter(words: list[str]) -> None:
    text = " ".join(words)
    asked = ask(*words)
    assert written(text, asked) == text
    assert asked.unmet(text) == []


def test_nothing_to_see_asks_for_nothing() -> None:
    asked = ask(" ", "\u200b", prefix="\t", avoid=("",))
    assert (asked.required, asked.avoided, asked.prefix_tokens) == (None, None, [])
    assert asked.unmet("anything") == []


def test_what_is_lacking_is_named() -> None:
    asked = ask("red house", prefix="the dog", avoid=("cat",))
    assert asked.unmet("a cat sat") == ["red house", "cat", "the dog"]
    assert asked.unmet("the dog ran to the red house, cats") == []


@pytest.mark.parametrize(
    ("text", "kinds", "expected"),
    [
        ("It costs 1,250.50 on 3/4 or 12:30.", ["number"], ["1,250.50", "3/4", "12:30"]),
        (
            "See https://a.org/x?y=1&z (or www.b.de).",
            ["url"],
            ["https://a.org/x?y=1&z", "www.b.de"],
        ),
        ("<b>Hi</b> {name}, {{x}} %s", ["tag"], ["<b>", "</b>", "{name}", "{{x}}", "%s"]),
        ("http://a.b/12 and 12", ["url", "number"], ["http://a.b/12", "12"]),
        (
            '<a href="http://c.d/7">7</a>',
            ["number", "tag"],
            ['<a href="http://c.d/7">', "7", "</a>"],
        ),
        ("5 and 5", ["number"], ["5"]),
        ("5 < 6 and 100% sure", ["tag"], []),
        ("http://a.b 5", [], []),
    ],
)
def test_what_a_translation_keeps(text: str, kinds: list[str], expected: list[str]) -> None:
    assert kept(text, kinds) == expected
