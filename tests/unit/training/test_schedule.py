"""Learning rates, step by step, by hand."""

import pytest

from seq2seq.config import InverseSquareRoot, Linear, Plateau
from seq2seq.training.schedule import rate_factor

SCHEDULES = (
    InverseSquareRoot(warmup=4),
    Linear(kind="linear", warmup=4),
    Plateau(kind="plateau", warmup=4),
)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_warm_up_in_a_straight_line(schedule: InverseSquareRoot | Linear | Plateau) -> None:
    factors = [rate_factor(schedule, step, steps=20, cuts=0) for step in range(1, 5)]
    assert factors == [0.25, 0.5, 0.75, 1.0]


def test_inverse_square_root() -> None:
    schedule = InverseSquareRoot(warmup=4)
    factors = {step: rate_factor(schedule, step, steps=20, cuts=0) for step in (9, 16, 100, 400)}
    assert factors == pytest.approx({9: 2 / 3, 16: 1 / 2, 100: 1 / 5, 400: 1 / 10})


def test_linear_falls_to_its_smallest_at_the_last_step() -> None:
    schedule = Linear(kind="linear", warmup=4)
    factors = [rate_factor(schedule, step, steps=13, cuts=0) for step in range(4, 14)]
    assert factors == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    # Near zero in a run of a real length, and never below.
    assert 0 < rate_factor(schedule, 50_000, steps=50_000, cuts=0) < 1e-4
    assert rate_factor(schedule, 50_001, steps=50_000, cuts=0) == 0.0
    assert rate_factor(schedule, 60_000, steps=50_000, cuts=0) == 0.0


def test_plateau_is_cut_by_its_factor_again_and_again() -> None:
    schedule = Plateau(kind="plateau", warmup=4, factor=0.3)
    for step in (4, 5, 1000):
        factors = [rate_factor(schedule, step, steps=2000, cuts=cuts) for cuts in range(4)]
        assert factors == pytest.approx([1.0, 0.3, 0.09, 0.027])


def test_cuts_are_the_business_of_plateau_alone() -> None:
    for schedule in SCHEDULES[:2]:
        assert rate_factor(schedule, 9, steps=20, cuts=3) == rate_factor(
            schedule, 9, steps=20, cuts=0
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_may_end_before_its_warm_up_does(
    schedule: InverseSquareRoot | Linear | Plateau,
) -> None:
    assert [rate_factor(schedule, step, steps=2, cuts=0) for step in (1, 2)] == [0.25, 0.5]
