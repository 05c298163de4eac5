"""Long lines are cut where a reader would pause, into parts that fit, and nothing gets lost."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.sentence_split import Part, split_long
from tests.builders import tiny_vocabularies

Count = Callable[[str], int]


def words(text: str) -> int:
    return len(text.split())


def pieces(text: str) -> int:
    (ids,) = tiny_vocabularies().source.encode([text])
    return len(ids)


def texts(text: str, limit: int, count: Count = words) -> list[str]:
    return [part.text for part in split_long(text, count, limit)]


def test_a_text_that_fits_is_one_part() -> None:
    assert split_long("One. Two, three.", words, 3) == [Part("One. Two, three.", "")]
    assert split_long(" One. ", words, 1) == [Part(" One. ", "")]
    assert split_long("", words, 1) == [Part("", "")]


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("One two. Three four! Five?", 2, ["One two.", "Three four!", "Five?"]),
        ("One two. Three four! Five?", 4, ["One two. Three four!", "Five?"]),
        ("He said “stop.” (Really…) Then: no.", 4, ["He said “stop.” (Really…)", "Then: no."]),
        (
            "It costs 3.14 dollars. J. R. Smith pays.",
            4,
            ["It costs 3.14 dollars.", "J. R. Smith pays."],
        ),
        ("Am 3. Mai 2021. Dann z. B. hier.", 4, ["Am 3. Mai 2021.", "Dann z. B. hier."]),
        ("One, two; three four: five.", 2, ["One, two;", "three four:", "five."]),
        ("ab cd. ef gh ij kl mn, op qr. st", 3, ["ab cd.", "ef gh ij", "kl mn,", "op qr.", "st"]),
        ("क ख। ग घ।", 2, ["क ख।", "ग घ।"]),
        ("هل تعرف؟ نعم أعرف.", 2, ["هل تعرف؟", "نعم أعرف."]),
    ],
)
def test_it_is_cut_where_a_reader_would_pause(text: str, limit: int, expected: list[str]) -> None:
    assert texts(text, limit) == expected


def test_scripts_without_spaces_are_cut_after_their_signs() -> None:
    assert texts("今日は晴れ。「明日は雨。」はい", 8, len) == [
        "今日は晴れ。",
        "「明日は雨。」",
        "はい",
    ]
    assert texts("一二三、四五六，七八九。", 4, len) == ["一二三、", "四五六，", "七八九。"]


def test_a_word_that_is_too_long_is_cut_anywhere() -> None:
    assert texts("to abcdefgh it", 4, len) == ["to", "abcd", "efgh", "it"]
    assert texts("x" * 7, 3, len) == ["x" * 3, "xx", "xx"]


def test_white_space_is_kept_beside_the_parts() -> None:
    parts = split_long(" 一。 二。三。\u3000four", len, 2)
    assert parts == [
        Part("", " "),
        Part("一。", " "),
        Part("二。", ""),
        Part("三。", "\u3000"),
        Part("fo", ""),
        Part("ur", ""),
    ]


@given(
    text=st.text(st.sampled_from("ab1 .,!?。、\u3000\t”)J日e\u0301\u200b")) | st.text(),
    limit=st.integers(1, 12),
    count=st.sampled_from([len, words, pieces]),
)
def test_no_part_is_too_long_and_nothing_is_lost(text: str, limit: int, count: Count) -> None:
    parts = split_long(text, count, limit)
    assert "".join(part.text + part.space for part in parts) == text
    for part in parts:
        assert len(parts) == 1 or part.text == part.text.strip()
        assert not part.space.strip()
        assert count(part.text) <= limit or len(part.text) == 1


@pytest.mark.parametrize(
    "text",
    ["cat " * 10000, "x" * 50000, "." * 50000, "。" * 50000, ".)" * 25000, "a" + " " * 50000 + "b"],
)
def test_little_is_counted_of_much_text(text: str) -> None:
    counted = 0

    def count(part: str) -> int:
        nonlocal counted
        counted += len(part)
        return len(part)

    parts = split_long(text, count, 200)
    assert all(len(part.text) <= 200 for part in parts)
    assert counted < 20 * len(text)
