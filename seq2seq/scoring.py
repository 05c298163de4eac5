"""Scores of translations against references, by sacrebleu; the only file that knows it."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

# Languages written without spaces, which sacrebleu's default tokenizer would take for one word.
_TOKENIZERS = {"zh": "zh", "ja": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}


class Score(NamedTuple):
    """One number with what it takes to compare it."""

    name: str
    value: float
    """In percent."""
    signature: str


class Scores(NamedTuple):
    """What a set of translations is worth, on detokenized text."""

    bleu: Score
    chrf: Score
    exact: Score


def score(hypotheses: Sequence[str], references: Sequence[str], *, language: str) -> Scores:
    """Compare translations with references, line by line.

    Papineni et al., "BLEU" (2002), Popović, "chrF" (2015), Post, "A Call for Clarity in Reporting
    BLEU Scores" (2018).

    Args:
        hypotheses: translations, as text.
        references: as many references.
        language: of both; decides how BLEU splits words, which its signature says.
    """
    assert len(hypotheses) == len(references)
    tokenizer = _TOKENIZERS.get(language.replace("_", "-").split("-")[0].lower(), "13a")
    bleu, chrf = BLEU(tokenize=tokenizer), CHRF()
    equal = sum(left == right for left, right in zip(hypotheses, references, strict=True))
    return Scores(
        bleu=_score("BLEU", bleu, hypotheses, references),
        chrf=_score("chrF2", chrf, hypotheses, references),
        exact=Score(
            "exact", 100 * equal / max(1, len(references)), f"case:mixed|lines:{len(references)}"
        ),
    )


def _score(
    name: str, metric: BLEU | CHRF, hypotheses: Sequence[str], references: Sequence[str]
) -> Score:
    result = cast(Any, metric).corpus_score(list(hypotheses), [list(references)])
    return Score(name, float(result.score), str(cast(Any, metric).get_signature()))
