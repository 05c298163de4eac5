"""Given translations: what training says of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.search.forced import force
from seq2seq.vocabulary import EOS, NUM_SPECIAL
from tests.builders import batch_of, columns, logits_of, tiny_network, variant
from tests.search_builders import SIZE, SYMBOLS, stepwise

sentences = st.lists(st.integers(NUM_SPECIAL, SIZE - 1), min_size=1, max_size=5)
translations = st.lists(
    st.lists(st.integers(NUM_SPECIAL, SIZE - 1), max_size=5), min_size=1, max_size=3
)


@given(
    st.integers(0, 99),
    st.lists(st.tuples(sentences, translations), min_size=1, max_size=3),
    st.sampled_from(["gnmt", "luong", "input_feeding"]),
)
@settings(deadline=None, max_examples=30)
def test_it_is_what_training_says(
    seed: int, cases: list[tuple[list[int], list[list[int]]]], layout: str
) -> None:
    network = tiny_network(seed, variant(layout=layout))
    sources, targets = [source for source, _ in cases], [several for _, several in cases]
    found = force(stepwise(network), *columns(sources), targets, symbols=SYMBOLS)
    assert [len(several) for several in found] == [len(several) for several in targets]
    for source, several, seen in zip(sources, targets, found, strict=True):
        for target, each in zip(several, seen, strict=True):
            batch = batch_of((source, target))
            scores = logits_of(network, batch).log_softmax(dim=1)
            expected = scores[range(len(target) + 1), [*target, EOS]].tolist()
            assert each.log_probabilities == pytest.approx(expected, abs=1e-9)
            assert [sum(weights) for weights in each.attention] == pytest.approx(
                [1.0] * (len(target) + 1)
            )
            assert {len(weights) for weights in each.attention} == {len(source)}
