"""Sentences in other pieces: with the right probabilities, and the same in every process."""

import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from math import exp, sqrt
from pathlib import Path
from typing import Any, cast

import numpy
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config import SAMPLED, BpeDropout, PlainSegmentation, Segmentation, UnigramSampling
from seq2seq.data.segmentation import (
    BpeCutter,
    Pieces,
    SampledSegmentation,
    UnigramCutter,
    new_segmentation,
)
from seq2seq.errors import DataError
from seq2seq.vocabulary import Side, Vocabularies, Vocabulary
from seq2seq.vocabulary_files import with_own_ids
from tests.vocabulary_builders import ENGLISH, GERMAN, learn

SIZES = {"unigram": 80, "bpe": 200, "char": 80}
TEXTS = [*ENGLISH, *GERMAN, "thebicyclestandsbehindthemillatthegate", "the Ω clock <br> ", ""]
WORDS = ["▁bicycle", "▁behind", "▁Number", "▁oven", "."]


@cache
def vocabularies(algorithm: str, *, joint: bool = True) -> Vocabularies:
    size = SIZES[algorithm] if joint else SIZES[algorithm] - 24
    return learn(ENGLISH, GERMAN, algorithm=algorithm, size=size, joint=joint, symbols=("<br>",))


@cache
def without_words(algorithm: str) -> Vocabularies:
    """A vocabulary of another program, whose pieces go beyond a word."""
    model = BytesIO()
    cast(Any, sentencepiece.SentencePieceTrainer).train(
        sentence_iterator=iter(ENGLISH),
        model_writer=model,
        model_type=algorithm,
        vocab_size=60,
        split_by_whitespace=False,
        minloglevel=2,
    )
    vocabulary = Vocabulary(with_own_ids(model.getvalue()))
    assert any("▁" in name[1:] for name in vocabulary.names)
    return Vocabularies(vocabulary, vocabulary)


def sampling(algorithm: str, amount: float) -> Segmentation:
    if algorithm == "unigram":
        return UnigramSampling(kind="unigram", alpha=amount)
    return BpeDropout(kind="bpe_dropout", share=amount)


def segmentation(
    algorithm: str, amount: float, *, seed: int = 1, of: Vocabularies | None = None
) -> SampledSegmentation:
    made = new_segmentation(sampling(algorithm, amount), of or vocabularies(algorithm), seed)
    assert made is not None
    return made


def word(pieces: Pieces, text: str) -> tuple[int, ...]:
    """A word as its characters, for a cutter to cut."""
    return tuple(pieces.ids[character] for character in text)


def ways(text: str, known: dict[str, int]) -> Iterator[list[int]]:
    """Every way to cut a text into pieces."""
    if not text:
        yield []
    for end in range(1, len(text) + 1):
        if (number := known.get(text[:end])) is not None:
            yield from ([number, *rest] for rest in ways(text[end:], known))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("text", WORDS)
def test_unigram_probabilities_are_those_of_all_ways_to_cut(text: str, alpha: float):
    pieces = Pieces(vocabularies("unigram").source)
    edges = UnigramCutter(pieces, alpha).edges(word(pieces, text))
    weights = {
        tuple(way): exp(alpha * sum(pieces.scores[number] for number in way))
        for way in ways(text, pieces.ids)
    }
    assert len(weights) > 1 or text == "."
    total = sum(weights.values())
    for way, weight in weights.items():
        place, probability = len(text), 1.0
        for number in reversed(way):
            cumulative, starts, ids = edges[place - 1]
            chosen = ids.index(number)
            bounds = [0.0, *cumulative, 1.0]
            probability *= bounds[chosen + 1] - bounds[chosen]
            place = starts[chosen]
        assert place == 0
        assert probability == pytest.approx(weight / total, rel=1e-9)


