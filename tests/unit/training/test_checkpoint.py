"""Checkpoints: what is written comes back, and what is damaged is noticed and passed over."""

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.errors import ModelError
from seq2seq.training.checkpoint import (
    checkpoint_path,
    checkpoints,
    newest_checkpoint,
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)
from seq2seq.training.state import RunState


def write_steps(folder: Path, *steps: int) -> None:
    for step in steps:
        write_checkpoint(checkpoint_path(folder, step), {"step": step})


def names(folder: Path) -> list[int]:
    return [int(path.stem.removeprefix("step-")) for path in checkpoints(folder)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = RunState(step=5, scores=[(5, 1.25)])
    content: dict[str, Any] = {
        "weights": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "run": state.to_plain(),
        "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
    }
    path = checkpoint_path(tmp_path / "new", 5)
    write_checkpoint(path, content)
    found = read_checkpoint(path)
    assert found.keys() == content.keys()
    assert RunState.from_plain(found.pop("run")) == RunState.from_plain(content.pop("run")) == state
    torch.testing.assert_close(found, content, rtol=0, atol=0, equal_nan=True)
    assert [entry.name for entry in path.parent.iterdir()] == ["step-00000005.ckpt"]


def test_writing_again_replaces(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 1)
    write_checkpoint(path, {"step": 1})
    write_checkpoint(path, {"step": 1, "more": [1, 2]})
    assert read_checkpoint(path) == {"step": 1, "more": [1, 2]}


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(len(content) * share)]


def flip(share: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        place = min(int(len(content) * share), len(content) - 1)
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    return change


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": cut(0.0),
    "only a start": lambda content: content[:10],
    "only a head": lambda content: content[:25],
    "half": cut(0.5),
    "all but the last byte": lambda content: content[:-1],
    "more than all": lambda content: content + b"\n",
    "first byte flipped": flip(0.0),
    "byte in the checksum flipped": lambda content: content[:30] + b"?" + content[31:],
    "byte in the middle flipped": flip(0.5),
    "byte near the end flipped": flip(0.9),
    "last byte flipped": flip(1.0),
    "byte in the format flipped": lambda content: content.replace(
        b"checkpoint 3\n", b"checkpoint 2\n"
    ),
    "a file of torch's": lambda content: content.split(b"\n", maxsplit=2)[2],
    "text": lambda content: b"step: 5\n" * 100,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed(damage: str, tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 5)
    write_checkpoint(path, {"weights": torch.arange(1000.0)})
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(ModelError, match=re.escape(str(path))) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_format_says_so_and_is_not_passed_over(tmp_path: Path) -> None:
    write_steps(tmp_path, 4, 5)
    path = checkpoint_path(tmp_path, 5)
    _, _, payload = path.read_bytes().split(b"\n", 2)
    head = b"seq2seq checkpoint 99"
    path.write_bytes(b"\n".join((head, sha256(head + payload).hexdigest().encode(), payload)))
    for read in (lambda: read_checkpoint(path), lambda: newest_checkpoint(tmp_path)):
        with pytest.raises(ModelError, match="format 99, but this version reads format 3"):
            read()


def test_one_that_can_not_be_read_just_now_is_not_passed_over(tmp_path: Path) -> None:
    """It would be deleted when the run has gone on from an older one."""
    write_steps(tmp_path, 4)
    checkpoint_path(tmp_path, 5).mkdir()
    with pytest.raises(ModelError, match=r"step-00000005.ckpt can't be read: Is a directory"):
        newest_checkpoint(tmp_path)


def test_a_writer_that_may_not_replace_leaves_what_is_there(tmp_path: Path) -> None:
    def refuse() -> None:
        raise ModelError("not yours")

    write_steps(tmp_path, 5)
    with pytest.raises(ModelError, match="not yours"):
        write_checkpoint(checkpoint_path(tmp_path, 5), {"step": 6}, check=refuse)
    assert newest_checkpoint(tmp_path) == {"step": 5}
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005.ckpt"]


def test_a_checkpoint_that_is_missing_or_no_file_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "a", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ModelError, match=re.escape(f"{path} can't be read: {reason}")):
            read_checkpoint(path)


class Trap:
    """When it is unpickled, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 5)
    write_checkpoint(path, {"weights": Trap(tmp_path / "trapped")})
    with pytest.raises(ModelError, match=re.escape(f"{path} holds code")) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trapped").exists()


def test_the_newest_checkpoint_is_found(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "nowhere") is None
    assert newest_checkpoint(tmp_path) is None
    write_steps(tmp_path, 900, 1000, 20)
    assert newest_checkpoint(tmp_path) == {"step": 1000}


def test_damaged_checkpoints_are_named_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_steps(tmp_path, 1, 2, 3)
    for step, damage in ((3, "half"), (2, "empty")):
        path = checkpoint_path(tmp_path, step)
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert newest_checkpoint(tmp_path) == {"step": 1}
    told = capsys.readouterr().err.replace("\n", "")
    assert "step-00000003.ckpt" in told
    assert "step-00000002.ckpt" in told


def test_a_run_with_damaged_checkpoints_only_does_not_start_afresh(tmp_path: Path) -> None:
    write_steps(tmp_path, 1)
    checkpoint_path(tmp_path, 1).write_bytes(b"")
    with pytest.raises(ModelError, match=re.escape(f"all checkpoints in {tmp_path} are damaged")):
        newest_checkpoint(tmp_path)


def test_a_half_written_checkpoint_is_not_looked_at(tmp_path: Path) -> None:
    write_steps(tmp_path, 1)
    (tmp_path / ".step-00000002.ckpt.partial-77").write_bytes(b"half")
    assert names(tmp_path) == [1]
    assert newest_checkpoint(tmp_path) == {"step": 1}


@pytest.mark.parametrize(
    ("keep_last", "keep_steps", "kept"),
    [
        (1, [], [50]),
        (2, [], [40, 50]),
        (2, [10, 40], [10, 40, 50]),
        (1, [30, 99], [30, 50]),
        (9, [], [10, 20, 30, 40, 50]),
    ],
)
def test_the_newest_and_the_best_are_kept(
    keep_last: int, keep_steps: list[int], kept: list[int], tmp_path: Path
) -> None:
    write_steps(tmp_path, 10, 20, 30, 40, 50)
    (tmp_path / "notes.txt").write_text("mine")
    remove_checkpoints(tmp_path, step=50, keep_last=keep_last, keep_steps=keep_steps)
    assert names(tmp_path) == kept
    assert (tmp_path / "notes.txt").exists()


def test_damaged_ones_that_were_passed_over_do_not_count_as_the_newest(tmp_path: Path) -> None:
    write_steps(tmp_path, 10, 20, 30)  # 30 was damaged: the run went on from 20, and came to 25
    write_steps(tmp_path, 25)
    remove_checkpoints(tmp_path, step=25, keep_last=2, keep_steps=[])
    assert names(tmp_path) == [20, 25]
