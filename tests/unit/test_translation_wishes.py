"""What a translation must have, how it is chosen, and what is told of it."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from seq2seq.config import SearchConfig
from seq2seq.errors import ModelError
from seq2seq.model_folder import save_model
from seq2seq.risk import expected_utilities
from seq2seq.translation import Request, Translation, Translator
from seq2seq.vocabulary import UNK
from tests.builders import LINES, tiny_model, variant

LENGTHS = {"max_length_ratio": 1.0, "min_length": 2}
SAMPLING = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 1}


def translator(alignments: bool = False, /, **settings: Any) -> Translator:
    model = tiny_model()
    search = SearchConfig.model_validate({"beam": 3, **LENGTHS, **settings})
    return Translator(model.network.double(), model.vocabularies, search, alignments=alignments)


def facts(found: Sequence[Translation]) -> list[tuple[str, Any]]:
    return [(each.text, pytest.approx(each.score, abs=1e-9)) for each in found]


def test_a_required_word_is_in_all_outputs_and_changes_no_others() -> None:
    """200 sentences of random words, each with a random word or two of the target."""
    generator, known = random.Random(7), " ".join(LINES).split()
    words = [*known, "Zürich", "日本", "42.5", "red house", "isn't", "x"]
    lines = [" ".join(generator.choices(known, k=generator.randint(1, 7))) for _ in range(200)]
    requests = [
        Request(line, require=tuple(generator.sample(words, generator.randint(1, 2))))
        for line in lines
    ]
    mixed = [each for pair in zip(requests, lines, strict=True) for each in pair]
    found = translator().translate(mixed)
    for request, translation in zip(requests, found[::2], strict=True):
        assert translation.unmet == []
        assert all(word in translation.text for word in request.require), translation.text
    assert facts(found[1::2]) == facts(translator().translate(lines))


def test_a_prefix_is_what_it_begins_with() -> None:
    for prefix in ("the", "a 日本", "two birds."):
        for found in translator().translate([Request(line, prefix=prefix) for line in LINES]):
            assert found.text.startswith(prefix)
            assert found.unmet == []


def test_a_word_to_avoid_is_avoided_and_the_next_best_is_taken() -> None:
    plain = translator().translate(LINES)
    words = [found.text.split()[0] for found in plain]
    requests = [Request(line, avoid=(word,)) for line, word in zip(LINES, words, strict=True)]
    for found, before, word in zip(translator().translate(requests), plain, words, strict=True):
        assert word not in found.text.split()
        assert found.unmet == []
        assert found.score <= before.score
    everywhere = translator(avoid=sorted({*words})).translate(LINES)
    assert not {word for found in everywhere for word in found.text.split()} & {*words}


def test_numbers_addresses_and_tags_are_taken_over() -> None:
    kinds = ["url", "tag", "number"]
    line = "the cat <b>sat</b> on https://example.org/a?b=1 in 1,250.50"
    (found,) = translator(keep=kinds).translate([line])
    for text in ("<b>", "</b>", "https://example.org/a?b=1", "1,250.50"):
        assert text in found.text
    (without,) = translator().translate([line])
    assert "https://example.org/a?b=1" not in without.text


def test_what_cannot_be_had_is_done_without_and_named() -> None:
    request = Request(LINES[0], require=("the old man saw the small cat",))
    (found,) = translator(max_length=3).translate([request])
    (best,) = translator(max_length=3).translate([LINES[0]])
    assert found.unmet == ["the old man saw the small cat"]
    assert facts([found]) == facts([best])
    contradictory = Request(LINES[0], require=("cat",), avoid=("cat",))
    (found,) = translator().translate([contradictory])
    assert found.unmet


def test_no_number_comes_from_a_network_that_gives_none() -> None:
    broken = translator()
    broken.network.output.bias.data.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"no translation of '.*' can be found: the model"):
        Translator(broken.network, broken.vocabularies, broken.settings).translate(LINES)


def test_further_hypotheses_are_others_and_worse() -> None:
    for settings in ({"beam": 6}, {"beam": 6, "groups": 3, "diversity": 0.0}):
        for found in translator(nbest=4, **settings).translate(LINES):
            each = [found, *found.alternatives]
            assert len({tuple(entry.tokens) for entry in each}) == len(each)
            assert [entry.score for entry in each] == sorted(
                (entry.score for entry in each), reverse=True
            )
    assert len(translator(beam=6, nbest=4).translate(LINES)[0].alternatives) == 3


def test_groups_that_shun_each_other_differ_more() -> None:
    def kinds(diversity: float) -> int:
        way = translator(beam=4, groups=4, diversity=diversity, nbest=4)
        return sum(1 + len(found.alternatives) for found in way.translate(LINES))

    assert kinds(0.0) == len(LINES)  # all groups find the same
    assert kinds(5.0) > kinds(0.0)


def test_samples_depend_on_the_seed_and_the_sentence_alone() -> None:
    first = translator(sampling=SAMPLING)
    together = first.translate(LINES)
    assert facts([first.translate([line])[0] for line in LINES]) == facts(together)
    assert facts(translator(sampling=SAMPLING, tokens_per_batch=1).translate(LINES)) == facts(
        together
    )
    other = translator(sampling=SAMPLING | {"seed": 2}).translate(LINES)
    assert [found.text for found in other] != [found.text for found in together]


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_the_choice_is_what_is_most_like_all(metric: Any) -> None:
    samples = {"sampling": SAMPLING, "beam": 8}
    for line in LINES:
        (all_of_them,) = translator(nbest=8, **samples).translate([line])
        (chosen,) = translator(choose_by=metric, **samples).translate([line])
        texts = [all_of_them.text, *(each.text for each in all_of_them.alternatives)]
        assert chosen.text in texts
        if len(texts) == 8:  # none twice
            utilities = expected_utilities(texts, metric)
            assert utilities[texts.index(chosen.text)] == pytest.approx(max(utilities))


def test_scores_are_those_of_the_same_translations_when_given() -> None:
    for settings in ({}, {"normalisation": "gnmt", "coverage_penalty": 0.2, "length_penalty": 0.6}):
        way = translator(nbest=3, **settings)
        found = [[best, *best.alternatives] for best in way.translate(LINES)]
        texts = [[entry.text for entry in several] for several in found]
        scored = way.score(list(zip(LINES, texts, strict=True)))
        for several, given in zip(found, scored, strict=True):
            for entry, other in zip(several, given, strict=True):
                if entry.tokens == other.tokens:  # a text can be cut in several ways
                    assert entry.score == pytest.approx(other.score, abs=1e-9)
                    assert entry.log_probability == pytest.approx(other.log_probability, abs=1e-9)
        assert any(a.tokens == b.tokens for a, b in zip(found[0], scored[0], strict=True))
    assert translator().score([("", ["anything"]), (LINES[0], [])]) == [
        [Translation("anything", [], 0.0)],
        [],
    ]


def test_alignments_point_from_pieces_to_pieces() -> None:
    (found,) = translator(True).translate(LINES[:1])
    assert len(found.pieces) == len(found.tokens) == len(found.attention) == len(found.alignment)
    assert "".join(found.source_pieces).replace("▁", " ").strip() == LINES[0]
    for (source, target), weights in zip(found.alignment, found.attention, strict=True):
        assert weights[source] == max(weights)
        assert sum(weights) == pytest.approx(1.0)
        assert found.attention[target] == weights
    assert translator().translate(LINES[:1])[0].attention == []


def test_an_unknown_piece_becomes_the_source_piece_it_attends_to() -> None:
    line = "日本"
    way = translator(replace_unknown=True, beam=1, max_length=2)
    way.network.output.bias.data[UNK] += 50.0
    way = Translator(way.network, way.vocabularies, way.settings)
    (found,) = way.translate([line])
    assert set(found.tokens) == {UNK}
    assert set(found.text.split()) <= {"日本", ""} or "日本" in found.text
    (kept,) = translator(beam=1).translate([line])
    assert UNK not in kept.tokens


def test_models_of_one_vocabulary_translate_together(tmp_path: Path) -> None:
    for seed in (0, 1):
        save_model(tmp_path / str(seed), tiny_model(seed))
    save_model(tmp_path / "other", tiny_model(model=variant(tied="target"), joint=False))
    one, both, twice = (
        Translator.load(tmp_path / "0", ensemble=others).translate(LINES)
        for others in ([], [tmp_path / "1"], [tmp_path / "0"])
    )
    assert [found.text for found in twice] == [found.text for found in one]
    assert [found.text for found in both] != [found.text for found in one]
    with pytest.raises(ModelError, match="have different vocabularies"):
        Translator.load(tmp_path / "0", ensemble=[tmp_path / "other"])


def test_threads_share_a_translator() -> None:
    way = translator(True, nbest=2)
    lines = [f"{line} {word}" for line in LINES for word in ("cat", "dog")]
    requests = [*lines, *(Request(line, require=("red",), avoid=("cat",)) for line in lines)]
    expected = way.translate(requests)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(way.translate, [requests] * 4):
            assert facts(found) == facts(expected)
