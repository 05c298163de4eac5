"""How much is computed: against what torch counts while it computes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from seq2seq.benchmark.arithmetic import Weights, Work, best_products
from seq2seq.benchmark.training import Sample, result_of
from seq2seq.config import ModelConfig
from seq2seq.data.batch import Step
from tests.builders import batch_of, logits_of, tiny_network, variant

BATCH = batch_of(([4, 5, 6, 7], [8, 4]), ([5], [4, 6, 8, 7, 5]), ([8, 4], []))
STEP = Step((BATCH,), target_tokens=10, source_tokens=7, epoch=0)


@pytest.mark.parametrize("tied", ["all", "none"])
@pytest.mark.parametrize(
    "model",
    [
        variant(),
        variant(layout="luong", bidirectional_layers=1),
        variant(attention={"kind": "multi_head", "heads": 2}, decoder_size=6),
        variant(attention={"kind": "dot"}, decoder_size=8, bridge="copy", decoder_layers=2),
    ],
)
def test_operations_are_those_that_torch_counts(model: ModelConfig, tied: str) -> None:
    network = tiny_network(model=variant(**model.model_dump() | {"tied": tied}))
    with FlopCounterMode(display=False) as counter:
        logits_of(network, BATCH)
    sentences, sources, targets = 3, 4, 6  # both padded
    widths = model.decoder_size + model.encoder_widths[-1]  # of the scores and of the contexts
    attention = 2 * sentences * sources * targets * widths
    bridge = model.encoder_widths[-1] * model.decoder_layers * model.decoder_size
    small = attention + (2 * sentences * bridge if model.bridge == "projection" else 0)
    work = Work().with_step(STEP)
    assert work == (1, 7, 10, sentences * sources, sentences * targets, 10)
    weights = Weights.of(network)
    counted = weights.operations(work.source_positions, work.target_positions, 10)
    assert counted // 3 == counter.get_total_flops() - small


def sample(seconds: float, source: int, target: int) -> Sample:
    work = Work(10, source_tokens=400, target_tokens=500)
    work = work._replace(source_positions=source, target_positions=target)
    parts = {"wait": 0.001 * seconds, "forward": 0.05}
    return Sample(work, operations=6000, computed=4000, seconds=seconds, parts=parts, memory=7)


def test_processes_together_are_as_fast_as_the_slowest() -> None:
    samples = [sample(2.0, 210, 300), sample(4.0, 230, 260)]
    result = result_of(samples, [1000.0, 2000.0])
    assert (result.source_tokens, result.target_tokens, result.tokens) == (100, 125, 225)
    assert result.positions == 250
    assert result.milliseconds == {"step": 400, "wait": 2, "forward": 50}
    assert (result.useful, result.computed) == (6000 / 4 / 3000, 8000 / 4 / 3000)
    assert (result.products, result.memory) == (3000, 7)


def test_square_products_reach_something() -> None:
    assert best_products(torch.device("cpu"), torch.float32) > 1e8
