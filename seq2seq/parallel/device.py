"""What this process computes on."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

from seq2seq.config import PrecisionName
from seq2seq.errors import UserError
from seq2seq.parallel.place import Place

_FORGET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_PEAK = "VmHWM:"
_CUDNN_OF_BF16 = 91300  # before it, torch runs bf16 LSTMs step by step


def choose_device(accelerator: str, place: Place) -> torch.device:
    """Choose the device of a process.

    Args:
        accelerator: `cpu`, `cuda`, `mps`, or `auto` for a GPU where there is one.
        place: of the process; each on a node has a GPU of its own.

    Raises:
        UserError: there is no such device, or there are too few of them.
    """
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if accelerator == "auto":
        accelerator = next((name for name, is_there in available.items() if is_there()), "cpu")
    if accelerator == "cpu":
        return torch.device("cpu")
    if not available[accelerator]():
        raise UserError(
            f"`trainer.accelerator` is '{accelerator}', but torch {torch.__version__} finds no such"
            " device here: write 'auto' or 'cpu'"
        )
    number = torch.cuda.device_count() if accelerator == "cuda" else 1
    # A launcher may show each process a GPU of its own; it is number 0 to all of them.
    if number < place.local_size and not (number == 1 and place.launcher == "srun"):
        raise UserError(
            f"{place.local_size} processes on this machine need a GPU each, but it has {number}:"
            " lower trainer.devices, or start fewer"
        )
    return torch.device(accelerator, place.local_rank if number > 1 else 0)


def described(device: torch.device, accelerator: str) -> str:
    """Name what is computed on, and say why, where `accelerator` was `auto` and it is no GPU."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    if device.type == "mps":
        return "this Mac's GPU (mps)"
    threads = torch.get_num_threads()
    name = f"the CPU ({threads} thread{'' if threads == 1 else 's'})"
    if accelerator != "auto":
        return name
    built = torch.version.cuda or torch.version.hip
    why = "finds no GPU" if built else "was built without support for GPUs"
    return f"{name}, since torch {torch.__version__} {why}"


def compute_deterministically() -> None:
    """Let torch take those algorithms alone that give the same numbers each time, to the bit.

    To be called before anything is computed on a GPU: cuBLAS looks at its variable once.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)


def lack_for(wanted: PrecisionName, device: torch.device) -> str:
    """Say what a device lacks for a precision, or nothing."""
    has_it = {("cpu", "float64"), ("cuda", "float64"), ("cuda", "fp16")}
    if wanted == "float32" or (device.type, wanted) in has_it:
        return ""
    if device.type == "cuda":
        return _lack_of_gpu(wanted, device)
    if (device.type, wanted) == ("cpu", "bf16"):
        there = torch.backends.mkldnn.is_available()
        there = there and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return "" if there else "this CPU has no AVX-512, or torch was built without oneDNN"
    return f"{device.type} doesn't compute in it"


def _lack_of_gpu(wanted: PrecisionName, device: torch.device) -> str:
    found = torch.backends.cudnn.version() or 0
    if wanted == "bf16" and found < _CUDNN_OF_BF16:
        return f"cuDNN {found} has no LSTMs for it, as {_CUDNN_OF_BF16} and later have"
    major, minor = torch.cuda.get_device_capability(device)
    name = torch.cuda.get_device_name(device)
    return "" if major >= 8 else f"{name} (compute capability {major}.{minor}) is older than 8.0"


def finish(device: torch.device) -> None:
    """Wait until a device has done all it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def forget_peak(device: torch.device) -> None:
    """Begin to look for the most memory anew, where that can be done."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # only Linux has it
        _FORGET.write_text("5")


def peak_memory(device: torch.device) -> int:
    """Say how many bytes were used at most: of a GPU, else by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        lines = _STATUS.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(_PEAK))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
