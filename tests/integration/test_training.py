"""Whole runs in this process: the boundary, exact resume, extending, what may change."""

import csv
import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.config import Config
from seq2seq.data.prepare import prepare
from seq2seq.data.prepared import Manifest
from seq2seq.errors import CommonError, ModelError, UserError
from seq2seq.model_folder import load_model
from seq2seq.parallel.place import Place
from seq2seq.training.boundary import Boundary
from seq2seq.training.capacity import Capacity
from seq2seq.training.checkpoint import checkpoint_path, read_checkpoint
from seq2seq.training.run import train
from seq2seq.training.run_folder import RunFolder
from seq2seq.training.state import RunState
from seq2seq.training.stopping import StopNow, StopRequest
from tests.integration.conftest import Command, make_config

MEASURED = ("tokens_per_second", "padded_tokens_per_second", "data_wait", "memory")


Condition = Callable[[RunState], bool]


class StopWhen(StopRequest):
    """Asks to stop as a signal would, once the run has got somewhere."""

    def __init__(self, condition: Condition, states: list[RunState]):
        super().__init__()
        self._condition, self._states = condition, states

    def __bool__(self) -> bool:
        return any(map(self._condition, self._states))


def update(config: Config, **sections: dict[str, Any]) -> Config:
    """Change some settings."""
    plain = config.model_dump()
    for name, section in sections.items():
        plain[name] = plain[name] | section
    return Config.model_validate(plain)


def run(config: Config, *, resume: bool = False, stop: StopRequest | None = None) -> RunState:
    return train(config, Place(), resume=resume, stop=StopRequest() if stop is None else stop)


def run_until(
    config: Config,
    end: int | Condition,
    monkeypatch: pytest.MonkeyPatch,
    *,
    seconds: float | None = None,
) -> RunState:
    """Train until a stop that comes while a step is computed, or once a condition holds.

    `seconds` is a time limit, which is not reached.
    """
    condition: Condition = end if callable(end) else lambda state: state.step >= end
    states: list[RunState] = []
    start = Boundary.on_train_start

    def remember(self: Boundary, trainer: Any, pl_module: Any) -> None:
        states.append(pl_module.state)
        start(self, trainer, pl_module)

    with monkeypatch.context() as patch:
        patch.setattr(Boundary, "on_train_start", remember)
        stop = StopWhen(condition, states)
        stop.limit(seconds)
        return run(config, resume=True, stop=stop)


def content(config: Config, step: int) -> dict[str, Any]:
    return read_checkpoint(checkpoint_path(config.training.folder / "checkpoints", step))


