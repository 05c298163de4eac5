"""What feeds training, with a stopwatch: preparation, the plan, its batches, the loader."""

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy
import torch

from seq2seq.benchmark.batching import (
    Batching,
    joeynmt_rule,
    opennmt_rule,
    our_batching,
    their_batching,
)
from seq2seq.benchmark.comparison import Measured, Row, Table, machine, rows_of, take_in_turn
from seq2seq.benchmark.preparation import OFF, NoisyText, Preparation
from seq2seq.benchmark.simulation import AT_ONCE, plan_simulated, simulate, simulated_steps
from seq2seq.config import Config
from seq2seq.data.corpus import open_corpora
from seq2seq.data.loader import Position, StepDataset, step_loader
from seq2seq.data.plan import Lengths
from seq2seq.data.prepare import prepare
from seq2seq.data.prepared import Ids, PreparedData
from seq2seq.parallel.place import Place
from seq2seq.training.parts import new_steps

_COMPARED = 10**6  # pairs that other toolkits' rules are tried on
_COLLATED = 200  # micro-batches whose ids are collated without a loader
_DRAWN = 50_000  # pairs that noisy text is made of
_HELD_OUT = 1000  # pairs that are looked for in it
_RANDOM = 20  # steps that are looked up at random


class Planned(NamedTuple):
    """What the plan of an epoch has taken."""

    seconds: float
    memory: int
    """Most bytes of the process that made it."""
    first: float
    """Seconds to the first step, once the plan is there."""
    other: float
    """Seconds to any other step, of the slowest."""


def measure_plan(pairs: int, tokens_per_step: int) -> Planned:
    """Plan an epoch of simulated lengths in a process of its own, and look steps up from its files.

    Raises:
        UserError: there is no room for the files.
    """
    with tempfile.TemporaryDirectory(prefix="seq2seq-") as name:
        folder = Path(name)
        simulate(folder, pairs)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            made = process.submit(plan_simulated, folder, tokens_per_step).result()
        began = time.perf_counter()
        steps = simulated_steps(folder, tokens_per_step)
        _ = steps[Position()]
        first = time.perf_counter() - began
        others = numpy.random.default_rng(1).integers(0, steps.epoch_length(0), _RANDOM)
        return Planned(*made, first, max(_time_step(steps, number) for number in others.tolist()))


def _time_step(steps: StepDataset, number: int) -> float:
    began = time.perf_counter()
    _ = steps[Position(0, number)]
    return time.perf_counter() - began


class Sample(NamedTuple):
    """Tokens that were made into batches in some time."""

    tokens: int
    """Real ones, source and target, ends of sentence counted."""
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def _load(steps: StepDataset, workers: int, seconds: int) -> Sample:
    """Load steps for a while, the start of the workers included."""
    began = time.perf_counter()
    tokens = 0
    for step in step_loader(steps, start=Position(), number=10**9, workers=workers):
        tokens += step.target_tokens + step.source_tokens
        if time.perf_counter() - began >= seconds:
            break
    return Sample(tokens, time.perf_counter() - began)


Pairs = list[tuple[list[Ids], list[Ids]]]
"""The ids of some micro-batches: for each those of the sources, and those of the targets."""


def _collate(batches: Pairs, seconds: int) -> Sample:
    """Put ids side by side in matrices of numpy for a while, and nothing else."""
    began = time.perf_counter()
    tokens = 0
    for source, target in cycle(batches):
        for side in (source, target, target):  # target: what goes in, what is to come out
            columns = numpy.zeros((max(map(len, side)) + 1, len(side)), numpy.int64)
            for number, ids in enumerate(side):
                columns[: len(ids), number] = ids
        tokens += sum(map(len, source)) + sum(map(len, target)) + len(target)
        if time.perf_counter() - began >= seconds:
            break
    return Sample(tokens, time.perf_counter() - began)


def _some_batches(steps: StepDataset, data: PreparedData) -> Pairs:
    split = data.split("train")
    found = (
        batch.examples.tolist()
        for step in step_loader(
            steps, start=Position(), number=min(_COLLATED, steps.epoch_length(0))
        )
        for batch in step.batches
    )
    return [
        ([split.source[example] for example in batch], [split.target[example] for example in batch])
        for batch in islice(found, _COLLATED)
    ]


_ROWS: dict[str, Row] = {"tokens/s": (lambda it: it.rate, ",.0f")}


