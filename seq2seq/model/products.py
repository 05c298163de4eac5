"""Products of search: those of torch, but for float32 on CPUs, by the faster of two libraries."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

# torch's own products in float32 are MKL's, which on AMD's CPUs makes no use of AVX-512: there they
# take twice oneDNN's time and more. Elsewhere the two are equal. oneDNN has no gradients here.
_BY_ONEDNN = (
    torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
)


def linear(
    inputs: Float[Tensor, "*rows input"],
    weight: Float[Tensor, "output input"],
    bias: Float[Tensor, " output"] | None = None,
) -> Float[Tensor, "*rows output"]:
    """Multiply rows with a matrix, as `torch.nn.functional.linear` does, without gradients."""
    if not (_BY_ONEDNN and inputs.dtype == torch.float32 and inputs.device.type == "cpu"):
        return functional.linear(inputs, weight, bias)
    rows = inputs.flatten(end_dim=-2) if inputs.dim() > 1 else inputs[None]
    # oneDNN compiles code for each number of rows and keeps it for ever, so some sizes do for all.
    # What isn't contiguous it would multiply number by number.
    filled = functional.pad(rows, (0, 0, 0, compiled_rows(len(rows)) - len(rows))).contiguous()
    products = torch.ops.mkldnn._linear_pointwise(filled, weight.contiguous(), bias, "none", [], "")
    return products[: len(rows)].view(*inputs.shape[:-1], len(weight))


def compiled_rows(number: int) -> int:
    """Round a number up to one of eight between a power of two and the next; up to 16 all are."""
    step = max(1, (1 << max(number - 1, 0).bit_length()) // 16)
    return -(-number // step) * step


def tanh(values: Tensor) -> Tensor:
    """Compute tanh by the sigmoid, which on CPUs takes a quarter of the time of torch's tanh."""
    return (2 * values).sigmoid_().mul_(2).sub_(1)
