"""What is computed in what."""

from collections.abc import Generator
from typing import Any

import pytest
import torch

from seq2seq.errors import UserError
from seq2seq.training.precision import LossScale, Precision, allow_products, choose_precision

CPU = torch.device("cpu")


@pytest.fixture
def torchs_own() -> Generator[None]:
    """Put back what torch does if nobody tells it anything."""
    yield
    allow_products(Precision("bf16"))


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    precision = choose_precision("auto", CPU)
    assert precision == choose_precision("float32", CPU)
    assert (precision.weights, precision.products) == (torch.float32, None)
    assert choose_precision("float64", CPU).weights is torch.float64


@pytest.mark.parametrize(
    ("wanted", "device", "lack"),
    [
        ("fp16", "cpu", "cpu doesn't compute in it"),
        ("tf32", "cpu", "cpu doesn't compute in it"),
        ("bf16", "mps", "mps doesn't compute in it"),
        ("float64", "mps", "mps doesn't compute in it"),
    ],
)
def test_what_the_device_lacks_is_refused(wanted: Any, device: str, lack: str) -> None:
    with pytest.raises(UserError, match=f"`trainer.precision` is '{wanted}', but {lack}: write"):
        choose_precision(wanted, torch.device(device))


@pytest.mark.parametrize(
    ("capability", "cudnn", "name"),
    [((9, 0), 91900, "bf16"), ((7, 5), 91900, "float32"), ((9, 0), 91002, "float32")],
)
def test_a_gpu_computes_in_bf16_where_it_is_made_for_it(
    capability: tuple[int, int], cudnn: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)  # pyright: ignore
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")  # pyright: ignore
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    assert choose_precision("auto", torch.device("cuda")).name == name
    if name == "float32":
        with pytest.raises(UserError, match=r"but (a GPU .compute capability 7\.5|cuDNN 91002)"):
            choose_precision("bf16", torch.device("cuda"))


@pytest.mark.parametrize(
    ("wanted", "products", "recurrent"),
    [("float32", "ieee", "ieee"), ("bf16", "ieee", "tf32"), ("tf32", "tf32", "tf32")],
)
@pytest.mark.usefixtures("torchs_own")
def test_strict_float32_is_strict_and_bf16_keeps_its_tensor_cores(
    wanted: str, products: str, recurrent: str
) -> None:
    of_products: Any = torch.backends.cuda.matmul
    of_recurrent: Any = torch.backends.cudnn.rnn
    allow_products(Precision(wanted))
    assert torch.get_float32_matmul_precision() == {"ieee": "highest", "tf32": "high"}[products]
    assert of_products.fp32_precision == products
    assert of_recurrent.fp32_precision == recurrent


def test_the_scale_is_halved_by_a_bad_step_and_doubled_by_2000_good_ones() -> None:
    scale = LossScale(1024.0, 1997, CPU)
    good, bad = torch.tensor(0.0), torch.tensor(1.0)
    seen: list[tuple[float, int]] = []
    for skipped in (good, good, good, bad, good):
        scale.update(skipped)
        seen.append(scale.read())
    assert seen == [(1024, 1998), (1024, 1999), (2048, 0), (1024, 0), (1024, 1)]
