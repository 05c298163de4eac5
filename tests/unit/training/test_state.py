"""Where a run stands: the best score, patience and plateau, and the way to plain data and back."""

import json
from dataclasses import fields

import pytest

from seq2seq.config import Plateau
from seq2seq.training.state import RunState


def record_all(state: RunState, scores: list[float], plateau: Plateau | None = None) -> list[bool]:
    """Validate every 10 steps with these scores."""
    improved: list[bool] = []
    for score in scores:
        state.step += 10
        state.validation_due = True
        improved.append(state.record(score, plateau))
        assert not state.validation_due
    return improved


def test_patience_counts_the_validations_since_the_best() -> None:
    state = RunState()
    stale: list[int] = []
    for score in (1.0, 3.0, 2.0, 2.5, 3.5, 0.0):
        record_all(state, [score])
        stale.append(state.stale)
    assert stale == [0, 0, 1, 2, 0, 1]


def test_the_best_is_known_with_its_step() -> None:
    state = RunState()
    assert state.best is None
    assert record_all(state, [1.0, 3.0, 2.0]) == [True, True, False]
    assert state.best == (20, 3.0)
    assert state.best_steps(1) == [20]
    assert state.best_steps(2) == [20, 30]
    assert state.best_steps(9) == [20, 30, 10]


def test_of_equal_scores_the_first_is_the_best() -> None:
    state = RunState()
    assert record_all(state, [2.0, 2.0, 1.0, 2.0]) == [True, False, False, False]
    assert state.best == (10, 2.0)
    assert state.best_steps(2) == [10, 20]
    assert state.stale == 3


def test_a_first_score_of_zero_is_the_best_so_far() -> None:
    state = RunState()
    assert record_all(state, [0.0]) == [True]
    assert state.stale == 0


@pytest.mark.parametrize(
    ("patience", "cuts"),
    [
        (0, [0, 1, 2, 3, 3, 4, 5]),  # each one that isn't better cuts
        (1, [0, 0, 1, 1, 1, 1, 2]),  # one is let pass, the next one cuts
        (2, [0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_plateau_cuts_after_its_patience(patience: int, cuts: list[int]) -> None:
    plateau = Plateau(kind="plateau", patience=patience)
    state = RunState()
    counted: list[int] = []
    for score in (5.0, 4.0, 4.0, 4.0, 6.0, 5.0, 5.0):
        record_all(state, [score], plateau)
        counted.append(state.cuts)
    assert counted == cuts
    assert state.stale == 2  # a cut doesn't start the run's own patience anew


def test_other_schedules_have_no_cuts() -> None:
    state = RunState()
    record_all(state, [5.0, 4.0, 4.0, 4.0])
    assert state.cuts == 0


def test_plain_data_and_back() -> None:
    state = RunState(
        step=30,
        epoch=2,
        batch=7,
        seconds=1.5,
        schedule_step=9,
        precision="bf16",
        steps_since_scale=3,
        tokens_per_device=640,
        base={"step": 9},
    )
    record_all(state, [5.0, 4.0, 6.0, 1.0, 1.0, 1.0], Plateau(kind="plateau", patience=1))
    state.validation_due = True
    for field in fields(state):
        assert getattr(state, field.name), f"{field.name} is the same as in a new state"
    plain = json.loads(json.dumps(state.to_plain()))  # tuples become lists
    assert RunState.from_plain(plain) == state
    assert RunState.from_plain(state.to_plain()) == state
    assert RunState.from_plain(plain).best == (60, 6.0)


def test_plain_data_is_a_copy() -> None:
    state = RunState()
    record_all(state, [1.0])
    plain = state.to_plain()
    record_all(state, [2.0])
    assert RunState.from_plain(plain).best == (10, 1.0)


def test_the_position_is_the_next_step() -> None:
    assert RunState(epoch=3, batch=5).position == (3, 5)


def test_a_state_of_before_there_were_bases_can_be_read():
    plain = RunState(step=3).to_plain()
    del plain["schedule_step"], plain["base"]
    assert RunState.from_plain(plain) == RunState(step=3)
