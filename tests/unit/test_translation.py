"""Text in, text out: one line for each, in order, whatever it is translated with."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
import torch

from seq2seq.config import SearchConfig
from seq2seq.model_folder import save_model
from seq2seq.translation import Request, Translation, Translator
from seq2seq.vocabulary import EOS, UNK
from tests.builders import LINES, tiny_model

TEXT = (*LINES, "cat", "the tall tree sang to the old red mat", "a b c 5 日本 😀", "dog, dog!")
BLANK = ("", " ", "\t \t", "\u00a0", "\u3000\u3000", "\u200b", "\ufeff", " \u200d\u2028\x0b")


def make_translator(settings: SearchConfig | None = None) -> Translator:
    model = tiny_model()
    return Translator(model.network.double(), model.vocabularies, settings or model.config.search)


def assert_same(found: Sequence[Translation], expected: Sequence[Translation]) -> None:
    assert [(entry.text, entry.tokens) for entry in found] == [
        (entry.text, entry.tokens) for entry in expected
    ]
    scores = [entry.score for entry in expected]
    assert [entry.score for entry in found] == pytest.approx(scores, abs=1e-12)


def test_translations_come_in_the_order_of_the_lines() -> None:
    translator = make_translator()
    together = translator.translate(TEXT)
    assert len({entry.text for entry in together}) > len(TEXT) / 2  # they can be told apart
    assert_same(together, [translator.translate([line])[0] for line in TEXT])
    assert_same(translator.translate(TEXT[::-1]), together[::-1])


def test_no_lines_give_no_translations() -> None:
    assert make_translator().translate([]) == []


def test_the_text_is_that_of_the_tokens() -> None:
    translator = make_translator()
    translations = translator.translate(TEXT)
    decoded = translator.vocabularies.target.decode([entry.tokens for entry in translations])
    assert [entry.text for entry in translations] == decoded
    assert all(entry.score < 0 for entry in translations)


@pytest.mark.parametrize("blank", BLANK)
def test_blank_lines_stay_blank_and_leave_their_neighbours_alone(blank: str) -> None:
    translator = make_translator()
    lines = [blank, TEXT[0], blank, blank, TEXT[1], blank]
    found = translator.translate(lines)
    for place in (0, 2, 3, 5):
        assert found[place] == Translation("", [], 0.0)
    assert_same([found[1], found[4]], translator.translate(TEXT[:2]))


@pytest.mark.parametrize("tokens", [1, 30, 100000])
def test_the_size_of_a_batch_changes_nothing(tokens: int) -> None:
    settings = SearchConfig(beam=2, tokens_per_batch=tokens)
    expected = make_translator(SearchConfig(beam=2)).translate(TEXT)
    assert_same(make_translator(settings).translate(TEXT), expected)


def test_a_batch_holds_no_more_than_it_may() -> None:
    translator = make_translator(SearchConfig(beam=1, tokens_per_batch=60))
    lengths = [len(ids) for ids in translator.vocabularies.source.encode(TEXT)]
    work = translator.work([*TEXT, *BLANK])
    numbers = [[work.parts[number].line for number in batch] for batch in work.batches]
    assert sorted(chain.from_iterable(numbers)) == list(range(len(TEXT)))
    assert 1 < len(numbers) < len(TEXT)
    for batch in numbers:
        assert len(batch) * max(lengths[number] for number in batch) <= 60


def test_the_longest_translation_depends_on_the_source() -> None:
    translator = make_translator(SearchConfig(beam=1, max_length_ratio=1.5))
    with torch.no_grad():
        translator.network.output.bias[EOS] = -1e6  # never ends by itself
    for line, translation in zip(TEXT, translator.translate(TEXT), strict=True):
        (ids,) = translator.vocabularies.source.encode([line])
        # "as a multiple of the source's number of pieces, plus 10": the end is one of them.
        assert len(translation.tokens) + 1 == int(1.5 * len(ids)) + 10


def test_a_loaded_model_translates_as_it_was_saved(tmp_path: Path) -> None:
    model = tiny_model()
    save_model(tmp_path / "model", model)
    loaded = Translator.load(tmp_path / "model")
    expected = Translator(model.network, model.vocabularies, model.config.search)
    assert loaded.translate(TEXT) == expected.translate(TEXT)
    greedy = Translator.load(tmp_path / "model", overrides=["search.beam=1"])
    assert greedy.settings == loaded.settings.model_copy(update={"beam": 1})


def test_a_line_that_is_too_long_is_translated_in_parts() -> None:
    parts = ["the cat sat on the mat.", "a dog ran to the red house!", "two birds sang。 cat"]
    longest = max(map(len, tiny_model().vocabularies.source.encode(parts)))
    translator = make_translator(SearchConfig(beam=1, max_source_length=longest))
    first, second, third = (found.text for found in translator.translate(parts))
    line = f"{parts[0]} {parts[1]}\t{parts[2]}"
    found = translator.translate([parts[0], line, ""])
    assert [entry.text for entry in found] == [first, f"{first} {second} {third}", ""]


def tagged(settings: SearchConfig | None = None, *, likely: Sequence[int] = ()) -> Translator:
    """A model with tags, to which some pieces are the likeliest ones."""
    model = tiny_model(tags=("de", "fr"))
    model.network.output.bias.data[list(likely)] += 50.0
    settings = settings or model.config.search
    return Translator(model.network.double(), model.vocabularies, settings, to="de")


def test_each_line_has_its_language() -> None:
    translator = tagged()
    plain = translator.translate(TEXT)
    german, french = (
        translator.translate([Request(line, to=to) for line in TEXT]) for to in ("de", "fr")
    )
    assert_same(german, plain)
    assert [entry.text for entry in french] != [entry.text for entry in german]
    assert (plain[0].source_pieces[0], french[0].source_pieces[0]) == ("<2de>", "<2fr>")
    mixed = translator.translate([TEXT[0], Request(TEXT[0], to="fr"), Request("", to="fr")])
    assert_same(mixed[:2], [plain[0], french[0]])
    assert mixed[2].text == ""


@pytest.mark.parametrize("settings", [SearchConfig(beam=1), SearchConfig(beam=2, nbest=2)])
def test_no_translation_has_a_tag_however_likely(settings: SearchConfig) -> None:
    control = set(tagged().vocabularies.target.control)
    assert len(control) == 6
    for found in tagged(settings, likely=sorted(control - {EOS})).translate(TEXT):
        for entry in (found, *found.alternatives):
            assert entry.tokens
            assert not control & set(entry.tokens)


def test_what_replaces_an_unknown_piece_is_no_tag() -> None:
    settings = SearchConfig(beam=1, max_length=2, replace_unknown=True)
    (found,) = tagged(settings, likely=[UNK]).translate(["日本"])
    assert set(found.tokens) == {UNK}
    assert set("".join(found.text.split())) == set("日本")
