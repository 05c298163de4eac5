"""Recurrent layers, and the types that they compute in."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from seq2seq.model.recurrent import Cell, new_layer, run
from tests.builders import assert_close, batch_of, logits_of, tiny_network, variant

KERNELS = ("rnn", "lstm", "gru", "aten::mm", "aten::addmm")


class Kernels(TorchDispatchMode):
    """Notes the types of the numbers that recurrent kernels and products are given."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in func.name() for name in KERNELS):
            leaves = torch.utils._pytree.tree_leaves(args)  # pyright: ignore
            tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            self.types |= {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
        return func(*args, **(kwargs or {}))


@contextmanager
def autocast_on_a_gpu(wanted: torch.dtype) -> Generator[None]:
    """Switch autocast on where there is no GPU; `torch.autocast` would leave it off."""
    before = torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", wanted)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", before)


@pytest.mark.parametrize("cell", ["lstm", "rnn"])  # what torch shows of GRUs needs a GPU
@pytest.mark.parametrize("wanted", [torch.bfloat16, torch.float16])
def test_autocast_on_a_gpu_gets_the_type_that_was_asked_for(
    cell: Cell, wanted: torch.dtype
) -> None:
    with torch.no_grad(), FakeTensorMode():
        layer = new_layer(cell, 16, 16)
        for name, weight in layer.named_parameters():
            layer.register_parameter(name, nn.Parameter(torch.empty(weight.shape, device="cuda")))
        inputs, start = (torch.empty(*shape, device="cuda") for shape in ((5, 8, 16), (8, 16)))
        with autocast_on_a_gpu(wanted), Kernels() as kernels:
            states = run(layer, inputs, start)
    assert states.device.type == "cuda"
    assert states.dtype is wanted
    assert kernels.types == {wanted}


@pytest.mark.parametrize("layout", ["gnmt", "luong", "input_feeding"])
def test_a_network_under_autocast_is_nearly_the_same(layout: str) -> None:
    """On this CPU; not all have kernels for it."""
    network = tiny_network(model=variant(layout=layout)).float()
    batch = batch_of(([4, 5, 6, 7], [8, 4]), ([5], [4, 6, 8, 7, 5]))
    whole = logits_of(network, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = logits_of(network, batch)
    assert rough.dtype is torch.bfloat16
    assert not torch.equal(rough.float(), whole)
    assert_close(rough.float(), whole, 0.1 * whole.abs().max().item())
    rough.sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(part is not None and part.dtype is torch.float32 for part in gradients)
