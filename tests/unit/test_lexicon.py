"""IBM model 1: against hand computation, plain loops, and what it is known to find."""

from collections import defaultdict
from collections.abc import Sequence

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq import lexicon
from seq2seq.lexicon import Column, Lexicon, learn_lexicon

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]
Table = dict[tuple[int, int], float]

DAS, EIN, HAUS, BUCH = 4, 5, 6, 7
THE, A, HOUSE, BOOK = 10, 11, 12, 13
BOOKS: Pairs = [([DAS, HAUS], [THE, HOUSE]), ([DAS, BUCH], [THE, BOOK]), ([EIN, BUCH], [A, BOOK])]

pieces = st.lists(st.integers(0, 6), min_size=1, max_size=5)
texts = st.lists(st.tuples(pieces, pieces), min_size=1, max_size=6)


def column(sentences: Sequence[Sequence[int]]) -> Column:
    return Column(
        numpy.array([piece for sentence in sentences for piece in sentence]),
        numpy.array([len(sentence) for sentence in sentences]),
    )


def learn(pairs: Pairs, iterations: int) -> Lexicon:
    sources, targets = zip(*pairs, strict=True)
    return learn_lexicon(column(sources), column(targets), iterations=iterations)


def as_table(found: Lexicon) -> Table:
    keys = zip(found.source.tolist(), found.target.tolist(), strict=True)
    table = dict(zip(keys, found.probability.tolist(), strict=True))
    assert len(table) == len(found.source)  # each pair of pieces once
    return table


def by_plain_loops(pairs: Pairs, iterations: int) -> Table:
    likely: Table = {(s, t): 1.0 for source, target in pairs for s in source for t in target}
    for _ in range(iterations):
        counts, totals = defaultdict[tuple[int, int], float](float), defaultdict[int, float](float)
        for source, target in pairs:
            for t in target:
                whole = sum(likely[s, t] for s in source)
                for s in source:
                    counts[s, t] += likely[s, t] / whole
                    totals[s] += likely[s, t] / whole
        likely = {(s, t): count / totals[s] for (s, t), count in counts.items()}
    return likely


def test_the_first_step_is_that_by_hand() -> None:
    # At first each target piece is halved between its two source pieces.
    expected = {
        (DAS, THE): 1 / 2,  # (1/2 + 1/2) of 2
        (DAS, HOUSE): 1 / 4,
        (DAS, BOOK): 1 / 4,
        (HAUS, THE): 1 / 2,
        (HAUS, HOUSE): 1 / 2,
        (BUCH, THE): 1 / 4,
        (BUCH, A): 1 / 4,
        (BUCH, BOOK): 1 / 2,
        (EIN, A): 1 / 2,
        (EIN, BOOK): 1 / 2,
    }
    assert as_table(learn(BOOKS, 1)) == pytest.approx(expected, abs=1e-15)


def test_it_finds_the_pairs_in_the_end() -> None:
    found = as_table(learn(BOOKS, 60))
    for pair in ((DAS, THE), (EIN, A), (HAUS, HOUSE), (BUCH, BOOK)):
        assert found[pair] > 0.95


@settings(deadline=None, max_examples=40)
@given(pairs=texts, iterations=st.integers(1, 3), cells=st.sampled_from([1, 20, 1 << 22]))
def test_it_is_what_plain_loops_find_however_much_is_looked_at_together(
    pairs: Pairs, iterations: int, cells: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lexicon, "_CELLS", cells)
        found = as_table(learn(pairs, iterations))
    assert found == pytest.approx(by_plain_loops(pairs, iterations), abs=1e-12)


def test_progress_is_told_to_the_end() -> None:
    told: list[int] = []
    sources, targets = zip(*BOOKS, strict=True)
    learn_lexicon(column(sources), column(targets), iterations=3, advance=told.append)
    assert sum(told) == 4 * 6


def test_the_likeliest_come_first() -> None:
    found = Lexicon(
        numpy.array([5, 4, 5, 4, 5]),
        numpy.array([7, 8, 8, 9, 9]),
        numpy.array([0.2, 0.5, 0.6, 0.5, 0.2]),
    ).likeliest(2)
    rows = zip(found.source.tolist(), found.rank.tolist(), found.target.tolist(), strict=True)
    assert list(rows) == [(4, 0, 8), (4, 1, 9), (5, 0, 8), (5, 1, 7)]  # the lower id at a draw
