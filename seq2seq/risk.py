"""Which of several translations is the safest: most like all of them, by a metric.

Minimum Bayes risk (Kumar and Byrne 2004; with samples: Eikema and Aziz 2020).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF


def expected_utilities(texts: Sequence[str], metric: Literal["chrf", "bleu"]) -> list[float]:
    """Score each of several translations of one sentence by all, itself included, as references.

    Returns:
        The mean score of each, from 0 to 100.
    """
    score = CHRF() if metric == "chrf" else BLEU(effective_order=True)
    numbers = Counter(texts)
    expected = {
        text: sum(
            number * score.sentence_score(text, [reference]).score
            for reference, number in numbers.items()
        )
        / len(texts)
        for text in numbers
    }
    return [expected[text] for text in texts]
