"""When a run is ended because it doesn't learn any more, and what is said."""

from collections.abc import Sequence
from math import inf, log, nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.config import Config
from seq2seq.data.loader import Position
from seq2seq.errors import CommonError
from seq2seq.parallel.group import Group
from seq2seq.parallel.place import Place
from seq2seq.training.checkpoint import checkpoint_path
from seq2seq.training.divergence import Computed, Watch
from seq2seq.training.run_folder import RunFolder
from tests.unit.training.test_module import make_steps

GUESSING = log(20)  # 3.00 nats
LIMIT = 2 * GUESSING


class Run:
    """A run of which the losses alone are known; those without a number were left out."""

    def __init__(self, folder: Path, saved: Sequence[int] = ()):
        config = Config.model_validate({"training": {"folder": folder}})
        self.folder = RunFolder(config, resume=True)
        self.folder.checkpoints.mkdir(parents=True, exist_ok=True)
        for step in saved:
            self.path(step).touch()
        self.steps = make_steps(tokens_per_device=100)
        self._watch = Watch(self.folder, Group(Place()), self.steps, GUESSING)
        self._step = 0

    def path(self, step: int) -> Path:
        return checkpoint_path(self.folder.checkpoints, step)

    def position(self, step: int) -> Position:
        return Position((step - 1) // 3, 1 + (step - 1) % 3)

    def lose(self, *losses: float) -> None:
        """Compute steps with these losses, after which they are read back."""
        computed: list[Computed] = []
        for loss in losses:
            self._step += 1
            computed.append(Computed(self._step, self.position(self._step), loss, loss != loss))
        self._watch.look(computed)

    def end(self, *losses: float) -> str:
        with pytest.raises(CommonError) as ended:
            self.lose(*losses)
        return str(ended.value)


def test_a_gradient_that_is_not_finite_ends_the_run_with_all_that_helps(tmp_path: Path) -> None:
    run = Run(tmp_path, saved=[2, 4])
    run.lose(3.0, 2.9, 2.8)
    told = run.end(2.7, 2.8, 2.7, nan, 2.6, nan)
    examples = ", ".join(map(str, sorted(run.steps.examples(run.position(7)).tolist())))
    assert told == (
        "the gradient was not finite in 2 of the last 6 steps; the first was step 7, of the"
        f" training examples {examples} (counted from 0): lower training.optimizer.learning_rate,"
        f" then go on from the last good checkpoint, {run.path(4)} (step 4), with --resume"
    )


def test_of_many_examples_ten_are_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    longest = max(range(1, 4), key=lambda step: len(run.steps.examples(run.position(step))))
    examples = sorted(run.steps.examples(run.position(longest)).tolist())
    told = run.end(*[3.0] * (longest - 1), nan)
    named = ", ".join(map(str, examples[:10]))
    assert f"examples {named} and {len(examples) - 10} more (" in told
    assert "then train anew, since there is no good checkpoint" in told


def test_a_loss_that_has_exploded_ends_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, saved=[20, 40, 60, 100, 120])
    run.lose(*[3.0] * 50)
    run.lose(*[2.0] * 12, *[20.0] * 20)  # 62 good ones; these are too few to be sure
    told = run.end(*[21.0] * 18)
    assert told.startswith("the loss has exploded: 16.04 per token in the last 50 steps, where")
    assert "guessing evenly loses 2.996; the first was step 63, of the training examples" in told
    assert told.endswith(
        "then remove step-00000100.ckpt, step-00000120.ckpt and go on from the last good"
        f" checkpoint, {run.path(60)} (step 60), with --resume"
    )


def test_what_was_saved_of_an_exploded_run_is_not_called_good(tmp_path: Path) -> None:
    """Its loss was too high for some steps already when a gradient was no number any more."""
    run = Run(tmp_path, saved=[5, 9, 10])
    run.lose(*[3.0] * 9, 50.0, 60.0)
    told = run.end(70.0, nan)
    assert "the first was step 13" in told
    assert "remove step-00000009.ckpt, step-00000010.ckpt and go on from" in told
    assert f"{run.path(5)} (step 5)" in told
    only = Run(tmp_path / "only", saved=[9])
    only.lose(*[3.0] * 9, 50.0)
    assert "train anew in another training.folder, since there is no" in only.end(nan)


def test_losses_beyond_all_numbers_have_exploded(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert "exploded: inf per token" in run.end(*[3.0] * 40, *[inf] * 10)
    assert "exploded: inf per token" in Run(tmp_path).end(*[inf] * 50)


@given(losses=st.lists(st.floats(0.0, LIMIT), min_size=1, max_size=300), each=st.integers(1, 80))
def test_losses_that_are_not_twice_those_of_guessing_go_on(
    tmp_path_factory: pytest.TempPathFactory, losses: list[float], each: int
) -> None:
    run = Run(tmp_path_factory.getbasetemp() / "healthy")
    for start in range(0, len(losses), each):
        run.lose(*losses[start : start + each])


@given(spike=st.floats(0.0, 50 * 3.0), where=st.integers(0, 49), first=st.floats(3.0, 30.0))
def test_neither_an_odd_batch_nor_a_bad_beginning_ends_a_run(
    tmp_path_factory: pytest.TempPathFactory, spike: float, where: int, first: float
) -> None:
    run = Run(tmp_path_factory.getbasetemp() / "spike")
    losses = [3.0] * 50
    losses[where] = spike
    run.lose(*losses)
    slow = Run(tmp_path_factory.getbasetemp() / "slow")  # to forget what it had learnt before
    slow.lose(*[first] * 100)
    slow.lose(*[first / 2] * 100)
