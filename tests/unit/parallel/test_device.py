"""The device of each process."""

import pytest
import torch

from seq2seq.errors import UserError
from seq2seq.parallel.device import choose_device, described
from seq2seq.parallel.place import Place


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that says it has two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return monkeypatch


def place(local_rank: int, local_size: int, launcher: str = "seq2seq") -> Place:
    return Place(local_rank, local_size, local_rank, local_size, launcher=launcher)


def test_each_process_has_a_gpu_of_its_own(gpus: pytest.MonkeyPatch) -> None:
    assert [str(choose_device("auto", place(rank, 2))) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert str(choose_device("cpu", place(1, 2))) == "cpu"


def test_more_devices_than_there_are(gpus: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match="3 processes on this machine need a GPU each, but it has 2"
    ):
        choose_device("cuda", place(0, 3))


def test_a_gpu_that_srun_shows_one_process_alone(gpus: pytest.MonkeyPatch) -> None:
    gpus.setattr(torch.cuda, "device_count", lambda: 1)
    assert str(choose_device("cuda", place(3, 4, "srun"))) == "cuda:0"
    with pytest.raises(UserError, match="need a GPU each, but it has 1"):
        choose_device("cuda", place(3, 4, "seq2seq"))


def test_a_cpu_is_named_with_the_reason_for_it() -> None:
    cpu = torch.device("cpu")
    name = described(cpu, "cpu")
    assert name in (f"the CPU ({torch.get_num_threads()} threads)", "the CPU (1 thread)")
    why = described(cpu, "auto").removeprefix(f"{name}, since torch {torch.__version__} ")
    built = torch.version.cuda or torch.version.hip
    assert why == ("finds no GPU" if built else "was built without support for GPUs")