def log(config: Config, kind: str) -> list[dict[str, Any]]:
    lines = (config.training.folder / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        for name in MEASURED:
            entry.pop(name, None)
    return [entry for entry in entries if entry["kind"] == kind]


def assert_same_end(first: Config, second: Config, step: int) -> None:
    """Check that two runs came to bit-equal weights, optimizer and decisions."""
    one, other = content(first, step), content(second, step)
    for part in ("weights", "average"):
        torch.testing.assert_close(other[part], one[part], rtol=0.0, atol=0.0)
    for number, moments in one["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, other["optimizer"]["state"][number][name])
    one["state"].pop("seconds")
    other["state"].pop("seconds")
    assert one["state"] == other["state"]
    assert log(first, "train") == log(second, "train")
    assert log(first, "validation") == log(second, "validation")


@pytest.fixture(scope="module", params=["linear", "plateau"])
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Config:
    """A run of 14 steps in epochs of a few, validated every 4, that nobody interrupted."""
    config = make_config(tmp_path_factory.mktemp(request.param))
    schedule: dict[str, Any] = {"kind": request.param, "warmup": 2}
    if request.param == "plateau":
        schedule["patience"] = 0
    optimizer = {"learning_rate": 1e-3, "schedule": schedule}
    folder = config.training.folder.with_name("full")
    full = update(config, training={"folder": folder, "optimizer": optimizer})
    state = run(full)
    assert state.step == 14
    assert state.epoch >= 2, "the run is meant to go over the ends of epochs"
    return full


@pytest.fixture
def stopped(uninterrupted: Config, tmp_path: Path) -> Config:
    """The same run, still to be made, in a folder of its own."""
    return update(uninterrupted, training={"folder": tmp_path / "stopped"})


# 4 and 8 are validations, 6 and 12 checkpoints; the first epoch ends within this range too.
@pytest.mark.parametrize("step", [1, 3, 4, 5, 6, 7, 8, 12, 13])
def test_a_stopped_run_ends_as_the_uninterrupted_one(
    uninterrupted: Config, stopped: Config, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_until(stopped, step, monkeypatch).step == step
    assert run(stopped, resume=True).step == 14
    assert_same_end(uninterrupted, stopped, 14)


def test_a_stop_at_the_end_of_an_epoch_does_not_repeat_it(
    uninterrupted: Config, stopped: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = [entry["epoch"] for entry in log(uninterrupted, "train")]
    end = epochs.count(0)
    assert run_until(stopped, end, monkeypatch).position == (1, 0)
    run(stopped, resume=True)
    assert [entry["epoch"] for entry in log(stopped, "train")] == epochs
    assert_same_end(uninterrupted, stopped, 14)


def test_a_stop_during_validation_leaves_it_due_and_it_is_done_first(
    uninterrupted: Config, stopped: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = run_until(stopped, 8, monkeypatch)
    assert state.validation_due
    assert [entry["step"] for entry in log(stopped, "validation")] == [4]
    run(stopped, resume=True)
    assert [entry["step"] for entry in log(stopped, "validation")] == [4, 8, 12, 14]


def test_a_run_stopped_after_every_step_ends_as_the_uninterrupted_one(
    uninterrupted: Config, stopped: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 15):
        run_until(stopped, step, monkeypatch)
    run(stopped, resume=True)
    assert_same_end(uninterrupted, stopped, 14)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"kind": "adam", "weight_decay": 0.1, "schedule": {"kind": "cosine", "warmup": "20%"}},
        {"kind": "sgd", "momentum": 0.9, "schedule": {"kind": "gnmt", "warmup": "500 tokens"}},
        {"kind": "sgd", "schedule": {"kind": "constant", "warmup": "1 epoch"}},
    ],
    ids=["adam", "momentum", "sgd"],
)
def test_a_stopped_run_of_another_optimizer_ends_as_the_uninterrupted_one(
    config: Config, optimizer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = update(config, training={"optimizer": optimizer, "folder": tmp(config, "full")})
    run(full)
    stopped = update(full, training={"folder": config.training.folder})
    run_until(stopped, 7, monkeypatch)
    run(stopped, resume=True)
    assert_same_end(full, stopped, 14)


def test_a_warm_up_can_be_given_in_epochs_tokens_or_a_share_of_the_run(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(config)
    train = Manifest.load(config.data.folder).splits["train"]
    half_an_epoch = f"{(train.target_pieces + train.pairs) // 2} tokens"
    for warmup in ("1 epoch", "50%", half_an_epoch):
        schedule = {"kind": "constant", "warmup": warmup}
        optimizer = {"learning_rate": 1e-3, "schedule": schedule}
        changed = update(config, training={"optimizer": optimizer, "folder": tmp(config, warmup)})
        run(changed)
        entries = log(changed, "train")
        epoch = [entry["epoch"] for entry in entries].count(0)
        steps = {"1 epoch": epoch, "50%": 7, half_an_epoch: round(epoch / 2)}[warmup]
        told = f"training.optimizer.schedule.warmup is {warmup}: {steps} steps"
        assert told in capsys.readouterr().err
        rates = [entry["learning_rate"] for entry in entries]
        assert rates == pytest.approx([min(1.0, step / steps) * 1e-3 for step in range(1, 15)])


def test_an_extended_run_ends_as_one_that_was_long_from_the_start(config: Config) -> None:
    # Every 4 steps a validation, so that the short run's end is one of the long run's too.
    optimizer = {"schedule": {"kind": "plateau", "warmup": 2, "patience": 0}}
    long = update(
        config,
        training={
            "steps": 16,
            "optimizer": optimizer,
            "folder": config.training.folder.with_name("long"),
        },
    )
    run(long)
    short = update(config, training={"steps": 12, "optimizer": optimizer})
    assert run(short).step == 12
    assert run(update(short, training={"steps": 16}), resume=True).step == 16
    assert_same_end(long, update(short, training={"steps": 16}), 16)


def test_a_finished_run_is_left_as_it_is(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    run(config)
    folder = config.training.folder
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    state = run(config, resume=True)
    assert state.step == 14
    assert "already at step 14: all 14 steps are done" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()} == before


def test_patience_ends_the_run_and_keeps_the_first_best(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    still = update(
        config,
        training={"steps": 1000, "optimizer": {"learning_rate": 1e-12}},
        validation={"every": 2, "patience": 2},
    )
    state = run(still)
    assert state.step == 6
    assert state.best is not None
    assert state.best[0] == 2
    assert load_model(still.training.folder / "model").facts["step"] == 2
    assert "BLEU has not got better in 2 validations" in capsys.readouterr().err
    assert run(still, resume=True).step == 6
    assert run(update(still, validation={"patience": 3}), resume=True).step == 8


def test_the_newest_and_the_best_checkpoints_are_kept(config: Config) -> None:
    kept = {"every": 2, "keep_last": 2, "keep_best": 1}
    state = run(update(config, training={"checkpoint": kept}))
    assert state.best is not None
    names = {path.name for path in (config.training.folder / "checkpoints").iterdir()}
    wanted = {12, 14, state.best[0]}
    assert names == {f"step-{step:08d}.ckpt" for step in wanted}


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(
    uninterrupted: Config,
    stopped: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_until(stopped, 7, monkeypatch)
    newest = checkpoint_path(stopped.training.folder / "checkpoints", 7)
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    run(stopped, resume=True)
    told = capsys.readouterr().err
    assert f"{newest} is damaged" in told
    assert "going on from step 6" in told
    assert_same_end(uninterrupted, stopped, 14)


def test_the_model_folder_holds_the_best_validated_weights(config: Config) -> None:
    trained = update(config, training={"checkpoint": {"every": 2}})
    state = run(trained)
    assert state.best is not None
    best = content(trained, state.best[0])["weights"]
    network = load_model(config.training.folder / "model").network
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, best[name])


@pytest.mark.parametrize(
    ("section", "setting", "named"),
    [
        ("model", {"decoder_size": 12}, "model.decoder_size: 8 → 12"),
        ("training", {"tokens_per_step": 700}, "training.tokens_per_step: 512 → 700"),
        ("training", {"optimizer": {"kind": "adam"}}, "training.optimizer.kind: adamw → adam"),
        ("training", {"optimizer": {"kind": "sgd"}}, "training.optimizer: {kind: adamw,"),
    ],
)
def test_what_a_run_cannot_change_is_refused_by_name(
    config: Config, section: str, setting: dict[str, Any], named: str
) -> None:
    run(config)
    with pytest.raises(CommonError, match=named):
        run(update(config, **{section: setting}), resume=True)


def test_other_data_is_refused(config: Config) -> None:
    run(config)
    other = update(config, data={"folder": config.data.folder.with_name("other"), "max_length": 12})
    with pytest.raises(CommonError, match="was trained on other data"):
        run(other, resume=True)


def test_a_run_folder_with_a_run_is_not_overwritten(config: Config) -> None:
    run(config)
    with pytest.raises(ModelError, match="--resume"):
        run(config)


def test_a_run_that_came_to_be_while_the_data_was_prepared_is_not_overwritten(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seq2seq.training import run as module

    prepare = module.prepare

    def prepare_slowly(wanted: Config) -> Any:
        monkeypatch.undo()
        run(config)  # another start, quicker than this one
        return prepare(wanted)

    monkeypatch.setattr(module, "prepare", prepare_slowly)
    with pytest.raises(CommonError, match="has a run in it"):
        run(update(config, training={"steps": 20}))
    assert content(config, 14)


def test_a_stop_after_which_there_is_more_to_do_leaves_a_mark_for_job_scripts(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = config.training.folder / "requeue"
    run_until(config, 5, monkeypatch)
    assert mark.exists()
    run_until(config, 5, monkeypatch)
    assert not mark.exists(), "it got nowhere, perhaps in all its time"
    run_until(config, 5, monkeypatch, seconds=3600.0)
    assert mark.exists(), "it got nowhere, but had more time"
    run_until(config, 5, monkeypatch, seconds=600.0)
    assert not mark.exists(), "it got nowhere, and had little more time"
    run_until(config, 8, monkeypatch, seconds=600.0)
    assert mark.exists()
    run(config, resume=True)
    assert not mark.exists(), "the run is done"
    mark.touch()
    run(config, resume=True)
    assert not mark.exists(), "and is left alone"


def test_gradients_that_are_not_finite_end_the_run_and_are_not_saved(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seq2seq.training import module

    calls: list[int] = []
    whole = module.token_loss

    def broken(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        return whole(*args, **kwargs) * (float("nan") if len(calls) > 8 else 1.0)

    monkeypatch.setattr(module, "token_loss", broken)
    with pytest.raises(UserError, match="not finite"):
        run(update(config, training={"log_every": 14}))
    for path in (config.training.folder / "checkpoints").iterdir():
        assert all(
            weights.isfinite().all() for weights in read_checkpoint(path)["weights"].values()
        )


def test_a_rate_that_is_too_high_ends_the_run_and_the_last_good_checkpoint_goes_on(
    config_file: Path, config: Config, command: Command
) -> None:
    train = ("train", config_file, "--resume")
    assert command(*train, "training.steps=6").status == 0
    rate = "training.optimizer.learning_rate=1e30"
    end = command(*train, rate, "training.log_every=100", "training.checkpoint.every=100")
    saved = checkpoint_path(config.training.folder / "checkpoints", 6)
    assert end.status == 2
    assert "Traceback" not in end.messages
    told = "the gradient was not finite in 1 of the last 2 steps; the first was step 8, of the"
    assert f"seq2seq: {told} training examples " in end.messages
    assert end.messages.endswith(
        " (counted from 0): lower training.optimizer.learning_rate, then go on from the last good"
        f" checkpoint, {saved} (step 6), with --resume\n"
    )
    assert command(*train).status == 0
    assert content(config, 14)


def test_a_loss_that_explodes_ends_the_run(config_file: Path, command: Command) -> None:
    settings = ("training.steps=70", "training.log_every=10", "validation.every=1000")
    rate = ("training.optimizer.learning_rate=100", "training.optimizer.schedule.warmup=5")
    end = command("train", config_file, *settings, *rate)
    assert end.status == 2
    assert "seq2seq: the loss has exploded: " in end.messages
    assert " per token in the last 50 steps, where guessing evenly loses 3.871; " in end.messages
    assert "Traceback" not in end.messages


def test_the_longest_batch_is_tried_without_a_trace(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config)
    untried = update(config, training={"folder": config.training.folder.with_name("untried")})
    tried: list[int] = []

    def leave_out(_: Capacity, tokens: int) -> None:
        tried.append(tokens)

    monkeypatch.setattr(Capacity, "check", leave_out)
    run(untried)
    assert tried == [600]
    assert_same_end(config, untried, 14)


def test_a_deterministic_run_is_so_before_anything_is_computed(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: object) -> None:
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        raise UserError("seen")

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr(Capacity, "check", look)
    try:
        with pytest.raises(UserError, match="seen"):
            run(update(config, trainer={"deterministic": True}))
    finally:
        torch.use_deterministic_algorithms(False)


def test_auto_is_said_and_trains_as_the_number_that_it_is(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = update(config, training={"tokens_per_device": 25000})
    run(number)
    folder = config.training.folder.with_name("auto")
    auto = update(config, training={"tokens_per_device": "auto", "folder": folder})
    run_until(auto, 5, monkeypatch)
    capsys.readouterr()
    run(auto, resume=True)
    messages = capsys.readouterr().err
    assert messages.count("training.tokens_per_device: auto is 25,000 here, since cpu ") == 1
    assert "changed since" not in messages
    assert_same_end(number, auto, 14)


def test_lightning_installs_no_signal_handler(config: Config) -> None:
    import signal

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    run(config)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
    from pytorch_lightning.loops import training_epoch_loop
    from pytorch_lightning.trainer.connectors import signal_connector

    replaced = getattr(signal_connector, "_SignalConnector", None)
    assert hasattr(replaced, "register_signal_handlers"), "the name that is replaced is gone"
    loop = getattr(training_epoch_loop, "_TrainingEpochLoop", None)
    assert hasattr(loop, "_broadcast_sigterm_tensor"), "this name too"


def test_settings_of_the_optimizer_that_changed_take_effect(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(config, 3, monkeypatch)
    changed = update(config, training={"optimizer": {"weight_decay": 0.7, "betas": (0.5, 0.6)}})
    run(changed, resume=True)
    (group,) = content(changed, 14)["optimizer"]["param_groups"]
    assert (group["weight_decay"], tuple(group["betas"])) == (0.7, (0.5, 0.6))


def test_a_metrics_line_that_a_kill_cut_off_is_dropped(
    uninterrupted: Config, stopped: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(stopped, 5, monkeypatch)
    with (stopped.training.folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    run(stopped, resume=True)
    assert_same_end(uninterrupted, stopped, 14)


def test_a_long_line_of_the_validation_set_is_validated(tmp_path: Path, config: Config) -> None:
    for language in ("en", "de"):
        with (tmp_path / f"validation.{language}").open("a") as file:
            file.write("der " * 700 + "\n")
    short = {"max_length": 60}
    assert run(update(config, data=short, training={"tokens_per_step": 128})).step == 14


def test_a_prepared_folder_needs_its_text_no_more(tmp_path: Path, config: Config) -> None:
    run(update(config, training={"steps": 2}))
    (tmp_path / "train.en").unlink()
    assert run(config, resume=True).step == 14


def test_a_run_can_be_watched(tmp_path: Path) -> None:
    watched: dict[str, object] = {"loggers": ["tensorboard", "csv"], "attention": 2}
    config = make_config(tmp_path, monitoring=watched, validation={"every": 7})
    run(config)
    folder = config.training.folder
    pictures = sorted(path.name for path in (folder / "attention").iterdir())
    assert pictures == [f"step-{step:08d}-{number}.png" for step in (7, 14) for number in (1, 2)]
    assert list((folder / "tensorboard").rglob("events.*"))
    (table,) = folder.rglob("metrics.csv")
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    logged = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert logged == pytest.approx([entry["loss"] for entry in log(config, "train")])
    bleu = [float(row["validation/bleu"]) for row in rows if row["validation/bleu"]]
    assert bleu == pytest.approx([entry["bleu"] for entry in log(config, "validation")])
    measured = rows[-3]
    padded = float(measured["train/padded_tokens_per_second"])
    assert padded >= float(measured["train/tokens_per_second"]) > 0
    assert 0 <= float(measured["train/data_wait"]) < 1
    assert 0.05 < float(measured["train/memory"]) < 50


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_made_ahead_change_nothing(
    uninterrupted: Config, stopped: Config, workers: int
) -> None:
    run(update(stopped, trainer={"workers": workers}))
    assert_same_end(uninterrupted, stopped, 14)


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run whose score never gets better: best at 3, the rate is cut at 6 and 9, it ends at 12."""
    config = make_config(tmp_path_factory.mktemp("stale"), validation={"every": 3, "patience": 3})
    schedule = {"kind": "plateau", "warmup": 1, "patience": 0}
    optimizer = {"learning_rate": 1e-12, "schedule": schedule}
    kept = {"every": 100, "keep_best": 2}
    full = update(config, training={"steps": 100, "optimizer": optimizer, "checkpoint": kept})
    assert run(full).step == 12
    state = RunState.from_plain(content(full, 12)["state"])
    assert (state.best_steps(2), state.cuts, state.stale) == ([3, 6], 3, 3)
    return full


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run whose score gets better, validated every 20 steps."""
    config = make_config(
        tmp_path_factory.mktemp("learning"),
        model={"embedding_size": 32, "encoder_size": 32, "decoder_size": 32},
        validation={"every": 20, "search": {"beam": 1}},
    )
    optimizer = {"learning_rate": 0.02, "schedule": {"kind": "inverse_sqrt", "warmup": 5}}
    kept = {"every": 100, "keep_best": 2}
    full = update(config, training={"steps": 100, "optimizer": optimizer, "checkpoint": kept})
    run(full)
    scores = [entry["bleu"] for entry in log(full, "validation")]
    assert len(set(scores)) == 5, "each is meant to be another"
    return full


def kept_best(config: Config, steps: list[int]) -> list[bool]:
    return [
        checkpoint_path(config.training.folder / "checkpoints", step).exists() for step in steps
    ]


@pytest.mark.parametrize("moment", ["before", "at", "after"])
@pytest.mark.parametrize(
    ("name", "event"),
    [("stale", 3), ("stale", 6), ("stale", 9), ("stale", 12), ("learning", 40), ("learning", 80)],
)
def test_decisions_are_the_same_whether_a_run_stops_before_at_or_after_them(
    request: pytest.FixtureRequest,
    name: str,
    event: int,
    moment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Best model at 3, cuts of the rate at 6 and 9, the last validation at 12; other best ones."""
    full: Config = request.getfixturevalue(name)
    stopped = update(full, training={"folder": tmp_path / "stopped"})
    conditions: dict[str, Condition] = {
        "before": lambda state: state.step >= event - 1,
        "at": lambda state: state.step >= event,
        "after": lambda state: any(step == event for step, _ in state.scores),
    }
    state = run_until(stopped, conditions[moment], monkeypatch)
    assert state.validation_due == (moment == "at")
    assert any(step == event for step, _ in state.scores) == (moment == "after")
    last = 12 if name == "stale" else 100
    assert run(stopped, resume=True).step == last
    assert_same_end(full, stopped, last)
    best = RunState.from_plain(content(full, last)["state"]).best_steps(2)
    assert kept_best(stopped, best) == [True, True]
    models = [load_model(config.training.folder / "model").facts for config in (full, stopped)]
    assert models[0] == models[1]


def test_a_checkpoint_comes_after_some_minutes_as_well(
    uninterrupted: Config, stopped: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = RunFolder.save

    def remember(self: RunFolder, module: Any, data: Any) -> None:
        saved.append(module.state.step)
        save(self, module, data)

    monkeypatch.setattr(RunFolder, "save", remember)
    rarely = {"every": 1000, "minutes": 1e-9}
    run(update(stopped, training={"checkpoint": rarely}))
    assert saved == list(range(1, 15))
    assert_same_end(uninterrupted, stopped, 14)


def test_an_average_of_the_weights_is_validated_and_the_weights_go_on(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decay is that of the first steps, (1 + k) / (10 + k), until it would be above 0.4."""
    every_step = {"every": 1, "keep_last": 99}
    averaged = update(config, training={"ema": 0.4, "steps": 12, "checkpoint": every_step})
    state = run(averaged)
    plain = update(averaged, training={"ema": None, "folder": tmp(config, "plain")})
    run(plain)
    torch.testing.assert_close(
        content(averaged, 12)["weights"], content(plain, 12)["weights"], rtol=0.0, atol=0.0
    )
    expected = {name: weights.clone() for name, weights in content(plain, 1)["weights"].items()}
    before = content(averaged, 1)["average"]
    assert any(not torch.equal(before[name], weights) for name, weights in expected.items())
    for step in range(2, 13):
        decay = min(0.4, (1 + step) / (10 + step))
        weights, average = content(averaged, step)["weights"], content(averaged, step)["average"]
        for name, value in average.items():
            hand = decay * before[name].double() + (1 - decay) * weights[name].double()
            torch.testing.assert_close(value.double(), hand, rtol=1e-5, atol=1e-7)
        before = average
    assert state.best is not None
    model = load_model(config.training.folder / "model").network
    best = content(averaged, state.best[0])["average"]
    assert all(torch.equal(value, best[name]) for name, value in model.named_parameters())
    again = update(averaged, training={"folder": tmp(config, "again")})
    run_until(again, 7, monkeypatch)
    run(again, resume=True)
    assert_same_end(averaged, again, 12)


def tmp(config: Config, name: str) -> Path:
    """A run folder beside another one."""
    return config.training.folder.with_name(name)


def test_an_average_can_begin_and_end_on_the_way(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_until(config, 5, monkeypatch)
    run_until(update(config, training={"ema": 0.5}), 9, monkeypatch)
    assert "training.ema: null → 0.5" in capsys.readouterr().err
    assert content(config, 9)["average"] is not None
    run(config, resume=True)
    assert content(config, 14)["average"] is None


class Slow(StopRequest):
    """Of a run whose steps take 10 seconds, and whose checkpoints half an hour."""

    def step_takes(self, seconds: float) -> None:
        super().step_takes(10.0)

    def saving_takes(self, seconds: float) -> None:
        super().saving_takes(1790.0)


def test_a_run_that_does_not_fit_in_its_time_says_so_saves_and_goes_on(
    uninterrupted: Config, stopped: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = StopRequest()
    stop.limit(0.0)
    with pytest.raises(StopNow):
        run(stopped, stop=stop)
    assert not (stopped.training.folder / "metrics.jsonl").exists()
    slow = Slow()
    slow.limit(3600.0)
    state = run(stopped, stop=slow)
    assert 0 < state.step < 14
    assert f"stopped at step {state.step} (the time limit)" in capsys.readouterr().err
    run(stopped, resume=True)
    assert_same_end(uninterrupted, stopped, 14)


def test_whether_the_run_fits_in_its_time_is_said(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = StopRequest()
    stop.limit(36000.0)
    run(update(config, training={"steps": 25}), stop=stop)
    told = capsys.readouterr().err
    assert "the 5 steps to go take" in told
    assert "the time limit is in 10 h" in told


def test_a_run_that_has_lost_its_folder_stops_and_saves_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = config.training.folder

    def lose(state: RunState) -> bool:
        if state.step == 4:
            (folder / "lock").unlink(missing_ok=True)
        return False

    with pytest.raises(CommonError, match="has lost its lock: this process stops, and saves noth"):
        run_until(config, lose, monkeypatch)
    newest = max(path.name for path in (folder / "checkpoints").iterdir())
    assert newest == "step-00000003.ckpt"
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 4


def test_what_a_kill_left_behind_is_cleared_away(
    uninterrupted: Config, stopped: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a checkpoint, and a model folder that was moved aside when its successor was to come."""
    run_until(stopped, 9, monkeypatch)
    folder = stopped.training.folder
    (folder / "checkpoints" / ".step-00000009.ckpt.partial-77").write_bytes(b"half")
    (folder / "model").rename(folder / ".model.old-77")
    (folder / ".model.partial-77").mkdir()
    run_until(stopped, 10, monkeypatch)
    assert load_model(folder / "model").facts["step"] in (4, 8)
    assert not list(folder.rglob(".*"))
    run(stopped, resume=True)
    assert_same_end(uninterrupted, stopped, 14)


def test_a_checkpoint_of_another_version_is_not_passed_over(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(config, 7, monkeypatch)
    newest = checkpoint_path(config.training.folder / "checkpoints", 7)
    _, _, payload = newest.read_bytes().split(b"\n", 2)
    head = b"seq2seq checkpoint 99"
    newest.write_bytes(b"\n".join((head, sha256(head + payload).hexdigest().encode(), payload)))
    before = newest.read_bytes()
    with pytest.raises(CommonError, match="has format 99, but this version reads format 3"):
        run(config, resume=True)
    assert newest.read_bytes() == before
