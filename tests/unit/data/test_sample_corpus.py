import hashlib
import itertools
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable

import pytest
from babel import Locale
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.data import sample_corpus as module
from seq2seq.data.cldr_forms import Forms, select_forms
from seq2seq.data.cldr_phrases import Locales, Phrase
from seq2seq.data.sample_corpus import Pair, SampleSplits, lookup_baseline, sample_corpus
from seq2seq.errors import DataError

NAME_KINDS = {"country", "language", "currency"}


@pytest.fixture(scope="module")
def english_german() -> SampleSplits:
    return sample_corpus("en", "de", pairs=5000, held_out=200, seed=1)


@pytest.fixture(scope="module")
def forms() -> Forms:
    return Forms(Locales(Locale.parse("en"), Locale.parse("de")))


def digest_in_new_process(hash_seed: str, **environment: str) -> str:
    script = (
        "import hashlib; from seq2seq.data.sample_corpus import sample_corpus;"
        "splits = sample_corpus('cs', 'pl', pairs=300, held_out=30, seed=7);"
        "print(hashlib.sha256(repr(splits).encode()).hexdigest())"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONHASHSEED": hash_seed,
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_the_same_in_any_process_and_place():
    splits = sample_corpus("cs", "pl", pairs=300, held_out=30, seed=7)
    here = hashlib.sha256(repr(splits).encode()).hexdigest()
    assert digest_in_new_process("1", LC_ALL="de_DE.UTF-8", TZ="Asia/Tokyo") == here
    assert digest_in_new_process("2", LC_ALL="C", TZ="America/New_York") == here


def test_another_seed_gives_another_corpus():
    one, two = (sample_corpus("en", "de", pairs=200, held_out=20, seed=seed) for seed in (1, 2))
    assert one != two


@settings(max_examples=6, deadline=None)
@given(
    locales=st.sampled_from([("en", "de"), ("pt-BR", "en"), ("en", "ja")]),
    pairs=st.integers(1, 150),
    held_out=st.integers(0, 20),
)
def test_sizes_are_exact_and_splits_share_nothing(
    locales: tuple[str, str], pairs: int, held_out: int
):
    splits = sample_corpus(*locales, pairs=pairs, held_out=held_out, seed=3)
    assert [len(split) for split in splits] == [pairs, held_out, held_out]
    everything = [pair for split in splits for pair in split]
    for side in ("source", "target"):
        assert max(Counter(getattr(pair, side) for pair in everything).values()) == 1
    for source, target, kind in everything:
        assert source != target
        assert kind
        for text in (source, target):
            assert text == unicodedata.normalize("NFC", text).strip()
            assert len(text.splitlines()) == 1
    assert not NAME_KINDS & {pair.kind for split in splits[1:] for pair in split}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("en", "de"),
        ("en", "ja"),
        ("cs", "pl"),
        ("en", "ar"),
        ("pt_BR", "en"),
        ("zh_Hans", "en"),
        ("en", "hnj"),
    ],
)
def test_no_identifiers_in_any_language(source: str, target: str):
    splits = sample_corpus(source, target, pairs=200, held_out=20, seed=1)
    identifier = re.compile(
        r"-per-|\b(angle|area|concentr|digital|duration|electric|energy|frequency|graphics|length"
        r"|mass|power|pressure|speed|temperature|volume)-[a-z]|\bM\d\d\b|\{\d\}"
    )
    codes = re.compile(rf"\b({'|'.join(Locale.parse('en').currencies)})\b")
    for pair in (*splits.train, *splits.test):
        for text in pair[:2]:
            assert not identifier.search(text), pair
            assert pair.kind not in {"price", "money"} or not codes.search(text), pair


def test_validation_and_test_are_evenly_mixed_of_all_kinds(english_german: SampleSplits):
    trained = {pair.kind for pair in english_german.train}
    assert trained >= NAME_KINDS
    for split in english_german[1:]:
        kinds = Counter(pair.kind for pair in split)
        assert set(kinds) == trained - NAME_KINDS
        assert min(kinds.values()) >= 200 / len(kinds) / 2
        assert max(kinds.values()) <= 200 / len(kinds) * 2


def single_names(forms: Forms) -> set[str]:
    return {phrase.source for group in forms.names.values() for phrase in group}


def test_training_has_all_names_and_units(english_german: SampleSplits, forms: Forms):
    text = "\n".join(pair.source for pair in english_german.train)
    units = {forms.quantity(2, *form).source.lstrip("2 \N{NO-BREAK SPACE}") for form in forms.units}
    assert len(single_names(forms)) > 250
    assert len(units) > 60
    assert not {name for name in single_names(forms) | units if name not in text}


def test_names_of_a_small_corpus_are_all_trained(forms: Forms):
    splits = sample_corpus("en", "de", pairs=100, held_out=30, seed=1)
    trained = "\n".join(pair.source for pair in splits.train)
    for pair in (*splits.validation, *splits.test):
        if pair.kind in {"countries", "languages", "currencies", "variety"}:
            used = {name for name in single_names(forms) if name in pair.source}
            assert all(name in trained for name in used)


