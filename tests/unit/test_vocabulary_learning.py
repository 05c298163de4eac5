"""Vocabularies of all kinds and sizes, from a sample of the text."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.errors import DataError
from seq2seq.unknown_characters import unknown_in
from seq2seq.vocabulary import NUM_SPECIAL, UNK
from seq2seq.vocabulary_learning import draw
from tests.vocabulary_builders import ENGLISH, GERMAN, learn


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
    assert named % 8 == 0
    learnt = learn(ENGLISH, GERMAN, size=named, algorithm=algorithm, joint=joint)
    assert [len(vocabulary) for vocabulary in learnt] == [named, named]
    with pytest.raises(DataError):
        learn(
            ENGLISH, GERMAN, size=named + (-8 if size == 5 else 8), algorithm=algorithm, joint=joint
        )


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_the_largest_size_itself_can_be_had(algorithm: str, joint: bool):
    """Though it is no multiple of 8."""
    with pytest.raises(DataError, match=r"support has (\d+) pieces") as error:
        learn(ENGLISH, GERMAN, size=8000, algorithm=algorithm, joint=joint)
    match = re.search(r"support has (\d+) pieces", str(error.value))
    assert match
    largest = int(match[1])
    learnt = learn(ENGLISH, GERMAN, size=largest, algorithm=algorithm, joint=joint)
    assert {len(vocabulary) for vocabulary in learnt} == {largest}
    with pytest.raises(DataError):
        learn(ENGLISH, GERMAN, size=largest + 1, algorithm=algorithm, joint=joint)


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


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_a_size_is_rounded_up_and_that_is_said(algorithm: str, capsys: pytest.CaptureFixture[str]):
    for asked, size in ((64, 64), (65, 72), (71, 72)):
        learnt = learn(ENGLISH, GERMAN, size=asked, algorithm=algorithm)
        assert len(learnt.source) == size
        told = f"vocabulary.size={asked} is rounded up to {size}, a multiple of 8"
        assert (told in capsys.readouterr().err) == (asked != size)


def test_with_char_each_character_is_a_piece_and_the_size_the_most_there_may_be(
    capsys: pytest.CaptureFixture[str],
):
    letters = {letter for line in ENGLISH for letter in line.replace(" ", "▁")}
    learnt = learn(ENGLISH, [], algorithm="char").source
    assert set(learnt.names[NUM_SPECIAL:]) == letters
    assert learnt.decode(learnt.encode(ENGLISH)) == ENGLISH
    assert all(map(learnt.knows, "".join(ENGLISH)))
    counts = Counter(letter for line in ENGLISH for letter in line)
    rarest = min(counts, key=lambda letter: counts[letter])
    few = learn(ENGLISH, [], algorithm="char", size=len(learnt) - 1).source
    assert len(few) == len(learnt) - 1
    assert [*unknown_in(few, ENGLISH).values()] == [counts[rarest]]


@given(number=st.integers(1, 60), total=st.integers(0, 200), seed=st.integers(0, 2**32 - 1))
def test_what_is_drawn_depends_on_places_alone(number: int, total: int, seed: int):
    places = draw((str(place) for place in range(total)), number, seed)
    assert len(places) == len(set(places)) == min(number, total)
    assert draw((str(place) for place in range(total)), number, seed) == places
    others = draw((f"line {place}" for place in range(total)), number, seed)
    assert others == [f"line {place}" for place in places]
    if total <= number:
        assert places == [str(place) for place in range(total)]


def test_each_line_is_as_likely_to_be_drawn():
    counts: Counter[str] = Counter()
    for seed in range(4000):
        counts.update(draw(map(str, range(20)), 5, seed))
    # A quarter of 4000 each; five standard deviations of a binomial number are 137.
    assert all(abs(counts[str(place)] - 1000) < 137 for place in range(20))


def test_lines_that_are_too_long_are_counted(capsys: pytest.CaptureFixture[str]):
    long = ["ä" * 32_769, "ä" * 32_768]  # of two bytes each
    learnt = learn([*ENGLISH, *long], ["x" * 65_537], algorithm="char")
    told = capsys.readouterr().err
    assert "no pieces are learnt from 1 of the 62 source lines, which have more than 65,536" in told
    assert "no pieces are learnt from 1 of the 1 target lines" in told
    assert UNK not in learnt.source.encode(["ä"])[0]


def test_symbols_are_normal_text_in_unicodes_composed_form():
    symbol = "a\u0308b"  # ä in two parts
    learnt = learn(ENGLISH, [], size=64, symbols=[symbol, "©"]).source
    assert "äb" in learnt.names
    assert len(learnt.encode([f"{symbol}©{symbol}"])[0]) == 1 + 3  # after a space
