"""What is said of machines: with variables and processes that no machine here has."""

import pytest
import torch

from seq2seq.config import TrainerConfig
from seq2seq.doctor.findings import Finding
from seq2seq.doctor.machine import (
    Process,
    check_cpus,
    check_devices,
    check_versions,
    look,
    show_nodes,
)
from seq2seq.parallel.place import Place

FOUR = Place(world_size=4, local_size=4, launcher="srun")
ON_CPU = TrainerConfig(accelerator="cpu")
VERSIONS = {"seq2seq": "1", "Python": "3.11", "torch": "2.13"}
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def process(rank: int = 0, host: str = "gpu01", tasks: int = 4, **others: object) -> Process:
    """A process on a node that has a GPU for each of four, unless it is said otherwise."""
    one = Process(
        rank=rank,
        host=host,
        tasks=tasks,
        versions=VERSIONS,
        cpus=frozenset(range(16)),
        threads=4,
        device=f"cuda:{rank % tasks}",
        gpus=("H100",) * 4,
        visible=4,
        given=4,
        memory=10**11,
        device_memory=8 * 10**10,
        trouble=None,
    )
    return one._replace(**others)  # pyright: ignore[reportArgumentType]


def worst(findings: list[Finding]) -> Finding:
    """The one finding that isn't fine; it has a cure."""
    (found,) = [finding for finding in findings if finding.level != "fine"]
    assert found.cure
    return found


def all_fine(findings: list[Finding]) -> bool:
    return bool(findings) and all(finding.level == "fine" for finding in findings)


def test_one_environment_everywhere_is_fine() -> None:
    (found,) = check_versions([process(), process(1, "gpu02")])
    assert found.level == "fine"
    assert "torch 2.13" in found.found


def test_versions_that_differ_are_named_with_their_nodes() -> None:
    other = process(4, "gpu02", versions=VERSIONS | {"torch": "2.12"})
    found = worst(check_versions([process(), process(1), other]))
    assert found.level == "failure"
    assert "torch 2.12 (rank 4 on gpu02) and 2.13 (rank 0 on gpu01)" in found.found


def test_a_gpu_for_each_process_is_fine() -> None:
    findings = check_devices([process(rank) for rank in range(4)], "cuda")
    assert all_fine(findings)
    assert "cuda:0 H100 (80.0 GB), cuda:1 H100" in findings[0].found


def test_processes_that_see_one_gpu_of_several() -> None:
    hidden = [process(rank, visible=1, device="cuda:0", gpus=("H100",)) for rank in range(4)]
    found = worst(check_devices(hidden, "cuda"))
    assert found.level == "remark"
    assert "sees one GPU of 4" in found.found
    assert "--gpus-per-node in place of --gpus-per-task" in found.cure


def test_gpus_without_a_process() -> None:
    alone = process(tasks=1)
    found = worst(check_devices([alone], "auto"))
    assert (found.level, found.found) == ("remark", "3 of 4 GPUs of gpu01 have no process")
    assert "--ntasks-per-node=4" in found.cure
    assert all_fine(check_devices([alone._replace(device="cpu", device_memory=0)], "cpu"))


def test_processes_without_a_gpu() -> None:
    found = worst(check_devices([process(given=2)], "auto"))
    assert found.level == "failure"
    assert "4 processes on gpu01, but SLURM has given 2 GPUs" in found.found
    assert "--gpus-per-node=4" in found.cure


def test_unlike_devices_and_unlike_gpus() -> None:
    on_cpu = process(4, "cpu01", device="cpu", gpus=(), visible=None, given=None, device_memory=0)
    found = worst(check_devices([process(), on_cpu], "auto"))
    assert found.level == "failure"
    assert "cuda on gpu01 (rank 0) and cpu on cpu01 (rank 4)" in found.found
    found = worst(check_devices([process(), process(4, "gpu02", gpus=("A100",) * 4)], "auto"))
    assert found.level == "remark"
    assert "H100 on gpu01, A100 on gpu02" in found.found


@without_gpu
@pytest.mark.parametrize(
    ("variables", "given", "visible"),
    [
        ({}, None, None),
        ({"SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, 4, 4),
        ({"SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "2"}, 4, 1),
        ({"SLURM_GPUS_PER_TASK": "1", "CUDA_VISIBLE_DEVICES": "0"}, 4, 1),
        ({"SLURM_GPUS_PER_TASK": "a100:2"}, 8, None),
        ({"CUDA_VISIBLE_DEVICES": ""}, None, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, None, 1),
    ],
)
def test_gpus_by_the_variables(
    variables: dict[str, str], given: int | None, visible: int | None
) -> None:
    found = look(FOUR, ON_CPU, variables)
    assert (found.given, found.visible) == (given, visible)


@without_gpu
def test_gpus_that_torch_does_not_find() -> None:
    own = look(Place(), TrainerConfig(), {"SLURM_GPUS_ON_NODE": "1", "CUDA_VISIBLE_DEVICES": "0"})
    found = worst(check_devices([own], "auto"))
    assert found.level == "remark"
    assert "finds none, so the CPU would train" in found.found


@without_gpu
def test_a_device_that_is_not_there() -> None:
    own = look(Place(), TrainerConfig(accelerator="cuda"), {})
    found = worst(check_devices([own], "cuda"))
    assert found.level == "failure"
    assert "`trainer.accelerator` is 'cuda', but torch" in found.found
    assert found.cure == "write 'auto' or 'cpu'"


def test_memory_is_what_slurm_gives() -> None:
    assert look(Place(), ON_CPU, {"SLURM_MEM_PER_NODE": "100"}).memory == 100 * 2**20
    assert look(Place(), ON_CPU, {"SLURM_MEM_PER_NODE": "0"}).memory > 100 * 2**20


def test_threads_and_cpus() -> None:
    assert all_fine(check_cpus([process(rank) for rank in range(4)]))
    own = [process(rank, cpus=frozenset({rank}), threads=1) for rank in range(4)]
    assert all_fine(check_cpus(own)), "each is bound to a CPU of its own"
    found = worst(check_cpus([process(rank, threads=16) for rank in range(4)]))
    assert found.found == "4 processes on gpu01 and their 64 threads share 16 CPUs"
    assert found.cure == "set trainer.threads=4"
    found = worst(check_cpus([process(rank, cpus=frozenset({3}), threads=1) for rank in (0, 1)]))
    assert "share one CPU" in found.found
    assert "start at most one process there" in found.cure


def test_the_table_has_a_line_for_each_node(capsys: pytest.CaptureFixture[str]) -> None:
    show_nodes([process(rank, "gpu01" if rank < 4 else "gpu02") for rank in range(5)])
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.split()[:4] == ["gpu01", "0-3", "16", "4"]
    assert "cuda:0, cuda:1, cuda:2, cuda:3" in first
    assert second.split()[:2] == ["gpu02", "4"]