def test_ambiguous_names_are_left_out(forms: Forms):
    assert "Nauru" not in single_names(forms)  # the country; German calls the language otherwise
    assert "Austria" in single_names(forms)


def as_phrase(table: dict[str, Phrase]) -> Callable[[str, None], Phrase]:
    return lambda form, _: table[form]


def test_forms_with_one_source_and_two_targets():
    say = as_phrase({"a": Phrase("x", "1"), "b": Phrase("x", "2"), "c": Phrase("y", "2")})
    assert select_forms(["a", "b", "c", "unknown"], [None], say) == ["c"]
    assert select_forms(["a", "b", "c"], [None], say, meaning=lambda _: "one") == ["a", "c"]


def only_saying(monkeypatch: pytest.MonkeyPatch, **kinds: list[tuple[str, str]]) -> None:
    """Let each kind of sentence go through a list of its own, again and again."""

    class FewSentences:
        def __init__(self, *_: object):
            turns = {kind: itertools.cycle(texts) for kind, texts in kinds.items()}
            self.kinds = {
                kind: lambda turn=turn: Phrase(*next(turn)) for kind, turn in turns.items()
            }

    monkeypatch.setattr(module, "Sentences", FewSentences)


def test_a_source_that_comes_up_with_another_target_is_left_out(monkeypatch: pytest.MonkeyPatch):
    numbers = [(f"s{number}", f"t{number}") for number in range(60)]
    other = [("twice", "there"), ("same", "same")]
    only_saying(monkeypatch, one=[("twice", "here"), *numbers], other=other)
    train = sample_corpus("en", "de", pairs=30, held_out=0, seed=1).train
    assert {"twice", "same"}.isdisjoint(pair.source for pair in train)


@pytest.mark.parametrize("sentences", [40, 2000])  # few enough for the share of names to matter
def test_more_than_the_languages_supply(sentences: int, monkeypatch: pytest.MonkeyPatch):
    numbers = [(f"s{number}", f"t{number}") for number in range(sentences)]
    only_saying(monkeypatch, one=numbers)
    with pytest.raises(DataError, match=r"`data.corpus.pairs` must be at most") as raised:
        sample_corpus("en", "de", pairs=9000, held_out=1, seed=1)
    largest, asked = map(int, re.findall(r"\d+", str(raised.value)))
    assert asked == 9000
    assert len(sample_corpus("en", "de", pairs=largest, held_out=1, seed=1).train) == largest
    with pytest.raises(DataError, match=rf"must be at most {largest} "):
        sample_corpus("en", "de", pairs=largest + 1, held_out=1, seed=1)
    with pytest.raises(DataError, match=r"`data.corpus.held_out` must be at most") as raised:
        sample_corpus("en", "de", pairs=10, held_out=3000, seed=1)
    largest = int(re.findall(r"\d+", str(raised.value))[0])
    assert len(sample_corpus("en", "de", pairs=10, held_out=largest, seed=1).test) == largest


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            "english",
            "de",
            "the sample corpus needs locales of the Unicode CLDR, such as 'de' or 'pt_BR',"
            " but 'english' isn't one",
        ),
        (
            "en",
            "",
            "the sample corpus needs locales of the Unicode CLDR, such as 'de' or 'pt_BR',"
            " but '' isn't one",
        ),
        (
            "pt_BR",
            "pt-BR",
            "`data.source` and `data.target` must be different locales, such as 'en' and 'de',"
            " but both are 'pt_BR'",
        ),
    ],
)
def test_locales_that_do_not_work(source: str, target: str, message: str):
    with pytest.raises(DataError) as raised:
        sample_corpus(source, target, pairs=10, held_out=1, seed=1)
    assert str(raised.value) == message


def test_a_corpus_out_of_all_proportion_is_refused_at_once():
    with pytest.raises(DataError, match="must be at most 1000000, but is 5000002"):
        sample_corpus("en", "de", pairs=5_000_000, held_out=1, seed=1)


def test_spelled_numbers_need_num2words_in_both_languages():
    kinds = {
        pair.kind for pair in sample_corpus("zh-Hans", "en", pairs=60, held_out=0, seed=1).train
    }
    assert "number" not in kinds
    kinds = {pair.kind for pair in sample_corpus("cs", "pl", pairs=60, held_out=0, seed=1).train}
    assert "number" in kinds


def test_lookup_finds_the_nearest_and_of_equals_the_first():
    sources = ["3 kilometers", "4 kilometers", "Norway or Sweden", "4 kilometers"]
    targets = ["a", "b", "c", "d"]
    wanted = ["Norway or Sweden", "4 kilometers", "Norway and Sweden", "14 kilometers", "", "???"]
    assert lookup_baseline(sources, targets, wanted) == ["c", "b", "c", "b", "a", "a"]


def test_lookup_returns_each_training_source_itself(english_german: SampleSplits):
    train = english_german.train[:300]
    sources, targets = [pair.source for pair in train], [pair.target for pair in train]
    assert lookup_baseline(sources, targets, sources) == targets


def test_pairs_show_what_they_are(english_german: SampleSplits):
    example = next(pair for pair in english_german.train if pair.kind == "rate")
    assert isinstance(example, Pair)
    assert " per " in example.source
    assert " pro " in example.target
