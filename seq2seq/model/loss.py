"""The training loss, with its gradients computed in the forward pass.

The scores of the vocabulary are the largest thing in a step: 8,192 tokens times 32,000 pieces take
a gigabyte, and their probabilities and gradients as much each. So a few rows are scored at a time,
and what their gradients are for is computed at once; nothing of the scores is kept.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.model.recurrent import autocast_type

BYTES_AT_ONCE = 2**27
"""Most bytes of scores at a time: 128 MiB, 4,096 tokens of 8,192 pieces in float32.

Their probabilities are there beside them, in float32 in any case.
"""


Kernel = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


def token_loss(
    features: Float[Tensor, "tokens embedding"],
    output: nn.Linear,
    expected: Int[Tensor, " tokens"],
    *,
    smoothing: float,
) -> Float[Tensor, ""]:
    """Sum the label-smoothed cross-entropy over real target tokens, in nats.

    Szegedy et al., "Rethinking the Inception Architecture" (2016), section 7: `smoothing` of the
    probability is spread over the whole vocabulary.

    Args:
        features: of the decoder.
        output: scores the vocabulary.
        expected: the right pieces.
        smoothing: share of the probability that is spread.
    """
    kind = autocast_type(features) or features.dtype
    parts = (features.to(kind), output.weight, output.bias)
    with torch.autocast(features.device.type, enabled=False):
        gradients = torch.is_grad_enabled()
        loss: Tensor = _TokenLoss.apply(*parts, expected, smoothing, gradients)  # pyright: ignore
        return loss


def _kernel(scores: Tensor) -> Kernel | None:
    """Find the kernel for scores of this type on their device, if there is one."""
    if not scores.is_cuda or scores.dtype == torch.float64 or find_spec("triton") is None:
        return None
    from seq2seq.model.loss_kernel import turn_into_gradients  # it can't be imported without

    return turn_into_gradients


class _TokenLoss(torch.autograd.Function):
    """Cross-entropy of a linear layer's outputs, a few rows at a time.

    With logits z = W h + b and probabilities p, smoothing ε over a vocabulary of V takes

        - log p_y  +  ε (z_y - mean z),    mean z = h · mean W + mean b

    so all of it that concerns the whole vocabulary is a product with the mean of W's rows. The
    gradient of z is p - (1 - ε) onehot(y) - ε / V, and the last part again is the same for all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        expected: Tensor,
        smoothing: float,
        gradients: bool,
    ) -> Tensor:
        """Sum the losses; keep the gradients of features, weight, bias where they are wanted."""
        wants = [gradients and wanted for wanted in ctx.needs_input_grad[:3]]
        sums = [
            torch.zeros_like(part) if wanted else None
            for part, wanted in zip((features, weight, bias), wants, strict=True)
        ]
        matrix, shift = weight.to(features.dtype), bias.to(features.dtype)
        loss = bias.new_zeros(())
        rows = max(1, BYTES_AT_ONCE // (len(weight) * features.element_size()))
        for start in range(0, len(features), rows):
            part = slice(start, start + rows)
            right = expected[part, None]
            scores = torch.addmm(shift, features[part], matrix.T)
            kernel = _kernel(scores) if any(wants) else None
            if kernel is not None:
                chosen, likelihood = kernel(scores, right, smoothing - 1)
            else:
                chosen = scores.gather(1, right)
                scores = scores.log_softmax(dim=1, dtype=loss.dtype)
                likelihood = scores.gather(1, right)
                if any(wants):
                    rest = torch.full_like(likelihood, smoothing - 1)
                    scores = scores.exp_().scatter_add_(1, right, rest)
            loss += smoothing * chosen.sum(dtype=loss.dtype) - likelihood.sum()
            if any(wants):
                _add_gradients(scores, features, matrix, part, sums)
        if smoothing:
            loss -= _add_spread(features, weight, bias, smoothing, sums)
        ctx.save_for_backward(*sums)
        return loss

    @staticmethod
    def backward(ctx: Any, *incoming: Any) -> Any:
        """Scale the gradients."""
        return *(_scaled(part, incoming[0]) for part in ctx.saved_tensors), None, None, None


def _scaled(gradient: Tensor | None, factor: Tensor) -> Tensor | None:
    """Multiply in the factor's type, in which it is exact."""
    return gradient if gradient is None else (gradient * factor[None]).to(gradient.dtype)


def _add_gradients(
    of_scores: Tensor, features: Tensor, matrix: Tensor, part: slice, sums: list[Tensor | None]
) -> None:
    """Add what the gradients of some rows' scores are to features, weight and bias."""
    of_features, of_weight, of_bias = sums
    if of_bias is not None:
        of_bias += of_scores.sum(dim=0, dtype=of_bias.dtype)
    of_scores = of_scores.to(features.dtype)
    if of_features is not None:
        torch.mm(of_scores, matrix, out=of_features[part])
    if of_weight is not None:
        if of_weight.dtype == features.dtype:
            of_weight.addmm_(of_scores.T, features[part])
        else:  # added up in the weight's type: sums over the parts would lose bits
            of_weight += of_scores.T @ features[part]


def _add_spread(
    features: Tensor, weight: Tensor, bias: Tensor, smoothing: float, sums: list[Tensor | None]
) -> Tensor:
    """Compute what smoothing gives to the whole vocabulary, and take it from the gradients."""
    of_features, of_weight, of_bias = sums
    row, total = weight.mean(dim=0), features.sum(dim=0, dtype=weight.dtype)
    if of_features is not None:
        of_features -= (smoothing * row).to(features.dtype)
    if of_weight is not None:
        of_weight -= smoothing / len(weight) * total
    if of_bias is not None:
        of_bias -= smoothing / len(weight) * len(features)
    return smoothing * (total @ row + len(features) * bias.mean())
