"""Several real processes: the same run as one, however they are started, and a clear end."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seq2seq.config import Config
from seq2seq.config_file import dump_config
from seq2seq.data.prepare import prepare
from seq2seq.parallel.group import Group
from seq2seq.parallel.place import Place
from seq2seq.training.checkpoint import checkpoints, read_checkpoint
from seq2seq.training.run import train
from seq2seq.training.stopping import StopRequest
from tests.integration.conftest import make_config, make_pairs, prepared
from tests.integration.processes import Process, free_port, ranks, run_all, slurm_tasks
from tests.integration.scorer import validate

RECORDER = "tests.integration.recorder"
STILL = {"embeddings": 0.0, "layers": 0.0, "output": 0.0, "words": 0.0}


def write_pairs(config: Config, split: str, pairs: list[tuple[str, str]]) -> None:
    """Replace a split of a corpus of text files."""
    for side, path in enumerate(getattr(config.data.corpus, split)):
        path.write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")


def exact_config(folder: Path) -> Config:
    """A run of 20 steps in float64 without dropout, over batches of 1 to 6 pairs.

    Pairs are long on one side, so that some batches are a single pair and others don't fit a
    device.
    """
    config = make_config(
        folder,
        data={"max_length": 70},
        model={"dropout": STILL},
        training={"steps": 20, "tokens_per_step": 120, "tokens_per_device": 142},
        validation={"every": 10},
        trainer={"precision": "float64"},
    )
    pairs = make_pairs(60, seed=0)
    lines = [(f"{source} {source} {source}", target) for source, target in pairs[:50]]
    lines += [(source, f"{target} {target} {target}") for source, target in pairs[50:]]
    write_pairs(config, "train", lines)
    return config


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That run's config as a file, with the data prepared."""
    return prepared(exact_config(tmp_path_factory.mktemp("exact")))


Records = list[list[dict[str, Any]]]


@pytest.fixture(scope="module")
def recorded(exact: Path) -> Callable[[int], Records]:
    """The run on some number of processes: what each recorded. Two are started as by SLURM."""
    made: dict[int, Records] = {}

    def run(number: int) -> Records:
        if number not in made:
            folder = exact.parent / f"run{number}"
            places = slurm_tasks(2) if number == 2 else ranks(number)
            record = folder.with_suffix(".record")
            command = (record, "train", exact, f"training.folder={folder}")
            ends = run_all(places, *command, module=RECORDER)
            assert [end.status for end in ends] == [0] * number, ends
            files = [f"{record}.{rank}" for rank in range(number)]
            made[number] = [torch.load(file, weights_only=True) for file in files]
        return made[number]

    return run


@pytest.mark.parametrize("number", [2, 3])
def test_gradients_are_those_of_one_process(
    recorded: Callable[[int], Records], number: int
) -> None:
    (alone,), together = recorded(1), recorded(number)
    cuts = [entry["examples"] for record in together for entry in record]
    assert any(len(cut) > 1 for cut in cuts), "some steps are meant to have several micro-batches"
    assert any(not any(cut) for cut in cuts), "some processes are meant to have nothing to do"
    for step, expected in enumerate(alone):
        for record in together:
            for one, other in zip(expected["gradients"], record[step]["gradients"], strict=True):
                torch.testing.assert_close(other, one, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("number", [2, 3])
def test_each_step_has_the_same_examples_once(
    recorded: Callable[[int], Records], number: int
) -> None:
    def examples(records: Records, step: int) -> list[int]:
        return sorted(e for record in records for batch in record[step]["examples"] for e in batch)

    alone, together = recorded(1), recorded(number)
    assert len(alone[0]) == 20
    for step in range(20):
        assert examples(together, step) == examples(alone, step)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("way", ["seq2seq", "torchrun", "srun"])
def test_a_run_is_the_same_however_it_is_launched(
    exact: Path, recorded: Callable[[int], Records], way: str
) -> None:
    recorded(1)
    folder = exact.parent / (f"run-{way}" if way != "srun" else "run2")
    if way == "srun":
        recorded(2)
    elif way == "seq2seq":
        end = Process("train", exact, "trainer.devices=2", f"training.folder={folder}").finish()
        assert end.status == 0, end
        assert end.messages.count("2 processes") == 1, "only the first process tells"
    else:
        launcher = ("--nproc-per-node=2", f"--master-port={free_port()}", "-m", "seq2seq")
        command = (*launcher, "train", exact, f"training.folder={folder}")
        end = Process(*command, module="torch.distributed.run", fresh=True).finish()
        assert end.status == 0, end
    alone = exact.parent / "run1"
    expected, found = weights(alone), weights(folder)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0.0, atol=1e-5)
    for one, other in zip(log(alone), log(folder), strict=True):
        assert one["step"] == other["step"]
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-9)
        assert one.get("bleu") == other.get("bleu")