def measure_data(
    config: Config, *, text: int, pairs: int, workers: int, samples: int, seconds: int
) -> Measured:
    """Measure preparation, plan, batches and loader; the data is prepared first if need be.

    Args:
        config: of a run.
        text: pairs of noisy text that are prepared; 0: none.
        pairs: simulated ones, of which an epoch is planned.
        workers: processes of the loader.
        samples: of the loader, and of what it is compared with.
        seconds: that a sample takes.

    Raises:
        UserError: the data can't be prepared.
    """
    prepare(config)
    data = PreparedData.open(config.data.folder)
    at_once = config.training.tokens_per_device
    at_once = AT_ONCE if at_once == "auto" else at_once
    steps = new_steps(config, data, Place()).cut_for(at_once)
    preparations = _measure_preparation(config, data, text, samples) if text else {}
    planned = measure_plan(pairs, config.training.tokens_per_step)
    batches = _some_batches(steps, data)
    takes = {
        "loader": lambda: _load(steps, workers, seconds),
        "bare collate": lambda: _collate(batches, seconds),
    }
    results = take_in_turn(takes, samples)
    batching = _batchings(config, data, at_once)
    return Measured(
        title=f"loader, {workers} workers: median of {samples} samples (range)",
        rows=rows_of(results, _ROWS),
        rates={name: [it.rate for it in taken] for name, taken in results.items()},
        unit="tokens/s",
        record={
            "machine": machine(torch.device("cpu"), "torch", "numpy"),
            "preparation": {
                name: [it._asdict() for it in taken] for name, taken in preparations.items()
            },
            "plan": {"pairs": pairs, **planned._asdict()},
            "batches": {name: it._asdict() for name, it in batching.items()},
            "loader": {name: [it._asdict() for it in taken] for name, taken in results.items()},
        },
        tables=(
            *(_preparation_tables(text, preparations) if text else ()),
            _plan_table(pairs, planned),
            _batching_table(config, at_once, batching),
        ),
    )


def _measure_preparation(
    config: Config, data: PreparedData, number: int, samples: int
) -> dict[str, list[Preparation]]:
    """Prepare noisy text with the vocabularies of the config's own, in turn with a plain loop."""
    parts = [part for part in open_corpora(config.data, config.seed) if part.corpus.has("train")]
    pairs = [*islice(parts[0].corpus.pairs("train"), _DRAWN)]
    held_out = [*islice(zip(*data.text("validation"), strict=True), _HELD_OUT)]
    cleaning = config.data.cleaning.model_copy(update={"overlap": "tell"})
    with tempfile.TemporaryDirectory(prefix="seq2seq-") as name:
        data.vocabularies.save(Path(name))
        noisy = NoisyText(Path(name), pairs, held_out, number)
        takes = {
            "plain loop": noisy.loop,
            "no rules": lambda: noisy.prepare(OFF),
            "the config's rules": lambda: noisy.prepare(cleaning),
        }
        return take_in_turn(takes, samples)


def _preparation_tables(number: int, taken: dict[str, list[Preparation]]) -> tuple[Table, Table]:
    rows: dict[str, Row] = {
        "pairs/s": (lambda it: it.rate, ",.0f"),
        "most memory, MiB": (lambda it: it.memory / 2**20, ",.0f"),
    }
    lines = rows_of(taken, rows)
    loop, *others = ([it.rate for it in each] for each in taken.values())
    ratios = [[a / b for a, b in zip(other, loop, strict=True)] for other in others]
    lines.append(["by the plain loop's", "", *(f"{median(ratio):.2f}" for ratio in ratios)])
    title = f"preparation of {number:,} pairs of noisy text: median of {len(loop)} (range)"
    samples = [*taken.values()][-1]
    rules = [
        [rule, f"{median(sample.microseconds[rule] for sample in samples):.2f}"]
        for rule in samples[0].microseconds
    ]
    return (
        Table(title, ["", *taken], lines),
        Table("what it takes on one CPU", ["", "µs/pair"], rules),
    )


def _batchings(config: Config, data: PreparedData, positions: int) -> dict[str, Batching]:
    split = data.split("train")
    lengths = Lengths(split.source.lengths[:_COMPARED], split.target.lengths[:_COMPARED] + 1)
    ours = our_batching(
        lengths,
        seed=config.seed,
        tokens_per_step=config.training.tokens_per_step,
        positions=positions,
    )
    return {
        "seq2seq": ours,
        "OpenNMT-py's rule": their_batching(opennmt_rule, lengths, positions=positions),
        "JoeyNMT's rule": their_batching(joeynmt_rule, lengths, positions=positions),
    }


def _plan_table(pairs: int, planned: Planned) -> Table:
    rows = [
        ["plan of an epoch, s", f"{planned.seconds:,.1f}"],
        ["memory, GiB", f"{planned.memory / 2**30:.2f}"],
        ["first step from its file, ms", f"{1000 * planned.first:,.0f}"],
        [f"slowest of {_RANDOM} steps at random, ms", f"{1000 * planned.other:,.0f}"],
    ]
    return Table(f"plan of {pairs:,} simulated pairs", ["", "seq2seq"], rows)


def _batching_table(config: Config, positions: int, batching: dict[str, Batching]) -> Table:
    forms = {
        "global batches of an epoch": ("global_batches", ",d"),
        "micro-batches": ("micro_batches", ",d"),
        "padding": ("padding", ".1%"),
        "meet again in the next epoch, in a global batch": ("meet_again", ".1%"),
        "meet again in the next epoch, in a micro-batch": ("meet_again_micro", ".1%"),
    }
    rows = [
        [label, *(format(getattr(it, name), form) for it in batching.values())]
        for label, (name, form) in forms.items()
    ]
    tokens = config.training.tokens_per_step
    title = f"batches of {tokens:,} target tokens, cut at {positions:,} positions"
    return Table(title, ["", *batching], rows)
