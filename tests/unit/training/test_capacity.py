"""How much a device can compute at once: the search, `auto`, and a trial that leaves no trace."""

from collections.abc import Callable
from typing import Any

import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from seq2seq.config import Config
from seq2seq.data.loader import StepDataset
from seq2seq.data.prepared import PreparedSplit, Sentences
from seq2seq.errors import CommonError
from seq2seq.model.network import build_network
from seq2seq.parallel.group import Group
from seq2seq.parallel.place import Place
from seq2seq.training import capacity
from seq2seq.training.capacity import Capacity, Memory, is_out_of_memory, largest_that_fits
from seq2seq.training.precision import FLOAT32
from seq2seq.training.state import RunState
from tests.unit.training.test_module import make_module, make_steps

NUMBER = st.integers(1, 10**6)


@run_with(max_examples=300)
@given(limit=NUMBER, first=NUMBER, least=NUMBER, enough=NUMBER | st.just(10**9))
def test_the_largest_number_that_fits(limit: int, first: int, least: int, enough: int) -> None:
    tried: list[int] = []

    def fits(number: int) -> bool:
        tried.append(number)
        return number <= limit

    found = largest_that_fits(fits, first=first, least=least, enough=enough)
    assert len(tried) == len(set(tried)) <= 30
    assert all(number >= least for number in tried)
    if found is None:
        assert limit < least
    else:
        assert least <= found <= limit
        assert found >= enough or found == limit or found * 17 / 16 >= limit


def test_what_is_tried_first_is_taken_where_it_is_enough() -> None:
    assert largest_that_fits(lambda _: True, first=32000, least=402, enough=5000) == 32000
    assert largest_that_fits(lambda _: True, first=32000, least=402, enough=70000) == 128000
    tokens = largest_that_fits(lambda number: number <= 49000, first=32000, least=402, enough=10**9)
    assert tokens == 48000


def settings(tokens: Any, **data: Any) -> Config:
    training = {"tokens_per_step": 30000, "tokens_per_device": tokens}
    return Config.model_validate({"data": data, "training": training})


def test_auto_is_a_plain_number_where_no_error_tells_what_fits() -> None:
    state, cpu = RunState(tokens_per_device=640000), torch.device("cpu")
    module, steps = make_module(), make_steps(tokens_per_device=100)

    def choose(config: Config) -> tuple[int, str]:
        group = Group(Place())
        return Capacity(module.network, steps, config, group, cpu, FLOAT32, epoch=0).choose(state)

    told = "training.tokens_per_device: auto is 25,000 here, since cpu doesn't tell what its"
    assert choose(settings("auto"))[0] == 25000
    assert choose(settings("auto"))[1].startswith(told)
    assert choose(settings("auto", max_length=20000))[0] == 40002
    assert choose(settings(7000)) == (7000, "")
    assert state.tokens_per_device == 640000, "what a GPU has found is kept for it"


class OnGpu(Capacity):
    """A capacity as on a GPU, of which there may be none here: so many positions fit."""

    holds = 0
    usable = 10**7
    """Positions that leave enough of the second process's memory free."""

    def try_everywhere(self, tokens: int) -> list[Memory]:
        trouble = "" if tokens <= self.holds else "CUDA out of memory."
        first = Memory("", tokens, tokens, 0, 10**8)
        return [first, Memory(trouble, tokens, tokens, 0, self.usable)]


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], OnGpu]:
    def name(_: object) -> str:
        return "NVIDIA H100"

    def most(_: object) -> float:
        return 1e9

    monkeypatch.setattr(torch.cuda, "get_device_name", name)
    monkeypatch.setattr(capacity, "_memory_of", most)

    def make(holds: int) -> OnGpu:
        module, steps = make_module(), make_steps(tokens_per_device=100)
        monkeypatch.setattr(steps, "largest_share", lambda _: 10**7)  # pyright: ignore[reportUnknownLambdaType]
        device = torch.device("cuda")
        made = OnGpu(
            module.network, steps, settings("auto"), Group(Place()), device, FLOAT32, epoch=0
        )
        made.holds = holds
        return made

    return make


def test_auto_finds_what_fits_in_all_processes_and_keeps_to_it(
    on_gpu: Callable[[int], OnGpu],
) -> None:
    state = RunState()
    tokens, told = on_gpu(49000).choose(state)
    assert (tokens, state.tokens_per_device) == (48000, 48000)
    assert told == "training.tokens_per_device: 48,000 fit on NVIDIA H100 (auto)"
    saved = RunState.from_plain(state.to_plain())
    tokens, told = on_gpu(10**6).choose(saved)
    assert tokens == saved.tokens_per_device == 48000, "a run goes on as it was begun"
    assert told == "training.tokens_per_device: 48,000 as before (auto)"


