"""The optimizers: one step by hand, steps that are left out, and going on from what was saved."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from seq2seq.config import Adam, AdamW, Optimizer, Sgd
from seq2seq.training.optimizer import load_moments, moments, new_optimizer
from tests.builders import tiny_network

RATE = 0.01
OPTIMIZERS: tuple[Optimizer, ...] = (
    AdamW(learning_rate=RATE, weight_decay=0.1),
    Adam(kind="adam", learning_rate=RATE, weight_decay=0.1),
    Sgd(kind="sgd", learning_rate=RATE, weight_decay=0.1),
    Sgd(kind="sgd", learning_rate=RATE, momentum=0.9),
)
each = pytest.mark.parametrize("settings", OPTIMIZERS, ids=["adamw", "adam", "sgd", "momentum"])


class Trained:
    """A network and its optimizer, with gradients that are drawn."""

    def __init__(self, settings: Optimizer, saved: "Trained | None" = None):
        self.network = tiny_network()
        if saved is not None:
            self.network.load_state_dict(saved.network.state_dict())
        self.optimizer = new_optimizer(self.network, settings)
        load_moments(self.optimizer, saved and deepcopy(saved.optimizer.state_dict()))

    def step(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for weights in self.network.parameters():
            weights.grad = torch.randn(weights.shape, dtype=weights.dtype, generator=generator)
        self._step(found_inf=0.0)

    def step_without_numbers(self) -> None:
        """Take a step that the training leaves out."""
        for weights in self.network.parameters():
            weights.grad = torch.full_like(weights, float("nan"))
        self._step(found_inf=1.0)

    def _step(self, *, found_inf: float) -> None:
        found = torch.tensor(found_inf)
        self.optimizer.found_inf = found  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer.step()

    def everything(self) -> tuple[list[Tensor], dict[int, dict[str, Tensor]]]:
        """Copies of the weights, and of what the optimizer keeps of them."""
        state = self.optimizer.state_dict()["state"]
        kept = {
            number: {name: value.clone() for name, value in values.items()}
            for number, values in state.items()
        }
        return [weights.detach().clone() for weights in self.network.parameters()], kept


def assert_equal(one: Trained, other: Trained) -> None:
    torch.testing.assert_close(one.everything(), other.everything(), rtol=0.0, atol=0.0)


def two_steps_by_hand(settings: Optimizer, weight: float, gradients: list[float]) -> float:
    first = second = 0.0
    for number, gradient in enumerate(gradients, start=1):
        match settings:
            case AdamW(weight_decay=decay, betas=betas):
                weight -= RATE * decay * weight
            case Adam(weight_decay=decay, betas=betas):
                gradient += decay * weight
            case Sgd(weight_decay=decay, momentum=momentum):
                first = momentum * first + gradient + decay * weight
                weight -= RATE * first
                continue
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        mean, square = first / (1 - betas[0] ** number), second / (1 - betas[1] ** number)
        weight -= RATE * mean / (square**0.5 + 1e-8)
    return weight


@each
def test_two_steps_by_hand(settings: Optimizer) -> None:
    trained = Trained(settings)
    weights = trained.network.output.bias
    before, gradients = weights[5].item(), list[float]()
    for seed in (1, 2):
        trained.step(seed)
        assert weights.grad is not None
        gradients.append(weights.grad[5].item())
    hand = two_steps_by_hand(settings, before, gradients)
    assert weights[5].item() == pytest.approx(hand, rel=1e-12)


@each
def test_a_gradient_that_is_not_finite_changes_nothing(settings: Optimizer) -> None:
    trained = Trained(settings)
    trained.step(1)
    before = trained.everything()
    trained.step_without_numbers()
    torch.testing.assert_close(trained.everything(), before, rtol=0.0, atol=0.0)


@each
def test_not_even_in_the_first_step(settings: Optimizer) -> None:
    """Torch's own SGD would go on with a momentum that nobody has computed."""
    straight, stumbling = Trained(settings), Trained(settings)
    stumbling.step_without_numbers()
    for trained in (straight, stumbling):
        trained.step(1)
        trained.step(2)
    assert_equal(straight, stumbling)


@each
def test_what_was_saved_goes_on(settings: Optimizer) -> None:
    first = Trained(settings)
    first.step(1)
    second = Trained(settings, first)
    assert_equal(first, second)
    for trained in (first, second):
        trained.step(2)
    assert_equal(first, second)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (AdamW(), AdamW(betas=(0.5, 0.6), weight_decay=0.7)),
        (Adam(kind="adam"), Adam(kind="adam", betas=(0.5, 0.6), weight_decay=0.7)),
        (Sgd(kind="sgd"), Sgd(kind="sgd", momentum=0.5, weight_decay=0.7)),
        (Sgd(kind="sgd", momentum=0.9), Sgd(kind="sgd", momentum=0.5)),
    ],
    ids=["adamw", "adam", "momentum begins", "momentum changes"],
)
def test_the_settings_are_not_the_saved_ones(before: Optimizer, after: Optimizer) -> None:
    first = Trained(before)
    first.step(1)
    changed, fresh = Trained(after, first), Trained(after)
    groups = [trained.optimizer.state_dict()["param_groups"] for trained in (changed, fresh)]
    assert groups[0] == groups[1]
    changed.step_without_numbers()
    changed.step(2)
    assert all(weights.isfinite().all() for weights in changed.network.parameters())


@each
def test_weights_that_were_frozen_may_learn_later(settings: Optimizer) -> None:
    trained = Trained(settings)
    trained.network.output.bias.requires_grad_(False)
    for weights in trained.network.parameters():
        weights.grad = torch.ones_like(weights) if weights.requires_grad else None
    trained.optimizer.step()
    trained.network.output.bias.requires_grad_(True)
    before = trained.network.output.bias.detach().clone()
    trained.step(1)
    assert not torch.equal(trained.network.output.bias, before)


@each
def test_moments_are_counted(settings: Optimizer) -> None:
    trained = Trained(settings)
    trained.step(1)
    weights = trained.network.output.bias
    kept = [value for value in trained.optimizer.state[weights].values() if value.ndim]
    assert [value.shape for value in kept] == [weights.shape] * moments(settings)
