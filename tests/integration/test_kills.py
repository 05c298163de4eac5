"""Processes killed at random moments, and runs that go on with other numbers of processes."""

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.training.checkpoint import checkpoint_path, read_checkpoint
from tests.integration.conftest import make_config, prepared
from tests.integration.processes import Process, free_port, ranks, run_all

STEPS = 120
DWELLER = "tests.integration.dweller"
RECORDER = "tests.integration.recorder"
STILL = {"embeddings": 0.0, "layers": 0.0, "output": 0.0, "words": 0.0}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 120 steps with dropout and validations, as a file, with the data prepared."""
    folder = tmp_path_factory.mktemp("kills")
    training: dict[str, object] = {"steps": STEPS, "checkpoint": {"every": 7}, "ema": 0.9}
    return prepared(make_config(folder, training=training, validation={"every": 10}))


def end_of(folder: Path, step: int = STEPS) -> dict[str, Any]:
    """What the checkpoint of the last step holds, without the time that it took."""
    content = read_checkpoint(checkpoint_path(folder / "checkpoints", step))
    for name in ("seconds", "precision"):  # which is a word, and no number to compare
        content["state"].pop(name)
    return {name: content[name] for name in ("state", "weights", "average", "optimizer")}


@pytest.fixture(scope="module")
def uninterrupted(config: Path) -> dict[str, Any]:
    folder = config.parent / "uninterrupted"
    ends = run_all(ranks(2), "train", config, f"training.folder={folder}")
    assert [end.status for end in ends] == [0, 0], ends
    return end_of(folder)


SEEDS = [pytest.param(seed, marks=[pytest.mark.long] * (seed >= 3)) for seed in range(20)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_is_killed_again_and_again_ends_as_the_uninterrupted_one(
    config: Path, uninterrupted: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    """Three times: all processes at once, or one, whose loss ends the other."""
    generator = random.Random(seed)
    log = tmp_path / "run" / "metrics.jsonl"
    folder = f"training.folder={tmp_path / 'run'}"
    # One that is killed before they have met is waited for until then.
    command = ("train", config, "--resume", folder, "trainer.timeout=0.3")
    for victims in ([0, 1], [0], [1]):
        lines = count_lines(log) + generator.choice((0, 2, 10, 30))
        processes = [Process(*command, place=place) for place in ranks(2)]
        while count_lines(log) < lines and processes[0].poll(0.01) is None:
            pass
        time.sleep(generator.uniform(0.0, 0.3))
        for rank in victims:
            processes[rank].kill()
        statuses = [process.finish(60.0).status for process in processes]
        for rank in victims:
            assert statuses[rank] in (-signal.SIGKILL, 0)
    ends = run_all(ranks(2), *command)
    assert [end.status for end in ends] == [0, 0], ends
    torch.testing.assert_close(end_of(tmp_path / "run"), uninterrupted, rtol=0.0, atol=0.0)
    leftovers = [path for path in (tmp_path / "run").rglob(".*")]
    assert not leftovers


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == "train"]


def test_a_run_goes_on_with_other_numbers_of_processes(tmp_path: Path) -> None:
    """200 steps in float64 on 1, 2, 3 and 1 processes: the examples and losses of one process."""
    settings = make_config(
        tmp_path,
        model={"dropout": STILL},
        training={"steps": 200, "tokens_per_step": 300, "tokens_per_device": 410},
        validation={"every": 1000},
        trainer={"precision": "float64"},
    )
    path = prepared(settings)
    (alone,) = run_all(ranks(1), "train", path, f"training.folder={tmp_path / 'alone'}")
    assert alone.status == 0, alone
    examples: Counter[tuple[int, int]] = Counter()
    stops = (43, 97, 151, None)
    for leg, (number, stop) in enumerate(zip((1, 2, 3, 1), stops, strict=True)):
        record = tmp_path / f"record{leg}"
        places = [place | ({"STOP_AT_STEP": stop} if stop else {}) for place in ranks(number)]
        ends = run_all(places, record, "train", path, "--resume", module=RECORDER)
        assert [end.status for end in ends] == [0] * number, ends
        for rank in range(number):
            for entry in torch.load(f"{record}.{rank}", weights_only=True):
                examples.update(
                    (entry["epoch"], example) for batch in entry["examples"] for example in batch
                )
    epochs = max(epoch for epoch, _ in examples)
    whole = {key: count for key, count in examples.items() if key[0] < epochs}
    assert whole == {(epoch, example): 1 for epoch in range(epochs) for example in range(120)}
    assert epochs > 10
    together, expected = log(settings.training.folder), log(tmp_path / "alone")
    assert [entry["step"] for entry in together] == list(range(1, 201))
    for one, other in zip(expected, together, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.0, abs=1e-8)


def test_three_processes_go_on_as_if_nobody_had_stopped_them(config: Path, tmp_path: Path) -> None:
    """The order in which the gradients of three are added must not depend on the last start."""
    short = ("training.steps=20", "validation.every=20", "training.checkpoint.every=20")
    for name, stops in (("through", (None,)), ("stopped", (6, 12, None))):
        for stop in stops:
            places = [place | ({"STOP_AT_STEP": stop} if stop else {}) for place in ranks(3)]
            command = ("train", config, "--resume", f"training.folder={tmp_path / name}")
            ends = run_all(places, tmp_path / "record", *command, *short, module=RECORDER)
            assert [end.status for end in ends] == [0] * 3, ends
    through, stopped = end_of(tmp_path / "through", 20), end_of(tmp_path / "stopped", 20)
    torch.testing.assert_close(stopped, through, rtol=0.0, atol=0.0)


def test_processes_that_torchrun_starts_again_go_on(
    config: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    folder, mark = tmp_path / "run", tmp_path / "mark"
    program = (DWELLER, mark, "seq2seq.training.run_folder:write_checkpoint", 30.0)
    launcher = ("--nproc-per-node=2", "--max-restarts=1", f"--master-port={free_port()}", "-m")
    command = (*launcher, *program, "train", config, "--resume", f"training.folder={folder}")
    agent = Process(*command, module="torch.distributed.run", fresh=True)
    agent.wait_until(Path(f"{mark}.0").exists)  # the first process is saving for the first time
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    end = agent.finish()
    assert end.status == 0, end
    torch.testing.assert_close(end_of(folder), uninterrupted, rtol=0.0, atol=0.0)
