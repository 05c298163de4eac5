"""A disk that gets full or can't be written: a sentence, and nothing that was saved is lost.

The disks are real ones, small and in memory, which only root can mount.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.model_folder import save_model
from seq2seq.training.checkpoint import checkpoint_path, checkpoints, read_checkpoint
from tests.builders import tiny_model
from tests.integration.conftest import make_config, prepared
from tests.integration.processes import ROOT, Finished, Process, ranks, run_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")

STEPS = 150


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 150 steps, as a file, with the data prepared."""
    folder = tmp_path_factory.mktemp("disks")
    training: dict[str, object] = {"steps": STEPS, "checkpoint": {"every": 10}}
    return prepared(make_config(folder, training=training, validation={"every": 75}))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, of which a checkpoint takes some 50 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def weights_at_end(folder: Path) -> dict[str, Any]:
    return read_checkpoint(checkpoint_path(folder / "checkpoints", STEPS))["weights"]


def fill(disk: Path) -> Path:
    """Write until nothing more gets on a disk."""
    path = disk / "other-data"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return path


@pytest.mark.parametrize("number", [1, 2])
def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_room(
    config: Path, disk: Path, number: int, tmp_path: Path
) -> None:
    folder = disk / "run"
    command = ("train", config, "--resume", f"training.folder={folder}")
    processes = [Process(*command, place=place) for place in ranks(number)]
    processes[0].wait_until(lambda: bool(checkpoints(folder / "checkpoints")))
    other = fill(disk)
    ends = [process.finish(60.0) for process in processes]
    assert [end.status for end in ends] == [2] * number, ends
    assert "can't be written: No space left on device" in ends[0].messages
    assert not any("Traceback" in end.messages for end in ends)
    assert [end.messages for end in ends[1:]] == [""] * (number - 1), "only the first one tells"
    for path in checkpoints(folder / "checkpoints"):
        read_checkpoint(path)
    other.unlink()
    again = run_all(ranks(number), *command)
    assert [end.status for end in again] == [0] * number, again
    full = run_all(ranks(number), "train", config, f"training.folder={tmp_path / 'full'}")
    assert [end.status for end in full] == [0] * number, full
    for name, weights in weights_at_end(tmp_path / "full").items():
        assert torch.equal(weights_at_end(folder)[name], weights)


def test_a_full_disk_ends_preparing_which_goes_on_when_there_is_room(
    config: Path, disk: Path
) -> None:
    folder = disk / "data"
    other = fill(disk)
    other.open("r+b").truncate(2**21 - 15000)
    end = Process("prepare", config, f"data.folder={folder}").finish()
    assert end.status == 2, end
    assert "can't be written: No space left on device" in end.messages
    assert not folder.exists()
    other.unlink()
    assert Process("prepare", config, f"data.folder={folder}").finish().status == 0
    assert sorted(path.name for path in disk.iterdir()) == ["data"]


def train(config: Path, folder: Path, *words: str) -> Finished:
    return Process("train", config, *words, f"training.folder={folder}").finish()


def test_a_disk_without_room_for_a_checkpoint_is_refused_at_the_start(
    config: Path, disk: Path
) -> None:
    fill(disk).open("r+b").truncate(2**21 - 40000)
    end = train(config, disk / "run")
    assert end.status == 2, end
    assert f"the disk of {disk / 'run'} has " in end.messages
    assert "free, but a checkpoint and the model take" in end.messages
    assert not (disk / "run" / "metrics.jsonl").exists()


def test_a_disk_that_may_get_full_is_told_at_the_start(config: Path, disk: Path) -> None:
    fill(disk).open("r+b").truncate(2**21 - 250000)
    end = train(config, disk / "run", "training.checkpoint.keep_last=50", "training.steps=2")
    assert end.status == 0, end
    assert "may get full: make room, or lower training.checkpoint.keep_last" in end.messages


def test_a_disk_that_cannot_be_written_is_refused_at_the_start(config: Path, disk: Path) -> None:
    folder = disk / "run"
    assert train(config, folder, "training.steps=2").status == 0
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    end = train(config, folder, "--resume", "training.steps=4")
    assert end.status == 2, end
    assert f"{folder} can't be written: Read-only file system" in end.messages
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_checkpoints_that_cannot_be_written_are_refused_at_the_start(
    config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "none", folder], check=True)
    try:
        end = train(config, tmp_path / "run")
    finally:
        subprocess.run(["umount", folder], check=True)
    assert end.status == 2, end
    assert f"{folder}" in end.messages
    assert "can't be written: Read-only file system" in end.messages
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_run_folder_where_nobody_may_look_is_named(config: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, 65534, 65534)
    folder = closed / "run"
    as_others = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    command = [*as_others, sys.executable, "-m", "seq2seq", "train", config]
    end = subprocess.run(
        [*command, f"training.folder={folder}"], cwd=ROOT, capture_output=True, text=True
    )
    assert end.returncode == 2
    assert end.stderr.startswith(f"seq2seq: {folder}/checkpoints can't be read: Permission denied")


def test_a_full_disk_ends_a_translation_which_goes_on_when_there_is_room(
    disk: Path, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", tiny_model())
    source = tmp_path / "in.txt"
    source.write_text("the cat sat on the mat\n" * 4000)

    def translate(output: Path) -> Process:
        files = ("--input", source, "--output", output, "--window", 50)
        return Process("translate", tmp_path / "model", *files, "search.beam=1")

    process = translate(disk / "out.txt")
    process.wait_until((disk / "out.txt.parts" / "000000002").exists)
    other = fill(disk)
    end = process.finish()
    assert end.status == 2, end
    assert "can't be written: No space left on device" in end.messages
    assert "Traceback" not in end.messages
    assert not (disk / "out.txt").exists()
    other.unlink()
    assert translate(disk / "out.txt").finish().status == 0
    assert translate(tmp_path / "out.txt").finish().status == 0
    assert (disk / "out.txt").read_bytes() == (tmp_path / "out.txt").read_bytes()
    assert not (disk / "out.txt.parts").exists()