def test_unigram_draws_by_its_probabilities():
    """A word of the vocabulary's that can be cut in few ways, drawn in 20,000 sentences."""
    pieces = Pieces(vocabularies("unigram").source)
    cutter, text, alpha, number = UnigramCutter(pieces, 0.3), "▁behind", 0.3, 20_000
    weights = {
        tuple(way): exp(alpha * sum(pieces.scores[each] for each in way))
        for way in ways(text, pieces.ids)
    }
    draw = random.Random(1).random
    counts = Counter(tuple(cutter(word(pieces, text), draw)) for _ in range(number))
    total = sum(weights.values())
    check_counts(counts, {way: weight / total for way, weight in weights.items()}, number)


def check_counts(
    counts: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float], number: int
) -> None:
    """Each count lies within five standard deviations of what is expected."""
    assert set(counts) <= set(expected)
    assert sum(expected.values()) == pytest.approx(1.0)
    for way, share in expected.items():
        deviation = sqrt(number * share * (1.0 - share))
        assert abs(counts[way] - number * share) <= 5 * deviation + 1


def dropped(parts: tuple[str, ...], pieces: Pieces, share: float) -> dict[tuple[str, ...], float]:
    """The probability of each end of BPE-dropout, by algorithm 1 of the paper."""
    merges = sorted(
        (-pieces.scores[number], place)
        for place in range(len(parts) - 1)
        if (number := pieces.ids.get(parts[place] + parts[place + 1])) is not None
    )
    ends: defaultdict[tuple[str, ...], float] = defaultdict(float)
    ends[parts] = share ** len(merges)  # all left out
    for order, (_, place) in enumerate(merges):
        merged = (*parts[:place], parts[place] + parts[place + 1], *parts[place + 2 :])
        for end, probability in dropped(merged, pieces, share).items():
            ends[end] += share**order * (1.0 - share) * probability
    return dict(ends)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("text", WORDS)
def test_bpe_dropout_draws_by_its_probabilities(text: str, share: float):
    pieces, number = Pieces(vocabularies("bpe").source), 2000
    cutter, draw = BpeCutter(pieces, share), random.Random(2).random
    counts = Counter(tuple(cutter(word(pieces, text), draw)) for _ in range(number))
    expected = {
        tuple(pieces.ids[part] for part in end): probability
        for end, probability in dropped(tuple(text), pieces, share).items()
    }
    assert len(expected) > 1 or text == "."
    check_counts(counts, expected, number)


@pytest.mark.parametrize("of", [vocabularies, without_words])
@pytest.mark.parametrize(("algorithm", "amount"), [("unigram", 1000.0), ("bpe", 0.0)])
def test_at_its_limit_it_is_what_sentencepiece_does(algorithm: str, amount: float, of: Any):
    """The best way to cut; and no merge left out."""
    both: Vocabularies = of(algorithm)
    cut = segmentation(algorithm, amount, of=both)
    for example, ids in enumerate(both.source.encode(TEXTS)):
        plain = numpy.array(ids, dtype=numpy.uint16)
        sampled = cut("source", plain, epoch=1, example=example)
        assert sampled.tolist() == ids
        assert sampled.dtype == plain.dtype


@pytest.mark.parametrize("of", [vocabularies, without_words])
@pytest.mark.parametrize(("algorithm", "amount"), [("unigram", 0.1), ("bpe", 0.4)])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_the_text_stays_the_same(algorithm: str, amount: float, of: Any, data: st.DataObject):
    both: Vocabularies = of(algorithm)
    vocabulary, cut = both.source, segmentation(algorithm, amount, of=both)
    any_ids = st.lists(st.integers(0, len(vocabulary) - 1), max_size=30)
    encoded = st.sampled_from(vocabulary.encode(TEXTS))
    ids = data.draw(any_ids | encoded)
    epoch = data.draw(st.integers(0, 1000))
    sampled = cut("source", numpy.array(ids, dtype=numpy.int32), epoch=epoch, example=3).tolist()
    assert vocabulary.decode([sampled]) == vocabulary.decode([ids])
    kept = {number for number in ids if number not in Pieces(vocabulary).ids.values()}
    assert [each for each in sampled if each in kept] == [each for each in ids if each in kept]


