"""The training loss."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def token_loss(
    logits: Float[Tensor, "tokens vocab"], expected: Int[Tensor, " tokens"], *, smoothing: float
) -> Float[Tensor, ""]:
    """Sum the label-smoothed cross-entropy over real target tokens, in nats.

    Szegedy et al., "Rethinking the Inception Architecture" (2016), section 7: `smoothing` of the
    probability is spread over the whole vocabulary.
    """
    return functional.cross_entropy(logits, expected, label_smoothing=smoothing, reduction="sum")