def test_validation_is_the_same_to_the_last_digit(tmp_path: Path) -> None:
    sizes = (3, 7, 1014)
    configs: list[Config] = []
    for size in sizes:
        folder = tmp_path / str(size)
        folder.mkdir()
        config = make_config(
            folder,
            pairs=200,
            model={"embedding_size": 32, "encoder_size": 32, "decoder_size": 32},
            training={"steps": 100, "optimizer": {"learning_rate": 0.02}},
            validation={
                "every": 100,
                "samples": 2000,
                "search": {"beam": 2, "tokens_per_batch": 300},
            },
        )
        pairs = make_pairs(size - 1, seed=9)
        pairs.append(pairs[0])
        write_pairs(config, "validation", pairs)
        prepare(config)
        configs.append(config)
    train(configs[0], Place(), resume=False, stop=StopRequest())
    model = configs[0].training.folder / "model"
    folders = [config.data.folder for config in configs]
    alone = validate(model, folders, Group(Place()))
    assert [len(result.samples) for result in alone] == list(sizes)
    assert all(0 < result.scores.bleu.value < 100 for result in alone)
    ends = run_all(ranks(3), model, *folders, module="tests.integration.scorer")
    for end in ends:
        assert end.status == 0, end
        assert json.loads(end.output) == json.loads(json.dumps(alone))


def test_others_wait_while_the_first_prepares_and_a_small_corpus_serves_three(
    tmp_path: Path,
) -> None:
    config = make_config(tmp_path, pairs=5, vocabulary={"size": 44})
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    slow = tmp_path / "test.en"
    content = slow.read_text()
    slow.unlink()
    os.mkfifo(slow)
    command = ("train", file, "training.steps=3")
    processes = [Process(*command, place=place) for place in ranks(3)]
    for _ in range(2):  # it is digested, then read
        with slow.open("w") as pipe:  # opens when the first process does
            time.sleep(3.0)
            assert not config.data.folder.exists()
            pipe.write(content)
        time.sleep(0.5)  # so that the reader has gone when it is opened again
    ends = [process.finish() for process in processes]
    assert [end.status for end in ends] == [0, 0, 0], ends
    for rank, end in enumerate(ends[1:], start=1):
        waiting_for = f"waiting for rank 0, which is preparing {config.data.folder}"
        assert end.messages == f"seq2seq: rank {rank} of 3: {waiting_for}\n"
        assert end.output == ""
    assert len(checkpoints(config.training.folder / "checkpoints")) >= 1


def endless(exact: Path, folder: str, *settings: str) -> tuple[object, ...]:
    """A run that doesn't come to its end by itself."""
    path = exact.parent / folder
    endless = ("training.steps=1000000", "validation.every=1000000", "training.log_every=1")
    return ("train", exact, f"training.folder={path}", *endless, *settings)


def test_a_killed_first_process_is_named_and_the_other_one_ends(exact: Path) -> None:
    command = endless(exact, "killed")
    first, second = (Process(*command, place=place) for place in ranks(2))
    first.wait_until((exact.parent / "killed" / "metrics.jsonl").exists)
    first.kill()
    end = second.finish(60.0)
    first.finish()
    assert end.status == 1
    assert f"rank 0 of 2 (PID {first.pid} on " in end.messages
    assert "is gone; --resume goes on from the last checkpoint" in end.messages
    assert "Traceback" not in end.messages


def test_the_examples_of_all_processes_are_named_where_a_gradient_is_not_finite(
    exact: Path, tmp_path: Path
) -> None:
    settings = ("training.optimizer.learning_rate=1e300", "training.log_every=4")
    command = ("train", exact, f"training.folder={tmp_path / 'run'}", *settings)
    first, second = run_all(ranks(2), tmp_path / "record", *command, module=RECORDER)
    assert (first.status, second.status, second.messages) == (2, 2, "")
    told = re.search(
        r"not finite in \d of the last \d steps; the first was step (\d), of the training examples"
        r" ([\d, ]+) \(counted from 0\): ",
        first.messages,
    )
    assert told, first
    step = int(told[1]) - 1
    shares = [torch.load(f"{tmp_path}/record.{rank}", weights_only=True)[step] for rank in (0, 1)]
    examples = sorted(e for share in shares for batch in share["examples"] for e in batch)
    assert told[2] == ", ".join(map(str, examples))
    assert not all(torch.cat([g.flatten() for g in shares[0]["gradients"]]).isfinite())