@pytest.mark.parametrize(("algorithm", "amount"), [("unigram", 0.1), ("bpe", 0.4)])
def test_epochs_examples_sides_and_seeds_differ(algorithm: str, amount: float):
    (ids,) = vocabularies(algorithm).source.encode([ENGLISH[0]])
    plain = numpy.array(ids)

    def drawn(side: Side = "source", *, seed: int = 1, epoch: int = 0, example: int = 0) -> str:
        cut = segmentation(algorithm, amount, seed=seed)
        return str(cut(side, plain, epoch=epoch, example=example).tolist())

    assert drawn() == drawn()
    others = [drawn("target"), drawn(seed=2), drawn(epoch=1), drawn(example=1)]
    assert len({drawn(), *others}) == 5


def test_what_was_drawn_before_changes_nothing():
    """Nor does it matter which words are remembered."""
    (ids,) = vocabularies("unigram").source.encode([ENGLISH[0]])
    fresh, used = segmentation("unigram", 0.2), segmentation("unigram", 0.2)
    for number, text in enumerate(vocabularies("unigram").source.encode(TEXTS)):
        used("source", numpy.array(text, dtype=numpy.uint16), epoch=0, example=number)
    draws = [cut("source", numpy.array(ids), epoch=5, example=7).tolist() for cut in (fresh, used)]
    assert draws[0] == draws[1]


SCRIPT = """
import sys
from pathlib import Path
import numpy
from seq2seq.config import SAMPLED, BpeDropout, UnigramSampling
from seq2seq.data.segmentation import new_segmentation
from seq2seq.vocabulary import Vocabularies

for way in (UnigramSampling(kind="unigram"), BpeDropout(kind="bpe_dropout")):
    both = Vocabularies.load(Path(sys.argv[1]) / way.kind)
    cut = new_segmentation(way, both, seed=7)
    for number, text in enumerate(sys.argv[2:]):
        for side in ("source", "target"):
            (ids,) = getattr(both, side).encode([text])
            print(*cut(side, numpy.array(ids), epoch=2, example=number))
"""


def test_two_fresh_processes_draw_the_same(tmp_path: Path):
    expected: list[str] = []
    sides: Sequence[Side] = ("source", "target")
    for way in (UnigramSampling(kind="unigram"), BpeDropout(kind="bpe_dropout")):
        both = vocabularies(SAMPLED[way.kind], joint=False)
        (tmp_path / way.kind).mkdir()
        both.save(tmp_path / way.kind)
        cut = new_segmentation(way, both, 7)
        assert cut is not None
        for number, text in enumerate(ENGLISH[:8]):
            for side in sides:
                (ids,) = getattr(both, side).encode([text])
                drawn = cut(side, numpy.array(ids), epoch=2, example=number)
                expected.append(" ".join(map(str, drawn.tolist())))
    for hash_seed in ("1", "2"):
        process = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), *ENGLISH[:8]],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        )
        assert process.stdout.splitlines() == expected


def test_a_character_that_is_no_piece_is_cut_within_longer_ones_alone():
    """Models of other programs may have none for it."""
    learnt = vocabularies("bpe").source
    pieces = Pieces(learnt)
    number = pieces.ids["▁the"]
    del pieces.ids["h"]
    assert BpeCutter(pieces, 0.5)((number,), random.Random(1).random) == [number]
    unigram = Pieces(vocabularies("unigram").source)
    whole = word(unigram, "▁behind")
    del unigram.ids["h"]
    allowed = list(ways("▁behind", unigram.ids))
    assert len(allowed) == 4  # `hin` alone has an h; before it, ▁be can be cut in four ways
    for seed in range(50):
        assert UnigramCutter(unigram, 0.0)(whole, random.Random(seed).random) in allowed


def test_no_sampling_is_nothing():
    assert new_segmentation(PlainSegmentation(), vocabularies("unigram"), 1) is None


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("unigram", "bpe"), ("bpe", "unigram"), ("unigram", "char"), ("bpe", "char")],
)
def test_a_vocabulary_of_another_kind_is_refused(kind: str, algorithm: str):
    with pytest.raises(DataError) as error:
        new_segmentation(sampling(kind, 0.5), vocabularies(algorithm), 1)
    assert f"algorithm {kind}, but there is one of {algorithm}" in str(error.value)
