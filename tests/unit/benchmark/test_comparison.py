"""Samples in turn, and what two candidates give together."""

from collections.abc import Callable

import pytest

from seq2seq.benchmark.comparison import Measured, rows_of, show_results, take_in_turn


def measured(**rates: list[float]) -> Measured:
    return Measured("title", [["row", *rates]], rates, "sentences/s", {"machine": {"torch": "2"}})


def test_samples_are_taken_in_turn() -> None:
    taken: list[str] = []

    def take(name: str) -> Callable[[], int]:
        def note() -> int:
            taken.append(name)
            return len(taken)

        return note

    results = take_in_turn({"one": take("one"), "other": take("other")}, samples=3)
    assert taken == ["one", "other"] * 3
    assert results == {"one": [1, 3, 5], "other": [2, 4, 6]}


def test_two_are_compared_sample_by_sample() -> None:
    two = measured(one=[6.0, 4.0, 9.0], other=[3.0, 1.0, 9.0])
    assert two.ratios == [2, 4, 1]
    assert two.reached == 2
    assert measured(one=[6.0, 4.0, 9.0]).reached == 6


def test_the_table_has_medians_and_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of({"one": [1.0, 5.0, 2.0], "other": [4.0]}, {"twice": (lambda it: 2 * it, ".1f")})
    assert rows == [["twice", "4.0 (2.0 to 10.0)", "8.0 (8.0 to 8.0)"]]
    show_results(measured(one=[2.0, 6.0], other=[1.0, 2.0]))
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "torch 2"
    assert shown[-1] == "one / other: 2.500 (2.000 to 3.000) × the sentences/s"
    show_results(measured(one=[2.0, 6.0]))
    assert "×" not in capsys.readouterr().out
