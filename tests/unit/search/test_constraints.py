"""Words that must be there, and words that may not: sequences and texts by hand."""

from collections.abc import Collection

import pytest

from seq2seq.search.constraints import Avoided, Progress, Required, contains, is_boundary

A, B, C, D = range(4, 8)


def progress(
    history: list[int], *sequences: list[int], continuing: Collection[int] = ()
) -> Progress:
    return Required(sequences, [continuing] * len(sequences)).progress(history)


def test_progress_counts_tokens_and_says_what_adds_to_them() -> None:
    assert progress([], [A, B], [C]) == Progress(0, frozenset({A, C}), False)
    assert progress([D, A], [A, B], [C]) == Progress(1, frozenset({B}), False)
    assert progress([A, C], [A, B], [C]) == Progress(1, frozenset({A}), False)
    assert progress([C, A, B], [A, B], [C]) == Progress(3, frozenset(), True)


def test_what_is_interrupted_begins_anew() -> None:
    assert progress([A, D], [A, B]) == Progress(0, frozenset({A}), False)
    assert progress([A, A, B], [A, B]).is_complete


def test_each_needs_a_place_of_its_own() -> None:
    assert progress([A, B], [A, B], [B]) == Progress(2, frozenset({B}), False)
    assert progress([A, B, B], [A, B], [B]).is_complete
    assert Required([[A, B], [B]], [(), ()]).spans([B, A, B]) == {1: (0, 1), 0: (1, 3)}


def test_a_word_that_goes_on_is_another_one() -> None:
    assert progress([A], [A], continuing={D}).is_complete
    assert not progress([A, D], [A], continuing={D}).is_complete
    assert progress([A, D, A], [A], continuing={D}).is_complete


def test_where_there_is_no_room_nothing_may_undo_it() -> None:
    required = Required([[A, B]], [{D}])
    assert required.undoing([A, B], room=2) == [D]
    assert required.undoing([A, B], room=3) == []
    assert required.undoing([A, B, C], room=0) == []


SURFACES = ["", "", "", "", " cat", "s", " c", "at", ",", "cat", " the", " cats", " bobcat", " a b"]


def avoided(text: str, *history: str) -> set[str]:
    """What may not follow, as surfaces."""
    tokens = [SURFACES.index(surface, 4) for surface in history]
    return {SURFACES[token] for token in Avoided([text], SURFACES).next_after(tokens)}


def test_the_piece_that_completes_a_word_is_ruled_out() -> None:
    assert avoided("cat", " the") == {" cat"}
    assert avoided("cat", " the", " c") == {" cat", "at"}
    assert avoided("cat", " the", ",") == {" cat", "cat"}
    assert avoided("the cat", " the") == {" cat"}
    assert avoided("the cat", " c") == set()
    assert avoided("b") == {" a b"}


def test_it_is_whole_words_that_are_avoided() -> None:
    assert avoided("cats", " cat") == {" cats", "s"}
    assert "cat" not in avoided("cat", "s")  # `scat` is another word
    assert not avoided("cat") & {" cats", " bobcat"}


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("the cat sat", "cat", True),
        ("cat", "cat", True),
        ("cats", "cat", False),
        ("bobcat", "cat", False),
        ("a cat, sat", "cat", True),
        ("a, b", ",", True),
        ("a,b", ",", True),
        ("der große Hund", "große Hund", True),
        ("हिन्दी", "हिन", False),  # its vowel is a mark
        ("5.000", "5", True),
        ("", "cat", False),
    ],
)
def test_words_are_found_as_whole_ones(text: str, words: str, expected: bool) -> None:
    assert contains(text, words) is expected


def test_boundaries() -> None:
    assert is_boundary("", "a")
    assert is_boundary("a", "")
    assert is_boundary("a", " ")
    assert is_boundary("a", ",")
    assert not is_boundary("a", "1")
