"""Search on a GPU finds what it finds on a CPU."""

from typing import Any

import pytest
import torch

from seq2seq.config import ModelConfig, SearchConfig
from seq2seq.translation import Request, Translation, Translator
from tests.builders import LINES, tiny_model, variant

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

SAMPLING = {"temperature": 1.0, "top_k": 5, "top_p": 0.9, "seed": 1}
WISHES = [
    *LINES,
    Request(LINES[0], require=("cat", "Zürich")),
    Request(LINES[1], avoid=("the", "a")),
    Request(LINES[2], prefix="two birds"),
]


def translator(device: str, settings: dict[str, Any], layout: ModelConfig) -> Translator:
    model = tiny_model(model=layout)
    search = SearchConfig.model_validate(
        {"beam": 3, "max_length_ratio": 1.0, "precision": "float32", **settings}
    )
    network = model.network.double().to(device)
    return Translator(network, model.vocabularies, search, alignments=True)


def facts(found: list[Translation]) -> list[tuple[str, Any]]:
    return [(each.text, pytest.approx(each.score, abs=1e-9)) for each in found]


@pytest.mark.parametrize("layout", ["gnmt", "luong", "input_feeding"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beam": 1},
        {"sampling": SAMPLING},
        {"beam": 6, "groups": 3, "diversity": 0.5, "nbest": 3},
        {"normalisation": "gnmt", "length_penalty": 0.6, "coverage_penalty": 0.2},
        {"repetition_penalty": 1.2, "block_ngrams": 2, "min_length": 4},
        {"tokens_per_batch": 20, "max_length": 7},
    ],
)
def test_the_same_as_on_a_cpu(settings: dict[str, Any], layout: Any) -> None:
    network = variant(layout=layout)
    here, there = (translator(device, settings, network) for device in ("cpu", "cuda"))
    expected, found = here.translate(WISHES), there.translate(WISHES)
    assert facts(found) == facts(expected)
    pairs = [(line, [each.text]) for line, each in zip(LINES, expected, strict=False)]
    scores = [[each.log_probability for each in way.score(pairs)[0]] for way in (here, there)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-9)


def test_in_bf16_it_finds_about_the_same() -> None:
    model = tiny_model()
    search = SearchConfig(beam=3, max_length_ratio=1.0)
    here = Translator(model.network, model.vocabularies, search)
    expected = [each.score for each in here.translate(LINES)]
    there = Translator(
        model.network.to("cuda"),
        model.vocabularies,
        search.model_copy(update={"precision": "bf16"}),
    )
    assert [each.score for each in there.translate(LINES)] == pytest.approx(expected, abs=0.05)