def test_auto_leaves_some_of_each_memory_free(on_gpu: Callable[[int], OnGpu]) -> None:
    capacity = on_gpu(64000)
    capacity.usable = 41000
    assert capacity.choose(RunState())[0] == 40000
    assert capacity.choose(RunState(tokens_per_device=64000))[0] == 64000, "as it was begun"


def test_auto_looks_anew_where_what_was_found_does_not_fit(on_gpu: Callable[[int], OnGpu]) -> None:
    state = RunState(tokens_per_device=48000)
    tokens, told = on_gpu(20000).choose(state)
    assert tokens == state.tokens_per_device == 20000
    assert told.endswith("20,000 fit on NVIDIA H100 (auto); the 48,000 of before don't")


def test_a_device_that_holds_no_long_pair_is_refused(on_gpu: Callable[[int], OnGpu]) -> None:
    with pytest.raises(CommonError, match=r"memory of NVIDIA H100 is too small even for .* = 402"):
        on_gpu(401).choose(RunState())
    assert on_gpu(402).choose(RunState())[0] == 402


def test_a_longest_batch_that_does_not_fit_is_told_with_what_fits(
    on_gpu: Callable[[int], OnGpu],
) -> None:
    on_gpu(25000).check(25000)
    with pytest.raises(CommonError) as refused:
        on_gpu(20000).check(25000)
    assert str(refused.value) == (
        "the memory of rank 1 is too small for the longest batch, which has 25,000 padded"
        " positions: lower training.tokens_per_device (now 25000) to 19531, which fits"
    )


def test_a_trial_leaves_no_trace() -> None:
    module, steps = make_module(embeddings=0.3), make_steps(tokens_per_device=100)
    before = [parameter.clone() for parameter in module.network.parameters()]
    place = torch.device("cpu")
    tried = Capacity(module.network, steps, settings(402), Group(Place()), place, FLOAT32, epoch=0)
    (memory,) = tried.try_everywhere(60)
    widest = steps.cut_for(60).largest(0)[0]
    assert memory.positions == widest.source.numel() + widest.target_input.numel()
    assert memory.trouble == ""
    assert memory.peak > memory.growth >= 0
    for parameter, was in zip(module.network.parameters(), before, strict=True):
        assert torch.equal(parameter, was)
        assert parameter.grad is None
    assert not module.optimizer.state


def test_a_trial_has_gradients_and_moments_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there when the last of several micro-batches is computed must fit as well."""
    module, steps = make_module(), make_steps(tokens_per_device=100)
    seen: list[tuple[int, bool]] = []
    made: list[torch.optim.Optimizer] = []
    new_optimizer, batch_loss = capacity.new_optimizer, capacity.batch_loss

    def remember(*arguments: Any) -> torch.optim.Optimizer:
        made.append(new_optimizer(*arguments))
        return made[-1]

    def look(network: Any, *arguments: Any, **settings: Any) -> torch.Tensor:
        gradients = sum(p.grad is not None for p in network.parameters())
        moments = len(made[-1].state)
        seen.append((gradients, moments == gradients))
        return batch_loss(network, *arguments, **settings)

    monkeypatch.setattr(capacity, "new_optimizer", remember)
    monkeypatch.setattr(capacity, "batch_loss", look)
    place = torch.device("cpu")
    Capacity(module.network, steps, settings(402), Group(Place()), place, FLOAT32, epoch=0).check(
        402
    )
    number = len(list(module.network.parameters()))
    assert seen == [(0, True), (number, True)]


def test_other_errors_of_a_trial_are_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(capacity, "batch_loss", broken)
    module, steps = make_module(), make_steps(tokens_per_device=100)
    place = torch.device("cpu")
    tried = Capacity(module.network, steps, settings(402), Group(Place()), place, FLOAT32, epoch=0)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tried.check(402)


def test_what_says_that_memory_is_used_up() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_auto_on_a_gpu_of_which_a_gibibyte_may_be_used() -> None:
    device = torch.device("cuda", 0)
    gibibyte = 2**30 / torch.cuda.get_device_properties(device).total_memory
    side = Sentences(pyarrow.chunked_array([[[7] * 49] * 4000], pyarrow.list_(pyarrow.uint32())))
    steps = StepDataset(PreparedSplit(side, side), seed=1, tokens_per_step=200000)
    network = build_network(Config().model, source_size=8000, target_size=8000, num_special=4)
    tried = Capacity(network, steps, settings("auto"), Group(Place()), device, FLOAT32, epoch=0)
    torch.cuda.set_per_process_memory_fraction(gibibyte, device)
    try:
        tokens, told = tried.choose(RunState())
        tried.check(tokens)
        assert f"{tokens:,} fit on {torch.cuda.get_device_name(device)} (auto)" in told
        with pytest.raises(CommonError, match="too small for the longest batch"):
            tried.check(2 * tokens)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
