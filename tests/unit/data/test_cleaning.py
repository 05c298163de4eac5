"""Each rule on training pairs, at its limit; what is counted and shown of them."""

from typing import Any

import pytest

from seq2seq.config import CleaningConfig
from seq2seq.data.cleaning import Cleaner, Examples, repaired, scripts_of

OFF: dict[str, Any] = {
    "repair": False,
    "ratio": None,
    "identical": None,
    "broken": False,
    "markup": False,
}


def removed(source: str, target: str, languages: str = "en de", **settings: Any) -> list[str]:
    """Name the rule, if any, that removes a pair."""
    cleaner = Cleaner(CleaningConfig(**OFF | settings), *languages.split())
    return [*cleaner.clean([(source, target)]).removed]


@pytest.mark.parametrize(
    ("source", "target", "settings", "rule"),
    [
        ("a" * 10, "b", {"characters": 10}, None),
        ("a" * 11, "b", {"characters": 10}, "characters"),
        ("a", "b" * 11, {"characters": 10}, "characters"),
        ("a", "!", {}, None),
        ("a", " \t\u200b", {}, "empty"),
        ("", "b", {}, "empty"),
        ("a" * 3, "b" * (2 * 3 + 20), {"ratio": 2.0}, None),
        ("a" * 3, "b" * (2 * 3 + 21), {"ratio": 2.0}, "ratio"),
        ("b" * 27, "a" * 3, {"ratio": 2.0}, "ratio"),
        ("New York City", "New York City", {"identical": 4}, None),
        ("all is well here", "all is well here", {"identical": 4}, "identical"),
        ("all is well here", "all is well hier", {"identical": 4}, None),
        ("wait" + 5 * ".", "warte", {"repeats": 5}, None),
        ("wait" + 6 * ".", "warte", {"repeats": 5}, "repeats"),
        ("a" + 9 * " " + "b", "c", {"repeats": 5}, None),
        ("a \ufffd", "b", {"broken": True}, "broken"),
        ("a", "b \ue123", {"broken": True}, "broken"),
        ("a 😀 漢", "b", {"broken": True}, None),
        ("<b>a</b>", "<b>x</b>", {"markup": True}, None),
        ("<b>a</b>", "x", {"markup": True}, "markup"),
        ("a &amp; b", "x & y", {"markup": True}, "markup"),
        ("3 < 4 & 5 > 2", "drei", {"markup": True}, None),
    ],
)
def test_a_rule_at_its_limit(
    source: str, target: str, settings: dict[str, Any], rule: str | None
) -> None:
    assert removed(source, target, **settings) == ([] if rule is None else [rule])


@pytest.mark.parametrize(
    ("languages", "source", "target", "is_removed"),
    [
        ("en ru", "a house", "дом", False),
        ("en ru", "a house", "a house", True),
        ("en ru", "ab", "дa", False),  # a half is enough
        ("en ja", "a house", "家とハウス", False),
        ("en-GB ja", "дом", "家", True),
        ("en xx", "a house", "дом", False),  # nobody knows how xx is written
        ("en ru", "1 2 3", "1 2 3", False),  # no letter at all
    ],
)
def test_letters_of_other_scripts(
    languages: str, source: str, target: str, is_removed: bool
) -> None:
    assert removed(source, target, languages, scripts=0.5) == (["scripts"] if is_removed else [])


def test_languages_have_their_scripts() -> None:
    assert scripts_of("sr_RS") == {"CYRILLIC"}
    assert scripts_of("ja") == {"CJK", "HIRAGANA", "KATAKANA"}
    assert scripts_of("de-AT") == {"LATIN"}
    assert scripts_of("tlh") == frozenset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GrÃ¼ÃŸe", "Grüße"),
        ("a\x07b\u00adc", "abc"),
        ("dâ€™accord", "d’accord"),
        ("Ãrea", "Ãrea"),
        ("a\tb", "a\tb"),
    ],
)
def test_repairs(text: str, expected: str) -> None:
    assert repaired(text) == expected


def test_pairs_are_repaired_before_they_are_looked_at() -> None:
    pairs = [("a", "b"), ("GrÃ¼n", "green"), ("", "c"), ("d\x07", "")]
    cleaned = Cleaner(CleaningConfig(), "de", "en").clean(pairs)
    assert cleaned.numbers.tolist() == [0, 1]
    assert cleaned.kept == [("a", "b"), ("Grün", "green")]
    assert cleaned.removed == {"empty": [("", "c"), ("d", "")]}
    assert {"characters", "repair", "empty", "ratio"} <= cleaned.seconds.keys()


def test_the_first_hundred_examples_are_kept_short() -> None:
    pairs = [("x" * 300, "y")] + [(str(number), "z") for number in range(149)]
    examples = Examples.of(pairs[:2]).with_more(Examples.of(pairs[2:]))
    assert examples.number == 150
    assert examples.first == (("x" * 200 + "…", "y"), *pairs[1:100])
