"""Minimum Bayes risk, by hand and by sacrebleu's own scores."""

from typing import Literal

import pytest
from sacrebleu import sentence_bleu, sentence_chrf

from seq2seq.risk import expected_utilities


def test_what_most_agree_on_is_the_safest() -> None:
    texts = ["the cat sat", "the cat sat", "a dog ran"]
    found = expected_utilities(texts, "chrf")
    cat, dog = (
        sentence_chrf(text, [other]).score for text, other in (texts[1:], (texts[2], texts[1]))
    )
    assert found == pytest.approx([(200 + cat) / 3] * 2 + [(100 + 2 * dog) / 3])


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_each_is_scored_by_all(metric: Literal["chrf", "bleu"]) -> None:
    texts = ["the small cat sat on the mat", "the cat sat on the mat", "the cat is on a mat"]

    def utility(text: str) -> float:
        if metric == "chrf":
            return sum(sentence_chrf(text, [other]).score for other in texts) / 3
        return sum(sentence_bleu(text, [other]).score for other in texts) / 3

    found = expected_utilities(texts, metric)
    assert found == pytest.approx([utility(text) for text in texts])
    assert max(found) == found[1]
