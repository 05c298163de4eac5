"""How one optimizer step is computed."""

from typing import Any

import numpy
import pyarrow
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seq2seq.config import Config
from seq2seq.data.loader import Position, StepDataset
from seq2seq.data.prepared import PreparedSplit, Sentences
from seq2seq.model.network import build_network
from seq2seq.parallel.group import Group
from seq2seq.parallel.place import Place
from seq2seq.training.module import TranslationModule
from seq2seq.training.precision import FLOAT32, Precision
from seq2seq.training.state import RunState

STILL = {"embeddings": 0.0, "layers": 0.0, "output": 0.0, "words": 0.0}


def make_steps(*, tokens_per_device: int, rank: int = 0, world_size: int = 1) -> StepDataset:
    random = numpy.random.default_rng(3)
    lengths = random.integers(1, 12, size=(2, 30))
    sides = [
        pyarrow.chunked_array(
            [[random.integers(4, 20, size=length).tolist() for length in side]],
            type=pyarrow.list_(pyarrow.uint32()),
        )
        for side in lengths
    ]
    return StepDataset(
        PreparedSplit(Sentences(sides[0]), Sentences(sides[1])),
        seed=1,
        tokens_per_step=70,
        tokens_per_device=tokens_per_device,
        rank=rank,
        world_size=world_size,
    )


def make_module(**dropout: float) -> TranslationModule:
    sizes = {"embedding_size": 6, "encoder_size": 5, "decoder_size": 7}
    config = Config.model_validate({"model": sizes | {"dropout": STILL | dropout}})
    torch.manual_seed(5)
    network = build_network(config.model, source_size=20, target_size=20, num_special=4)
    schedule = config.training.optimizer.schedule
    module = TranslationModule(network.double(), config, RunState(), Group(Place()), schedule)

    def backward(loss: Tensor, *_: Any, **__: Any) -> None:
        loss.backward()

    module.manual_backward = backward  # what Lightning does on one process
    return module


def gradients(module: TranslationModule, steps: list[Any]) -> tuple[float, list[Tensor]]:
    """Accumulate the shares of one step; returns the loss and the gradients."""
    loss = sum(module._accumulate(step).item() for step in steps)  # pyright: ignore[reportPrivateUsage]
    return loss, [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("tokens_per_device", [24, 60, 200])
@pytest.mark.parametrize("world_size", [1, 2, 7])
def test_a_step_is_the_same_however_it_is_cut(tokens_per_device: int, world_size: int) -> None:
    position = Position(0, 1)
    whole = make_steps(tokens_per_device=100000)[position]
    assert len(whole.batches) == 1
    shares = [
        make_steps(tokens_per_device=tokens_per_device, rank=rank, world_size=world_size)[position]
        for rank in range(world_size)
    ]
    assert len({len(share.batches) for share in shares}) == 1
    loss, expected = gradients(make_module(), [whole])
    found_loss, found = gradients(make_module(), shares)
    assert found_loss == pytest.approx(loss, abs=1e-12)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_padding_has_no_part_in_loss_or_gradient() -> None:
    steps = make_steps(tokens_per_device=100000)
    whole = (steps[Position(0, number)] for number in range(steps.epoch_length(0)))
    step = next(step for step in whole if (step.batches[0].source == 0).any())
    (batch,) = step.batches
    noisy = batch._replace(source=batch.source.clone(), target_input=batch.target_input.clone())
    for ids, lengths in (
        (noisy.source, batch.source_lengths),
        (noisy.target_input, (batch.target_input != 0).sum(dim=0)),
    ):
        padding = torch.arange(len(ids))[:, None] >= lengths
        ids[padding] = 17
    assert not torch.equal(noisy.source, batch.source)
    loss, expected = gradients(make_module(), [step])
    found_loss, found = gradients(make_module(), [step._replace(batches=(noisy,))])
    assert found_loss == pytest.approx(loss, abs=1e-14)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


def test_a_saved_optimizer_is_loaded_when_lightning_has_moved_the_weights() -> None:
    """Loaded before, its step counts would stay on the CPU, and end a resumed run on a GPU."""
    old = make_module()
    for parameter in old.parameters():
        parameter.grad = torch.ones_like(parameter)
    old.optimizer.step()
    new = make_module()
    saved = old.optimizer.state_dict()
    schedule = new.settings.training.optimizer.schedule
    module = TranslationModule(
        new.network, new.settings, RunState(), Group(Place()), schedule, saved
    )
    assert not module.optimizer.state
    loaded = module.configure_optimizers()
    for parameter, was in zip(module.parameters(), old.parameters(), strict=True):
        assert torch.equal(loaded.state[parameter]["exp_avg"], old.optimizer.state[was]["exp_avg"])


def moved(precision: Precision, *, scale: float = 2.0**10) -> tuple[TranslationModule, Any]:
    """Make a module that computes in a precision, and what a step of it gives."""
    module = make_module()
    network = module.network.to(precision.weights)
    state = RunState(loss_scale=scale)
    schedule = module.settings.training.optimizer.schedule
    module = TranslationModule(
        network, module.settings, state, Group(Place()), schedule, precision=precision
    )
    module.manual_backward = lambda loss: loss.backward()  # pyright: ignore
    module.configure_optimizers()
    step = make_steps(tokens_per_device=60)[Position(0, 1)]
    return module, module.training_step(step, 0)


@pytest.mark.parametrize("products", [torch.bfloat16, torch.float16])
def test_a_step_in_half_precision_is_nearly_that_of_float32(products: torch.dtype) -> None:
    _, told = moved(FLOAT32)
    rough, also = moved(Precision("half", products=products))
    assert also["loss"].item() != told["loss"].item()
    assert also["loss"].item() == pytest.approx(told["loss"].item(), rel=0.02)
    assert also["norm"].item() == pytest.approx(told["norm"].item(), rel=0.05), "without the scale"
    start = make_module().network.float().parameters()
    for parameter, was in zip(rough.network.parameters(), start, strict=True):
        assert parameter.dtype is torch.float32
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, was)


class Questions(TorchDispatchMode):
    """Notes when the host is told a number that only the device knows."""

    asked = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.asked += "_local_scalar_dense" in func.name()
        return func(*args, **(kwargs or {}))


def test_no_step_in_float16_asks_for_what_is_on_the_device() -> None:
    half = Precision("fp16", products=torch.float16)
    module, _ = moved(half)
    step = make_steps(tokens_per_device=60)[Position(0, 2)]
    with Questions() as questions:
        module.training_step(step, 1)
        assert questions.asked == 0
        float(module.loss_scale.value)  # pyright: ignore[reportOptionalMemberAccess]
        assert questions.asked == 1


def test_a_scale_that_is_too_great_costs_a_step_and_nothing_else() -> None:
    half = Precision("fp16", products=torch.float16)
    module, told = moved(half, scale=2.0**60)
    assert module.loss_scale is not None
    assert module.loss_scale.read() == (2.0**59, 0)
    assert told["skipped"].item() == 0, "no failure, while there is a scale to be lowered"
    start = make_module().network.float().parameters()
    assert all(map(torch.equal, module.network.parameters(), start))
    module, told = moved(half, scale=2.0**10)
    assert module.loss_scale is not None
    assert module.loss_scale.read() == (2.0**10, 1)
