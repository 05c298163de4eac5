"""How long a run may take, and whether it fits."""

import pytest

from seq2seq.errors import UserError
from seq2seq.training.time_limit import forecast, seconds_allowed


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("45m", 2700),
        ("2h", 7200),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1d1h1m1s", 90061),
    ],
)
def test_times_are_read(written: str, seconds: float) -> None:
    assert seconds_allowed(written) == seconds


@pytest.mark.parametrize("written", ["", "2", "h", "1:30:00", "30m2h", "-2h", "2 hours", "1.5h"])
def test_what_is_no_time_is_refused(written: str) -> None:
    with pytest.raises(UserError, match="--time-limit must be a time such as 90m, 1h30m or 2d"):
        seconds_allowed(written)


def test_a_run_that_fits_and_one_that_does_not() -> None:
    fits = forecast(2.0, step=100, steps=1000, seconds_left=7200.0)
    assert fits == (
        "the 900 steps to go take 30 min, without validations; the time limit is in 2 h 0 min"
    )
    does_not = forecast(2.0, step=100, steps=10000, seconds_left=7200.0)
    assert "take 5 h 30 min, without validations, but the time limit is in 2 h 0 min" in does_not
    assert "saved at about step 3,700, and --resume goes on" in does_not
