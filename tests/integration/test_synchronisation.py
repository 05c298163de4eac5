"""No step waits for the device: between two read-backs nothing asks for a number that is there."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seq2seq.config import Config
from seq2seq.parallel.place import Place
from seq2seq.training import module
from seq2seq.training.boundary import Boundary
from seq2seq.training.run import train
from seq2seq.training.stopping import StopRequest
from tests.integration.conftest import make_config

STEPS = 5
# What tells the host a number, or the size of a result, that only the device knows.
ASKING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2"}


class Questions(TorchDispatchMode):
    """Notes the operations that a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.all: set[str] = set()
        self.found: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        indices = args[1] if name.startswith(("index", "_index")) else ()
        masks = [i for i in indices if i.dtype == torch.bool] if isinstance(indices, list) else []
        self.all.add(name)
        if name in ASKING or masks:
            self.found.add(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A run that reads nothing back before its last step, some steps cut into micro-batches."""
    training: dict[str, object] = {"steps": STEPS, "log_every": 100, "ema": 0.9}
    training |= {"tokens_per_device": 402, "checkpoint": {"every": 100}}
    return make_config(tmp_path, training=training, validation={"every": 100})


def train_within(
    context: AbstractContextManager[Any], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train with something in force while the steps are computed, and up to the boundary's end.

    All but the last one, at whose end the losses are read back.
    """
    start, end = Boundary.on_train_batch_start, Boundary.on_train_batch_end
    stack = ExitStack()

    def begin(self: Boundary, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        start(self, trainer, pl_module, *arguments)
        if pl_module.state.step < STEPS - 1:
            stack.enter_context(context)

    def finish(self: Boundary, *arguments: Any) -> None:
        end(self, *arguments)
        stack.close()

    monkeypatch.setattr(Boundary, "on_train_batch_start", begin)
    monkeypatch.setattr(Boundary, "on_train_batch_end", finish)
    with stack:
        state = train(config, Place(), resume=False, stop=StopRequest())
    assert state.step == STEPS


def test_no_step_asks_for_what_is_on_the_device(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = Questions()
    train_within(questions, config, monkeypatch)
    assert "_fused_adamw_" in questions.all
    assert any(name.endswith("backward") for name in questions.all)
    assert questions.found == set()


def test_a_question_would_be_seen(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_loss = module.batch_loss

    def curious(*arguments: Any, **settings: Any) -> Tensor:
        loss = batch_loss(*arguments, **settings)
        losses = loss.detach().reshape(1)
        losses.item()
        losses[losses > 0]
        torch.masked_select(losses, losses > 0)
        (losses > 0).nonzero()
        torch.equal(losses, losses)
        losses.unique()
        return loss

    monkeypatch.setattr(module, "batch_loss", curious)
    questions = Questions()
    train_within(questions, config, monkeypatch)
    asked = {"index", "masked_select", "nonzero", "equal", "_unique2"}
    assert questions.found == asked | {"_local_scalar_dense"}


class NoWaiting(AbstractContextManager[None]):
    """Makes an error of whatever waits for a GPU."""

    def __enter__(self) -> None:
        torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *_: object) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_no_step_waits_for_a_gpu(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = config.trainer.model_copy(update={"accelerator": "cuda"})
    on_gpu = config.model_copy(update={"trainer": trainer})
    train_within(NoWaiting(), on_gpu, monkeypatch)
