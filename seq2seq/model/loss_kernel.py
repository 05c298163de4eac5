"""What the loss does to scores, as one kernel for GPUs, in Triton, which torch's CUDA wheels bring.

In torch's own operations it takes as long as the three matrix products around it; here a row is
read twice and written once.
"""
# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportIndexIssue=false, reportUnusedFunction=false, reportMissingTypeArgument=false
# pyright: reportCallIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 4096  # scores that are looked at together


@triton.jit
@no_type_check  # what the tests' checker makes of it, Triton can't read
def _turn_into_gradients(scores, right, chosen, likelihood, size, rest, block: tl.constexpr):
    """One row a program: note the right score and its log-probability, then overwrite the row."""
    row = tl.program_id(0).to(tl.int64)
    start = scores + row * size
    lanes = tl.arange(0, block)
    target = tl.load(right + row)
    # Before the reductions, whose barriers keep other threads from overwriting it too early.
    picked = tl.load(start + target).to(tl.float32)
    highest, total = -float("inf"), 0.0
    for begin in range(0, size, block):
        inside = begin + lanes < size
        values = tl.load(start + begin + lanes, mask=inside, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(highest, tl.max(values, 0))
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(values - higher), 0)
        highest = higher
    total = highest + tl.log(total)
    tl.store(chosen + row, picked)
    tl.store(likelihood + row, picked - total)
    for begin in range(0, size, block):
        inside = begin + lanes < size
        values = tl.load(start + begin + lanes, mask=inside, other=0.0).to(tl.float32)
        gradient = tl.exp(values - total) + tl.where(begin + lanes == target, rest, 0.0)
        tl.store(start + begin + lanes, gradient, mask=inside)


def turn_into_gradients(
    scores: Float[Tensor, "rows vocab"], right: Int[Tensor, "rows 1"], rest: float
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Overwrite scores by their probabilities, to the right ones of which `rest` is added.

    Args:
        scores: on a GPU, in any type but float64.
        right: the right pieces.
        rest: what is added to the right pieces' probabilities.

    Returns:
        The right pieces' scores and log-probabilities, in float32.
    """
    chosen, likelihood = torch.empty(2, len(scores), device=scores.device)
    size = scores.shape[1]
    block = min(_BLOCK, triton.next_power_of_2(size))
    _turn_into_gradients[(len(scores),)](
        scores, right, chosen, likelihood, size, rest, block, num_warps=8
    )
    return chosen, likelihood