def test_a_process_that_is_late_is_named_with_its_step(exact: Path) -> None:
    command = endless(exact, "late", "trainer.timeout=0.05")
    first, second = ranks(2)
    processes = [
        Process(exact.parent / "late", *command, module=RECORDER, place=place)
        for place in (first, second | {"SLEEP_AT_STEP": 7})
    ]
    end = processes[0].finish(90.0)
    processes[1].kill()
    processes[1].finish()
    assert end.status == 1
    assert f"rank 1 of 2 (PID {processes[1].pid} on " in end.messages
    assert "has not come past step 7 in 0.05 minutes (trainer.timeout)" in end.messages


def test_a_stop_of_one_process_stops_all_at_one_step_and_the_run_goes_on(exact: Path) -> None:
    folder = exact.parent / "stopped"
    processes = [Process(*endless(exact, "stopped"), place=place) for place in ranks(2)]
    processes[0].wait_until((folder / "metrics.jsonl").exists)
    processes[1].send(signal.SIGTERM)
    ends = [process.finish(60.0) for process in processes]
    assert [end.status for end in ends] == [0, 0], "torchrun takes all else for a failure"
    assert "(SIGTERM); --resume goes on from there" in ends[0].messages
    step = read_checkpoint(checkpoints(folder / "checkpoints")[-1])["state"]["step"]
    command = ("train", exact, "--resume", f"training.folder={folder}")
    settings = (f"training.steps={step + 3}", "trainer.devices=3")
    end = Process(*command, *settings, "training.log_every=1").finish()
    assert end.status == 0, end
    assert f"going on from step {step:,}" in end.messages
    steps = [entry["step"] for entry in log(folder) if entry["kind"] == "train"]
    assert steps == list(range(1, step + 4))


def test_data_folders_that_differ_are_refused_with_the_file(exact: Path) -> None:
    data = exact.parent / "data"
    copy = exact.parent / "other-data"
    copy.mkdir()
    for file in data.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    content = bytearray((copy / "train.arrow").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "train.arrow").write_bytes(content)
    run = exact.parent / "unlike"
    folders = [f"data.folder={data}", f"data.folder={copy}"]
    processes = [
        Process("train", exact, f"training.folder={run}", folder, place=place)
        for folder, place in zip(folders, ranks(2), strict=True)
    ]
    ends = [process.finish() for process in processes]
    assert [end.status for end in ends] == [2, 2]
    told = "rank 1 and rank 0 can't train together: train.arrow in the data folder"
    assert told in ends[0].messages
    assert "can't train" not in ends[1].messages, "only the first process tells"
    assert not (run / "metrics.jsonl").exists()


def test_a_port_that_is_taken_is_named(exact: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        end = Process("train", exact, "trainer.devices=2", place={"MASTER_PORT": port}).finish(60.0)
    assert end.status == 2, end
    assert f"127.0.0.1, port {port} is taken by another program: set MASTER_PORT" in end.messages


def test_devices_that_contradict_the_launcher_are_refused(exact: Path) -> None:
    place = ranks(2)[0]
    end = Process("train", exact, "trainer.devices=3", place=place).finish()
    assert end.status == 2
    assert "`trainer.devices` is 3, but torchrun has started 2 of 2 processes" in end.messages


def test_a_killed_local_process_ends_the_launching_one(exact: Path) -> None:
    process = Process(*endless(exact, "local", "trainer.devices=2"))
    process.wait_until((exact.parent / "local" / "metrics.jsonl").exists)
    # Linux tells the children of a process here.
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    (child,) = map(int, children.read_text().split())
    os.kill(child, signal.SIGKILL)
    end = process.finish(60.0)
    assert end.status == 1
    assert f"rank 1 of 2 (PID {child} on " in end.messages


def test_evaluation_on_two_processes_scores_as_on_one(
    exact: Path, recorded: Callable[[int], Records]
) -> None:
    recorded(1)
    model = exact.parent / "run1" / "model"
    reports: list[dict[str, Any]] = []
    for devices in (1, 2):
        path = exact.parent / f"scores{devices}.json"
        options = ("--lookup", f"--devices={devices}", "--output", path)
        end = Process("evaluate", model, *options).finish()
        assert end.status == 0, end
        assert end.output.count("nearest training source") == 1, "only the first process tells"
        reports.append(json.loads(path.read_text()))
    assert reports[0] == reports[1]
