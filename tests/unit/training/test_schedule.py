"""Learning rates, step by step, by hand; and lengths in steps."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config import (
    Constant,
    Cosine,
    Gnmt,
    InverseSquareRoot,
    Length,
    Linear,
    Plateau,
    Schedule,
)
from seq2seq.training.schedule import Extent, in_steps, rate_factor

FOUR = Length(4)
SCHEDULES: tuple[Schedule, ...] = (
    InverseSquareRoot(warmup=FOUR),
    Linear(kind="linear", warmup=FOUR),
    Cosine(kind="cosine", warmup=FOUR),
    Constant(kind="constant", warmup=FOUR),
    Plateau(kind="plateau", warmup=FOUR),
    Gnmt(kind="gnmt", warmup=FOUR, growth="linear", start=Length(10)),
)
EXTENT = Extent(steps=2000, epoch_steps=300, epoch_tokens=60_000)


def factors(schedule: Schedule, start: int, end: int, *, steps: int) -> list[float]:
    """The factors of the steps from `start` to `end`."""
    return [rate_factor(schedule, step, steps=steps, cuts=0) for step in range(start, end + 1)]


each = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)


@each
def test_all_warm_up_in_a_straight_line(schedule: Schedule) -> None:
    assert factors(schedule, 1, 4, steps=20) == [0.25, 0.5, 0.75, 1.0]


@each
def test_a_run_may_end_before_its_warm_up_does(schedule: Schedule) -> None:
    for steps in (2, 3):
        assert factors(schedule, 1, 2, steps=steps) == [0.25, 0.5]


@each
def test_a_warm_up_of_one_step_is_none(schedule: Schedule) -> None:
    assert rate_factor(
        schedule.model_copy(update={"warmup": Length(1)}), 1, steps=20, cuts=0
    ) == pytest.approx(1.0)


def test_inverse_square_root() -> None:
    schedule = SCHEDULES[0]
    found = {step: rate_factor(schedule, step, steps=20, cuts=0) for step in (9, 16, 100, 400)}
    assert found == pytest.approx({9: 2 / 3, 16: 1 / 2, 100: 1 / 5, 400: 1 / 10})


def test_linear_falls_to_its_smallest_at_the_last_step() -> None:
    schedule = SCHEDULES[1]
    assert factors(schedule, 4, 13, steps=13) == pytest.approx(
        [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    )
    # Near zero in a run of a real length, and never below.
    assert 0 < rate_factor(schedule, 50_000, steps=50_000, cuts=0) < 1e-4
    assert rate_factor(schedule, 50_001, steps=50_000, cuts=0) == 0.0
    assert rate_factor(schedule, 60_000, steps=50_000, cuts=0) == 0.0


@pytest.mark.parametrize("end", [0.0, 0.2])
def test_cosine_falls_over_half_a_period(end: float) -> None:
    schedule = Cosine(kind="cosine", warmup=FOUR, end=end)
    found = factors(schedule, 4, 10, steps=9)  # by sixths of the half period
    root = math.sqrt(3) / 2
    waves = [1.0, (1 + root) / 2, 0.75, 0.5, 0.25, (1 - root) / 2, 0.0]
    assert found == pytest.approx([end + (1 - end) * wave for wave in waves])
    assert rate_factor(schedule, 99, steps=9, cuts=0) == pytest.approx(end)


def test_constant_stays() -> None:
    assert set(factors(SCHEDULES[3], 4, 50, steps=20)) == {1.0}


def test_plateau_is_cut_by_its_factor_again_and_again() -> None:
    schedule = Plateau(kind="plateau", warmup=FOUR, factor=0.3)
    for step in (4, 5, 1000):
        found = [rate_factor(schedule, step, steps=2000, cuts=cuts) for cuts in range(4)]
        assert found == pytest.approx([1.0, 0.3, 0.09, 0.027])


@each
def test_cuts_are_the_business_of_plateau_alone(schedule: Schedule) -> None:
    if isinstance(schedule, Plateau):
        return
    assert rate_factor(schedule, 9, steps=20, cuts=3) == rate_factor(schedule, 9, steps=20, cuts=0)


def test_gnmt_grows_by_equal_factors_from_a_hundredth() -> None:
    schedule = Gnmt(kind="gnmt", warmup=FOUR, start=Length(10))
    found = factors(schedule, 1, 4, steps=20)
    assert found == pytest.approx([10**-1.5, 0.1, 10**-0.5, 1.0])
    assert [after / before for before, after in pairwise(found)] == pytest.approx([10**0.5] * 3)


def test_gnmt_is_cut_at_even_distances_from_its_start_on() -> None:
    schedule = Gnmt(kind="gnmt", warmup=FOUR, start=Length(6), interval=Length(2), cuts=3)
    expected = [1.0] * 3 + [0.5] * 2 + [0.25] * 2 + [0.125] * 4
    assert factors(schedule, 4, 14, steps=14) == expected


def test_gnmt_without_an_interval_spreads_its_cuts_over_the_rest() -> None:
    schedule = Gnmt(kind="gnmt", warmup=FOUR, start=Length(8), cuts=4, factor=0.1)
    expected = [1.0] + [0.1] * 3 + [0.01] * 3 + [0.001] * 3 + [0.0001] * 3
    assert factors(schedule, 8, 20, steps=20) == pytest.approx(expected)
    # More cuts than steps are left: one at each.
    assert factors(schedule, 8, 10, steps=10) == pytest.approx([1.0, 0.1, 0.01])


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        (Length(500), 500),
        (Length(2, "epochs"), 600),
        (Length(0.5, "epochs"), 150),
        (Length(1e4, "tokens"), 50),  # of 200 tokens a step
        (Length(10, "%"), 200),
        (Length(66.6, "%"), 1332),
        (Length(0.07, "%"), 1),  # to the nearest
        (Length(0.08, "%"), 2),
        (Length(1, "tokens"), 1),  # but at least one
        (Length(1e6, "tokens"), 5000),  # more than the run
    ],
)
def test_lengths_in_steps(length: Length, steps: int) -> None:
    assert EXTENT.steps_of(length) == steps


def test_all_lengths_of_a_schedule_are_resolved_and_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    schedule = Gnmt(
        kind="gnmt", warmup=Length(50), start=Length(5, "epochs"), interval=Length(1e4, "tokens")
    )
    assert in_steps(schedule, EXTENT) == schedule.model_copy(
        update={"start": Length(1500), "interval": Length(50)}
    )
    assert capsys.readouterr().err.splitlines() == [
        "training.optimizer.schedule.start is 5 epochs: 1,500 steps",
        "training.optimizer.schedule.interval is 10000 tokens: 50 steps",
    ]


def test_an_interval_that_is_left_out_stays_so() -> None:
    schedule = Gnmt(kind="gnmt")
    found = in_steps(schedule, EXTENT)
    assert found == schedule.model_copy(update={"start": Length(1332)})


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        (Linear(kind="linear", warmup=Length(2000)), []),
        (
            Linear(kind="linear", warmup=Length(2001)),
            ["warmup is 2,001 steps, but the run has 2,000: the rate never gets to its highest"],
        ),
        (
            Gnmt(kind="gnmt", warmup=Length(200), start=Length(150)),
            ["start is 150 steps, but the warm-up takes 200: the rate never stays at its highest"],
        ),
    ],
)
def test_what_can_not_be_meant_is_told(
    schedule: Schedule, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    in_steps(schedule, EXTENT)
    lines = [f"training.optimizer.schedule.{text}" for text in told]
    assert capsys.readouterr().err.splitlines() == lines


@given(
    st.sampled_from(SCHEDULES),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_the_rate_is_highest_at_the_end_of_the_warm_up(
    schedule: Schedule, warmup: int, start: int, steps: int, step: int
) -> None:
    """Whatever the settings: it rises to the end of the warm-up, then it never does."""
    update = {"warmup": Length(warmup)}
    if isinstance(schedule, Gnmt):
        update["start"] = Length(start)
    schedule = schedule.model_copy(update=update)
    before, after = factors(schedule, step, step + 1, steps=steps)
    assert 0.0 <= before <= 1.0
    if step + 1 < warmup:
        assert before < after
    elif step >= warmup:
        assert before >= after
