"""Pairs that come again, and those of the validation and the test set."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data.overlap import Found, HeldOut
from seq2seq.data.repetition import Seen, digests, near, near_digests


@pytest.mark.parametrize(
    "text", ["the Cat, sat.", "The cat sat", "THE  CAT SAT!", "(the) cat_sat", "ｔｈｅ cat sat"]
)
def test_case_spaces_form_and_punctuation_are_no_difference(text: str) -> None:
    assert near(text) == "thecatsat"


def test_letters_and_digits_are_a_difference() -> None:
    assert len({near(text) for text in ("Nr. 151", "Nummer 151", "Nr. 150")}) == 3
    assert near("Straße") == near("STRASSE")


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=12))
def test_what_has_come_before_is_known(chunks: list[list[int]]) -> None:
    seen, known = Seen(), set[int]()
    for chunk in chunks:
        again = seen.add(numpy.array(chunk, dtype=numpy.uint64))
        expected: list[bool] = []
        for number in chunk:
            expected.append(number in known)
            known.add(number)
        assert again.tolist() == expected


def test_digests_are_of_the_text() -> None:
    first, second, third = digests(["a", "b", "a"])
    assert first == third != second
    (row,) = near_digests([("A!", "b")])
    assert row.tolist() == [*digests(["a"]), *digests(["a\nb"])]


TEST = [("One.", "Eins."), ("Two.", "Zwei."), ("Three.", "Drei."), ("Four.", "Vier.")]
TRAIN = [("Two.", "Zwei."), ("three", "DREI"), ("Four.", "Vier!!"), ("one", "ein"), ("x", "y")]


def test_held_out_pairs_are_found_in_the_training_text() -> None:
    held_out = HeldOut({"validation": [], "test": TEST})
    which, found = held_out.find(near_digests(TRAIN), TRAIN)
    assert which.tolist() == [True, True, True, False, False]
    assert found == Found(exact=(1,), near=(1, 2, 3), source=(0, 1, 2, 3))
    (_, overlap) = held_out.overlaps(found)
    assert overlap[:5] == ("test", 4, 1, 2, 1)
    assert overlap.number == 3
    assert overlap.told() == (
        "3 of 4 test pairs are in the training text (1 as they are, 2 but for case, spaces, Unicode"
        " form or punctuation), such as 'Two.', and of 1 the source alone is"
    )


def test_findings_of_pieces_of_text_add_up() -> None:
    held_out = HeldOut({"test": TEST})
    whole = held_out.find(near_digests(TRAIN), TRAIN)[1]
    pieces = [held_out.find(near_digests([pair]), [pair])[1] for pair in TRAIN]
    added = Found()
    for piece in pieces:
        added = added.with_more(piece)
    assert added == whole
