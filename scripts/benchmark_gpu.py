"""Measures what one GPU does with LSTM translation models; this file and torch are all it needs.

    python benchmark_gpu.py --output results              # call A: at most eight minutes
    python benchmark_gpu.py --output results --call B     # call B: as long again
    python benchmark_gpu.py --output results A1 A4        # some items; --list names them
    python benchmark_gpu.py --device cpu --scale 0.03 --seconds 0.25 --call AB    # does it work?

Each item prints a table, a row as soon as it is measured, and the file of results is replaced by a
whole one after each row. What fails is recorded, and the next goes on. Works that are compared take
turns. A time is a median with quartiles, of ten repeats or more or of what fits in 1.5 seconds,
after warm-ups: between CUDA events on a GPU, by a clock on a CPU. "enqueue" is what the host needs
to ask for the work of an idle GPU; where that is more than the time, the row says "host-bound".
"GB" is the most that was allocated above what stood there before. Predictions are an arithmetic
model's or others' figures, for an H100 and `--scale 1`.
"""

import argparse
import functools
import gc
import importlib
import itertools
import json
import logging
import operator
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader


def optional(name: str) -> Any:
    """Import a module that need not be there, or return None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


triton, tl = optional("triton"), optional("triton.language")  # with torch's CUDA wheels for Linux
rnn: Any = torch.backends.cudnn.rnn

Work = Callable[[], object]
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32
SMOOTHING = 0.1  # of labels
LARGEST_NORM = 5.0  # of gradients


# --- Measuring ------------------------------------------------------------------------------------


class AbsentError(Exception):
    """This machine has not what a measurement needs."""


class OutOfTimeError(Exception):
    """An item has had its seconds."""


class Timing(NamedTuple):
    """Repeats, and what the host does of it, in milliseconds; bytes of memory (0 on a CPU)."""

    samples: list[float]
    enqueue: float = 0.0
    memory: int = 0


class Bench:
    """What an item is given: the device, sizes, a stopwatch, and a table to fill."""

    def __init__(self, device: str, scale: float, seconds: float, path: Path):
        self.device, self.cuda = torch.device(device), device == "cuda"
        self.scale, self.seconds, self.path = scale, seconds, path
        self.items: dict[str, dict[str, Any]] = {}
        self.current: dict[str, Any] = {}  # the item that was begun last
        self.machine = machine(self.cuda)
        self.failed: list[str] = []
        self.deadline = float("inf")
        self.ceiling = float("nan")  # of large products, in TFLOP/s; measured first
        # torch puts no bfloat16 LSTM's weights in one buffer, and copies them at each call instead.
        torch.backends.cudnn.CUDNN_TENSOR_DTYPES.add(BRAIN)

    def size(self, full: int) -> int:
        """Scale a size of the plan; a multiple of 8."""
        return max(8, round(full * self.scale / 8) * 8)

    def sizes(self, *full: int) -> list[tuple[int, int]]:
        """Pair sizes of the plan with scaled ones, each of these once."""
        pairs: dict[int, int] = {}
        for planned in full:
            pairs.setdefault(self.size(planned), planned)
        return [(planned, size) for size, planned in pairs.items()]

    def length(self, full: int = 44) -> int:
        """Scale a number of time steps."""
        return max(4, round(full * self.scale))

    def randn(self, *shape: int, dtype: torch.dtype = BRAIN) -> Tensor:
        """Draw normal values on the device."""
        return torch.randn(shape, device=self.device, dtype=dtype)

    def network(self, **options: Any) -> "Network":
        """Make a network of the plan's sizes on the device."""
        with self.device:
            return Network(self.size(32768), self.size(1024), **options)

    def synchronize(self) -> None:
        """Wait until the device has nothing to do."""
        if self.cuda:
            torch.cuda.synchronize()

    def measure(
        self,
        works: Mapping[str, Work],
        predicted: Mapping[str, str] | None = None,
        figures: Callable[[str, float], Mapping[str, float]] = lambda name, milliseconds: {},
        *,
        hold: bool = False,
        calls: int = 1,
    ) -> dict[str, Timing]:
        """Time works in turn, and add a row for each; one that fails is left out.

        Args:
            works: by name.
            predicted: what was expected of them.
            figures: what else a row shows, from the name and the median in milliseconds.
            hold: keep the GPU busy until the host has asked for everything, so that the time is the
                GPU's own. (Its queue takes about a thousand kernels; longer works may still wait.)
            calls: how often a work is called in each repeat, without a pause.

        Raises:
            OutOfTimeError: the item has had its seconds.
        """
        if time.perf_counter() > self.deadline:
            raise OutOfTimeError
        times: dict[str, Timing] = {}
        for name, work in works.items():
            with self.guard(name):
                times[name] = self._warm_up(work)
        start, cell = time.perf_counter(), 0.5 * self.seconds * len(times)
        for rounds in itertools.count(1):
            for name, timing in times.items():
                delay = timing.enqueue * calls * 1.5 + 0.2 if hold else 0.0
                timing.samples.append(self.sample(works[name], calls, delay))
            spent = time.perf_counter() - start
            if (rounds >= 10 and spent >= cell) or (rounds >= 3 and spent >= 3 * cell):
                break
        for name, timing in times.items():
            more = figures(name, statistics.median(timing.samples))
            self.row(name, timing, (predicted or {}).get(name, ""), more)
        return times

    def _warm_up(self, work: Work) -> Timing:
        """Call a work twice, once more for its memory, and three times for the host's part."""
        work()
        work()
        self.synchronize()
        memory = -torch.cuda.memory_allocated() if self.cuda else 0
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        work()
        self.synchronize()
        memory += torch.cuda.max_memory_allocated() if self.cuda else 0
        waits: list[float] = []
        for _ in range(3):
            start = time.perf_counter()
            work()
            waits.append((time.perf_counter() - start) * 1e3)
            self.synchronize()
        return Timing([], statistics.median(waits), memory)

    def sample(self, work: Work, calls: int, delay: float = 0.0) -> float:
        """Time so many calls of a work once; return the milliseconds of one.

        On a GPU they begin `delay` milliseconds after they were asked for (at most 100).
        """
        self.synchronize()
        if not self.cuda:
            start = time.perf_counter()
            for _ in range(calls):
                work()
            return (time.perf_counter() - start) * 1e3 / calls
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if delay:  # in cycles, of which a millisecond has less than two million
            torch.cuda._sleep(int(min(delay, 100.0) * 2e6))  # pyright: ignore
        begin.record()
        for _ in range(calls):
            work()
        end.record()
        self.synchronize()
        return begin.elapsed_time(end) / calls

    def row(
        self,
        name: str,
        measured: Timing | float | str,
        predicted: str = "",
        figures: Mapping[str, float] | None = None,
        unit: str = "ms",
    ) -> None:
        """Add a time, another value, or a sentence to the table."""
        row: dict[str, Any] = {"name": name, "note": measured}
        text = str(measured)
        if not isinstance(measured, str):
            timing = measured if isinstance(measured, Timing) else Timing([measured])
            samples, count, figures = timing.samples, len(timing.samples), dict(figures or {})
            low = middle = high = samples[0]
            if count > 1:
                low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
            row = {"name": name, "median": middle, "low": low, "high": high, "unit": unit}
            row |= {"repeats": count, "enqueue_ms": timing.enqueue, "memory_bytes": timing.memory}
            row |= {"figures": figures, "predicted": predicted}
            columns = f"[{low:.4g} {high:.4g}]"
            columns = f"{columns:<18} {count:>4} {timing.enqueue:>8.3g} {timing.memory / 1e9:>7.3f}"
            text = f"{middle:>9.4g} {unit:<4}{columns if count > 1 else '':<40}  "
            text += "; ".join(f"{key} {value:.4g}" for key, value in figures.items())
            text += "  host-bound" if self.cuda and timing.enqueue > middle else ""
            text += f"  (predicted {predicted})" if predicted else ""
        self.current["rows"].append(row)
        print(f"{name:<40} {text}", flush=True)
        self.write()

    def ratio(self, times: Mapping[str, Timing], above: str, below: str, predicted: str) -> None:
        """Add the quotient of two works that took turns, if both could be measured."""
        if above in times and below in times:
            pairs = zip(times[above].samples, times[below].samples, strict=True)
            quotients = Timing([one / other for one, other in pairs])
            self.row(f"{above} / {below}", quotients, predicted, unit="×")

    def write(self) -> None:
        """Replace the file of results by one with all there is."""
        beside = self.path.with_suffix(".part")
        results = {"machine": self.machine, "scale": self.scale, "items": self.items}
        beside.write_text(json.dumps(results, indent=1), encoding="utf-8")
        beside.replace(self.path)

    @contextmanager
    def guard(self, name: str) -> Generator[None]:
        """Record what fails in here, and go on after it."""
        try:
            yield
        except OutOfTimeError:
            raise
        except AbsentError as reason:
            self.row(name, f"absent: {reason}")
        except Exception as error:
            self.failed.append(f"{next(reversed(self.items))} {name}")
            traces = self.current.setdefault("tracebacks", {})
            traces[name] = "".join(traceback.format_exception(error))
            self.row(name, f"failed: {traceback.format_exception_only(error)[0].splitlines()[0]}")
        else:
            return
        gc.collect()  # what an error's frames held
        if self.cuda:
            torch.cuda.empty_cache()


def backward(forward: Callable[[], Tensor], leaves: Sequence[Tensor]) -> Work:
    """Make a work that runs forward and backward, to gradients that no one adds up."""
    gradient = torch.randn_like(forward())
    return lambda: torch.autograd.grad(forward(), leaves, gradient, allow_unused=True)


def compiled(bench: Bench, function: Callable[..., Any], dynamic: bool | None = None) -> Any:
    """Compile for the GPU; on a CPU only trace, which needs no compiler."""
    backend = "inductor" if bench.cuda else "aot_eager"
    return torch.compile(function, dynamic=dynamic, backend=backend)


def captured(bench: Bench, work: Work) -> Work:
    """Capture a work in a CUDA graph and return what replays it."""
    if not bench.cuda:
        raise AbsentError("graphs need CUDA")
    side, main = torch.cuda.Stream(), torch.cuda.current_stream()
    side.wait_stream(main)
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    main.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def card() -> str:
    """Ask nvidia-smi about the cards: versions, clocks, power, temperature."""
    fields = "name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.draw,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown: {error}"


def machine(cuda: bool) -> dict[str, str]:
    """Tell the versions and the card."""
    facts = {"torch": torch.__version__, "triton": getattr(triton, "__version__", "absent")}
    facts["system"] = f"{platform.platform()}, Python {platform.python_version()}"
    if cuda:
        facts |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
        facts |= {"device": str(torch.cuda.get_device_properties(0)), "card": card()}
        facts["fp32 precision of RNNs"] = getattr(rnn, "fp32_precision", "unknown")
    return facts


# --- The loss -------------------------------------------------------------------------------------

LossKernel = Callable[[Tensor, Tensor, float], Tensor]

if triton is not None:

    @triton.jit
    def _loss_kernel(logits, expected, losses, size, scale, smoothing, block: tl.constexpr):  # pyright: ignore
        """One row a program: read it twice, write its loss, replace it by its gradient."""
        row = tl.program_id(0).to(tl.int64)
        start = logits + row * size
        lanes = tl.arange(0, block)
        target = tl.load(expected + row)
        # Before the reductions, whose barriers keep other threads from overwriting it too early.
        picked = tl.load(start + target).to(tl.float32)
        highest, total, plain = -float("inf"), 0.0, 0.0
        for begin in range(0, size, block):
            inside = begin + lanes < size
            values = tl.load(start + begin + lanes, mask=inside, other=-float("inf"))
            values = values.to(tl.float32)
            higher = tl.maximum(highest, tl.max(values, 0))
            total = total * tl.exp(highest - higher) + tl.sum(tl.exp(values - higher), 0)
            plain += tl.sum(tl.where(inside, values, 0.0), 0)
            highest = higher
        total = highest + tl.log(total)
        tl.store(losses + row, total - (1 - smoothing) * picked - smoothing * plain / size)
        for begin in range(0, size, block):
            inside = begin + lanes < size
            values = tl.load(start + begin + lanes, mask=inside, other=0.0).to(tl.float32)
            gradient = tl.exp(values - total) - smoothing / size
            gradient -= tl.where(begin + lanes == target, 1 - smoothing, 0.0)
            tl.store(start + begin + lanes, gradient * scale, mask=inside)


def loss_in_triton(logits: Tensor, expected: Tensor, scale: float) -> Tensor:
    """Do what `loss_in_torch` does, in one kernel."""
    if triton is None or not (logits.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        raise AbsentError("it needs Triton and CUDA")
    rows, size = logits.shape
    losses = torch.empty(rows, device=logits.device)
    block = min(4096, triton.next_power_of_2(size))
    data = (logits, expected, losses, size, scale, SMOOTHING, block)
    _loss_kernel[(rows,)](*data, num_warps=8)  # pyright: ignore
    return losses


def loss_in_torch(logits: Tensor, expected: Tensor, scale: float) -> Tensor:
    """Take label-smoothed cross-entropies of rows, and replace the logits by their gradients.

    Args:
        logits: (rows, vocabulary); become the gradients of the summed loss times `scale`.
        expected: (rows), ids.
        scale: the factor of the gradients.

    Returns:
        The losses (rows), not scaled, at least in float32.
    """
    wide = logits.to(torch.promote_types(logits.dtype, SINGLE))
    total = wide.logsumexp(1, keepdim=True)
    picked = wide.gather(1, expected[:, None])
    losses = (total - (1 - SMOOTHING) * picked).squeeze(1) - SMOOTHING * wide.mean(1)
    gradient = (wide - total).exp() - SMOOTHING / logits.shape[1]
    gradient.scatter_add_(1, expected[:, None], torch.full_like(picked, SMOOTHING - 1))
    logits.copy_(gradient * scale)
    return losses


def add_product(total: Tensor, one: Tensor, other: Tensor) -> None:
    """Add a product of narrow matrices to a wide sum, in one kernel where torch has it."""
    if total.dtype == one.dtype:
        total.addmm_(one, other)
    elif not one.is_cuda:
        total += one @ other
    else:
        try:
            torch.addmm(total, one, other, out_dtype=total.dtype, out=total)  # pyright: ignore
        except (RuntimeError, TypeError):  # Its first versions take no wide sum.
            total += torch.mm(one, other, out_dtype=total.dtype)  # pyright: ignore


class ChunkedLoss(torch.autograd.Function):
    """The output layer and the loss, some rows at a time, with all gradients made in forward.

    The logits of a chunk are made, turned into their gradient, multiplied into the gradients of
    hidden states and weights, and forgotten.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, *rest: Any) -> Tensor:
        """Return the summed loss times `scale`.

        `rest` is weight (vocabulary, size), bias, expected ids, scale, rows of a chunk, kernel.
        """
        weight, bias, expected, scale, rows, kernel = rest
        # Cast once: in the loop it would cost a pass over the weights for each chunk.
        narrow, narrow_bias = weight.to(hidden.dtype), bias.to(hidden.dtype)
        to_hidden = torch.empty_like(hidden)
        to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        loss = bias.new_zeros(())
        parts = zip(hidden.split(rows), expected.split(rows), to_hidden.split(rows), strict=True)
        for part, ids, into in parts:
            logits = torch.addmm(narrow_bias, part, narrow.t())
            loss += kernel(logits, ids, scale).sum()
            torch.mm(logits, narrow, out=into)
            add_product(to_weight, logits.t(), part)
            to_bias += logits.sum(0, dtype=bias.dtype)
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        return loss * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Scale the gradients that forward has made."""
        return *(part.mul_(gradients[0]) for part in ctx.saved_tensors), None, None, None, None


chunked_loss: Callable[..., Tensor] = ChunkedLoss.apply  # pyright: ignore


def plain_loss(hidden: Tensor, weight: Tensor, bias: Tensor, expected: Tensor) -> Tensor:
    """Sum the smoothed cross-entropy with all logits at once, as under autocast."""
    logits = functional.linear(hidden, weight.to(hidden.dtype), bias.to(hidden.dtype))
    wide = logits.to(weight.dtype)
    return functional.cross_entropy(wide, expected, label_smoothing=SMOOTHING, reduction="sum")


def loss_of_torch(hidden: Tensor, weight: Tensor, bias: Tensor, expected: Tensor) -> Tensor:
    """Sum it with `F.linear_cross_entropy`, which smooths no labels where it works in chunks.

    Smoothing adds the expected logit less the mean of all logits, times the smoothing.
    """
    if not hasattr(nn, "LinearCrossEntropyOptions"):
        raise AbsentError("this torch has no chunked F.linear_cross_entropy")
    narrow, options = weight.to(hidden.dtype), nn.LinearCrossEntropyOptions()
    more: dict[str, Any] = {"linear_bias": bias.to(hidden.dtype), "options": options}
    loss = functional.linear_cross_entropy(hidden, narrow, expected, reduction="sum", **more)
    picked = (hidden * narrow[expected]).sum(1, dtype=bias.dtype) + bias[expected]
    mean = (hidden @ weight.mean(0).to(hidden.dtype)).to(bias.dtype) + bias.mean()
    return loss + SMOOTHING * (picked - mean).sum()


@functools.cache
def best_kernel(bench: Bench) -> LossKernel:
    """Take Triton's kernel where it works and says the same as torch's."""
    logits = bench.randn(64, bench.size(32768))
    twin, expected = logits.clone(), torch.arange(64, device=bench.device) % logits.shape[1]
    pairs = ((loss_in_triton, twin), (loss_in_torch, logits))
    try:
        got, right = (way(each, expected, 1.0) for way, each in pairs)
    except Exception:  # A4 has the reason.
        return loss_in_torch
    same = torch.allclose(got, right, atol=1e-3) and torch.allclose(twin, logits, atol=1e-2)
    return loss_in_triton if same else loss_in_torch


# --- The network ----------------------------------------------------------------------------------


def split_as(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Make views of one buffer, one after the other."""
    parts = flat.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


class Recurrent(nn.Module):
    """One LSTM layer of one direction over (length, batch, size).

    Under autocast to bfloat16 cuDNN's LSTMs run in float16, so it casts by itself. `form`: "cast",
    four float32 parameters; "flat", one in cuDNN's order, which spares a compaction; "narrow",
    parameters of the dtype; "autocast", float16 by autocast.
    """

    def __init__(self, inputs: int, size: int, dtype: torch.dtype, form: str = "cast"):
        super().__init__()
        self.size, self.dtype, self.form = size, dtype, form
        self.lstm = nn.LSTM(inputs, size, dtype=dtype if form == "narrow" else None)
        self.shapes = [each.shape for each in self.lstm.parameters()]
        if form == "flat":
            self.lstm = nn.ParameterList([nn.utils.parameters_to_vector(self.lstm.parameters())])

    def weights(self) -> list[Tensor]:
        """Return matrices and biases, of inputs and states in turn, in the dtype."""
        parameters: list[Tensor] = list(self.lstm.parameters())
        if self.form == "autocast":
            return parameters
        narrow = [each.to(self.dtype) for each in parameters]
        if self.form != "flat":
            return narrow
        return split_as(narrow[0], self.shapes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Run from a state of zeros."""
        inputs = inputs.to(self.dtype)
        state = (inputs.new_zeros(1, inputs.shape[1], self.size),) * 2
        with torch.autocast(inputs.device.type, HALF, enabled=self.form == "autocast"):
            return torch.lstm(inputs, state, self.weights(), True, 1, 0.0, True, False, False)[0]


class _Reorder(torch.autograd.Function):
    """Pick rows by a permutation that is its own inverse."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].index_select(0, ctx.saved_tensors[0]), None


def reorder(inputs: Tensor, order: Tensor) -> Tensor:
    """Turn every sentence of (length, batch, size) round within its own length."""
    turned: Tensor = _Reorder.apply(inputs.flatten(0, 1), order)  # pyright: ignore
    return turned.view_as(inputs)


def reversal(lengths: Tensor, longest: int) -> Tensor:
    """Make the permutation for `reorder`; padding stays in place."""
    step = torch.arange(longest)[:, None]
    turned = torch.where(step < lengths, lengths - 1 - step, step)
    return (turned * len(lengths) + torch.arange(len(lengths))).flatten()


class Bidirectional(nn.Module):
    """Two layers, of which the second reads from the end, on a stream of its own if given one."""

    def __init__(self, ahead: Recurrent, back: Recurrent, side: Any = None):
        super().__init__()
        self.ahead, self.back, self.side = ahead, back, side

    def forward(self, inputs: Tensor, order: Tensor) -> Tensor:
        """Read in both directions; (length, batch, 2 × size)."""
        if self.side is not None:
            self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            back = reorder(self.back(reorder(inputs, order)), order)
        ahead = self.ahead(inputs)
        if self.side is not None:
            torch.cuda.current_stream().wait_stream(self.side)
        return torch.cat((ahead, back), 2)


def between(
    states: Tensor, residual: Tensor | None, context: Tensor | None, rate: float
) -> tuple[Tensor, Tensor]:
    """Do what happens between two LSTMs; return the sum and the next one's input."""
    states = states if residual is None else states + residual
    inputs = states if context is None else torch.cat((states, context), 2)
    return states, functional.dropout(inputs, rate)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Look up (length, batch, size) in (batch, source length, size)."""
    scores = torch.bmm(queries.transpose(0, 1), keys.transpose(1, 2))
    weights = scores.masked_fill(~mask[:, None], float("-inf")).softmax(2)
    return torch.bmm(weights, values).transpose(0, 1)


def draw_lengths(batch: int, length: int, share: float) -> Tensor:
    """Draw lengths up to `length` that leave `share` of a batch real, on average."""
    return torch.randint(max(1, round((2 * share - 1) * length)), length + 1, (batch,))


class Batch(NamedTuple):
    """Sentences of like length, sources and targets padded to the same one."""

    ids: Tensor  # (2 × length, batch): sources, then targets
    order: Tensor  # the reversal of the sources
    mask: Tensor  # (batch, length): True at real source tokens
    rows: Tensor  # real target positions, of (length, batch) flattened
    expected: Tensor  # the ids to predict there
    tokens: int  # real ones, of both sides


def make_batch(bench: Bench, batch: int, length: int) -> Batch:
    """Draw a batch of which 93 % is real."""
    sources, targets = (draw_lengths(batch, length, 0.93) for _ in range(2))
    step, vocabulary = torch.arange(length), bench.size(32768)
    rows = (step[:, None] < targets).flatten().nonzero().squeeze(1)
    ids = torch.randint(vocabulary, (2 * length, batch))
    expected = torch.randint(vocabulary, (len(rows),))
    parts = (ids, reversal(sources, length), step < sources[:, None], rows, expected)
    moved = [part.to(bench.device) for part in parts]
    return Batch(*moved, tokens=int((sources + targets).sum()))


class Network(nn.Module):
    """GNMT's layout, or input feeding, with the loss; biases in the LSTMs and the output alone.

    Encoder: one bidirectional layer, then plain ones. Decoder: attention once, from the lowest
    layer, and `[x; context]` into the upper ones. Residual sums from the third layer.
    """

    def __init__(
        self,
        vocabulary: int,
        size: int,
        *,
        layers: int = 4,
        dtype: torch.dtype = BRAIN,
        lstm_dtype: torch.dtype | None = None,
        dropout: float = 0.2,
        feeding: bool = False,
        kernel: LossKernel = loss_in_torch,
        wrap: Callable[[Any], Any] = lambda region: region,
    ):
        super().__init__()
        recurrent: Any = functools.partial(Recurrent, size=size, dtype=lstm_dtype or dtype)
        self.size, self.dtype, self.dropout, self.kernel = size, dtype, dropout, kernel
        self.between, self.attend = wrap(between), wrap(attend)
        self.embedding, self.output = nn.Embedding(vocabulary, size), nn.Linear(size, vocabulary)
        self.first = Bidirectional(recurrent(size), recurrent(size))
        inputs = [2 * size] + [size] * (layers - 2)
        self.encoder = nn.ModuleList(map(recurrent, inputs))
        lowest, upper = (2 * size, size) if feeding else (size, 2 * size)
        self.decoder = nn.ModuleList(map(recurrent, [lowest] + [upper] * (layers - 1)))
        self.key, self.query = (nn.Linear(size, size, bias=False) for _ in range(2))
        self.readout = nn.Linear(2 * size, size, bias=False) if feeding else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(self, batch: Batch, loss_scale: float = 1.0) -> Tensor:
        """Return the mean loss of a real target token, times `loss_scale`."""
        # One look-up for both sides: one dense gradient of the table instead of two.
        source, target = self.embedding(batch.ids).to(self.dtype).chunk(2)
        states = self.first(functional.dropout(source, self.dropout), batch.order)
        values = self._stack(self.encoder, states, None).transpose(0, 1).contiguous()
        memory = (self._project(self.key, values), values, batch.mask)
        decode = self._feed if self.readout else self._decode
        states = decode(target, *memory)
        real, scale = states.flatten(0, 1).index_select(0, batch.rows), loss_scale / len(batch.rows)
        weights = self.output.weight, self.output.bias
        return chunked_loss(real, *weights, batch.expected, scale, 2048, self.kernel)

    def _project(self, layer: nn.Linear, states: Tensor) -> Tensor:
        return functional.linear(states, layer.weight.to(self.dtype))

    def _stack(self, layers: Iterable[Any], states: Tensor, context: Tensor | None) -> Tensor:
        residual = None
        for number, layer in enumerate(layers):
            states, inputs = self.between(states, residual, context, self.dropout)
            residual = states if number else None
            states = layer(inputs)
        return (states if residual is None else states + residual).to(self.dtype)

    def _decode(self, embedded: Tensor, *memory: Tensor) -> Tensor:
        lowest, *upper = self.decoder
        states = lowest(functional.dropout(embedded, self.dropout)).to(self.dtype)
        return self._stack(upper, states, self.attend(self._project(self.query, states), *memory))

    def _feed(self, embedded: Tensor, *memory: Tensor) -> Tensor:
        """Loop over time: a readout is part of the next input (Luong et al. 2015, 3.3)."""
        readouts = [torch.zeros_like(embedded[0])]
        weights = [layer.weights() for layer in self.decoder]  # pyright: ignore
        states = [(readouts[0], readouts[0])] * len(weights)
        for token in embedded:
            inputs = torch.cat((token, readouts[-1]), 1)
            for number, matrices in enumerate(weights):
                dropped = functional.dropout(inputs, self.dropout)
                states[number] = torch.lstm_cell(dropped, states[number], *matrices)  # pyright: ignore
                inputs = states[number][0] + inputs if number > 1 else states[number][0]
            context = self.attend(self._project(self.query, inputs)[None], *memory)[0]
            both = torch.cat((inputs, context), 1)
            readouts.append(self._project(self.readout, both).tanh())  # pyright: ignore
        return torch.stack(readouts[1:])

    def arithmetic(self, positions: int) -> float:
        """Count a training step's FLOP, 6 a weight and position, over so many of each side."""
        matrices = [each for each in self.parameters() if each.dim() == 2]
        return 6.0 * positions * (sum(map(Tensor.numel, matrices)) - self.embedding.weight.numel())


class Training:
    """A network, its optimizer and a batch: all that a step needs."""

    def __init__(self, bench: Bench, batch: Batch, *, capturable: bool = False, **options: Any):
        self.bench, self.batch = bench, batch
        self.network = bench.network(kernel=best_kernel(bench), **options)
        self.weights = list(self.network.parameters())
        self.optimizer: Any = torch.optim.AdamW(
            self.weights, lr=1e-4, fused=True, capturable=capturable
        )

    def loss(self) -> Tensor:
        """Run forward."""
        return self.network(self.batch)

    def gradients(self) -> None:
        """Run forward and backward."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()

    def clip(self) -> None:
        """Bound the gradients' norm."""
        nn.utils.clip_grad_norm_(self.weights, LARGEST_NORM, foreach=True)

    def step(self) -> None:
        """Take one step."""
        self.gradients()
        self.clip()
        self.optimizer.step()

    def figures(self, name: str, milliseconds: float) -> dict[str, float]:
        """Turn the time of a step into tokens a second and a share of the products' ceiling."""
        padded, seconds = self.batch.ids.numel(), milliseconds / 1e3
        share = self.network.arithmetic(padded // 2) / seconds / 1e12 / self.bench.ceiling
        figures = {"real tok/s": self.batch.tokens / seconds, "padded": padded / seconds}
        if self.bench.cuda:
            figures["all GB"] = torch.cuda.max_memory_allocated() / 1e9
        return {**figures, "share of products": share}


# --- Call A ---------------------------------------------------------------------------------------


def product(bench: Bench, rows: int, columns: int, inner: int, count: int = 1) -> Work:
    """Make `count` equal products; their weights stay in the cache, as an LSTM's do."""
    one, other = bench.randn(rows, inner), bench.randn(inner, columns)
    into = bench.randn(rows, columns)
    return lambda: [torch.mm(one, other, out=into) for _ in range(count)]


def measure_product(bench: Bench, full: tuple[int, int, int], predicted: str) -> float:
    """Measure a product of rows × columns × inner; return its TFLOP/s."""
    rows, columns, inner = map(bench.size, full)
    name, work = f"product {rows}×{columns}×{inner}", product(bench, rows, columns, inner)
    rates: list[float] = []

    def rate(_: str, ms: float) -> dict[str, float]:
        rates.append(2 * rows * columns * inner / ms / 1e9)
        return {"TFLOP/s": rates[0]}

    bench.measure({name: work}, {name: predicted}, rate, hold=True)
    return rates[0]


def ceilings(bench: Bench) -> None:
    """Large and small products, a copy: the ceilings of every share below."""
    measure_product(bench, (8192, 8192, 8192), "790 TFLOP/s")
    measure_product(bench, (16896, 4096, 1024), "600–680 TFLOP/s")
    measure_product(bench, (16384, 32768, 1024), "650 TFLOP/s")
    works: dict[str, Work] = {}
    predicted: dict[str, str] = {}
    expected = {32: "3–4 us", 128: "5–7 us", 384: "6–8 us", 1024: "12–16 us"}
    for full, batch in bench.sizes(*expected):
        shape = (batch, bench.size(4096), bench.size(1024))
        name = f"50 products {batch}×{shape[1]}×{shape[2]}"
        works[name], predicted[name] = product(bench, *shape, count=50), expected[full]
    bench.measure(works, predicted, lambda _, ms: {"us each": ms * 20}, hold=True)
    source, target = (bench.randn(bench.size(2**29)) for _ in range(2))
    moved = 2 * source.numel() * source.element_size()
    copy = {"copy": lambda: target.copy_(source)}
    bench.measure(copy, {"copy": "3000 GB/s"}, lambda _, ms: {"GB/s": moved / ms / 1e6}, hold=True)


@contextmanager
def strict_rnn() -> Generator[None]:
    """Have cuDNN's RNNs use no TF32 in here (and bf16 ones no tensor cores)."""
    before = rnn.fp32_precision
    rnn.fp32_precision = "ieee"
    try:
        yield
    finally:
        rnn.fp32_precision = before


def one_layer(bench: Bench) -> None:
    """One LSTM layer in fp16, bf16, tf32: is bf16 the default, and fp16 for small batches?

    bf16 stands if it takes at most 1.15 × fp16's time from 256. "serial" is a step's time without
    the products over all steps; where it is beyond 40 us, it is not on cuDNN.
    """
    for full, batch in bench.sizes(128, 384, 1024, 256, 32, 64, 136, 192, 512):
        kinds: dict[str, tuple[Any, ...]] = {"fp16": (HALF,), "bf16": (BRAIN,)}
        if full in (128, 384):
            kinds["tf32"] = (SINGLE,)
        if full == 128:
            kinds["bf16 ieee"] = (BRAIN, 1, strict_rnn)
        if full == 256:
            kinds["fp16 in two"] = (HALF, 2)
        _layers_at(bench, 1024, full, batch, kinds)
    for full, batch in bench.sizes(128, 384, 1024):
        _layers_at(bench, 2048, full, batch, {"fp16": (HALF,), "bf16": (BRAIN,)})


SERIAL = {  # of which kind at which batch, forward and backward, in microseconds a step
    **{("fp16", batch): "3–5, 5–8" for batch in (32, 64, 128)},
    ("bf16", 128): "9–12, 13–16",
    ("bf16", 384): "11–14, 14–18",
    ("bf16", 1024): "18–24, 24–30",
    ("bf16 ieee", 128): "3–10 × bf16's",
}


def _layers_at(
    bench: Bench, inputs: int, full: int, batch: int, kinds: Mapping[str, tuple[Any, ...]]
) -> None:
    steps, width, at = bench.length(), bench.size(inputs), f"B {batch} input {bench.size(inputs)}"
    works = {f"products {at}": product(bench, steps * batch, 4 * bench.size(1024), width)}
    for kind, options in kinds.items():
        ahead, both = _layer(bench, width, batch, *options)
        works |= {f"{kind} {at} forward": ahead, f"{kind} {at}": both}
    us: dict[str, float] = {}

    def per_step(name: str, ms: float) -> dict[str, float]:
        us[name] = ms * 1e3 / steps
        return {"us/step": us[name]}

    times = bench.measure(works, figures=per_step, hold=True)
    for kind in kinds:
        names = f"products {at}", f"{kind} {at} forward", f"{kind} {at}"
        if us.keys() >= set(names) and kind != "tf32":
            large, ahead, both = (us[name] for name in names)
            # Backward has three such products: for the inputs' gradient and both matrices' own.
            figures = {"backward": both - ahead - 3 * large}
            predicted = SERIAL.get((kind, full), "") if inputs == 1024 else ""
            bench.row(f"serial {kind} {at}", ahead - large, predicted, figures, "us")
    bench.ratio(times, f"bf16 {at}", f"fp16 {at}", "≤ 1.15 from 256")
    for kind in ("fp16", "bf16") if full == 128 and inputs == 1024 else ():
        with bench.guard(f"kernels {kind} {at}"):
            bench.row(f"kernels {kind} {at}", kernels(bench, works[f"{kind} {at}"]))


def _layer(
    bench: Bench,
    inputs: int,
    batch: int,
    dtype: torch.dtype,
    pieces: int = 1,
    within: Callable[[], Any] = nullcontext,
) -> tuple[Work, Work]:
    """Make the forward, and the forward and backward, of one `nn.LSTM` layer."""
    layer = nn.LSTM(inputs, bench.size(1024), device=bench.device, dtype=dtype)
    shape = (bench.length(), batch // pieces)
    parts = [bench.randn(*shape, inputs, dtype=dtype).requires_grad_() for _ in range(pieces)]
    gradient = bench.randn(*shape, bench.size(1024), dtype=dtype)

    def run(backward: bool) -> None:
        with within():
            for part in parts:
                states = layer(part)[0]
                if backward:
                    torch.autograd.grad(states, [part, *layer.parameters()], gradient)

    return functools.partial(run, False), functools.partial(run, True)


def kernels(bench: Bench, work: Work) -> str:
    """Name the kernels that take most of a work's time, with their counts."""
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA if bench.cuda else activity.CPU]) as seen:
        work()
        bench.synchronize()
    key = "self_device_time_total" if bench.cuda else "self_cpu_time_total"
    events = sorted(seen.key_averages(), key=operator.attrgetter(key))[:-7:-1]
    return "; ".join(
        f"{each.count} × {each.key[:70]} {getattr(each, key):.0f} us" for each in events
    )


def both_directions(bench: Bench) -> None:
    """A bidirectional layer, packed, or as two LSTMs and a permutation: the encoder's form.

    Also whether two streams are worth code, and at which padding packed sequences would win.
    """
    for (_, batch), share in itertools.product(bench.sizes(128, 384), (0.93, 0.75)):
        _directions_at(bench, bench.size(1024), bench.length(), batch, share)


def _directions_at(bench: Bench, size: int, steps: int, batch: int, share: float) -> None:
    lengths = draw_lengths(batch, steps, share).sort(descending=True).values
    lengths[0] = steps
    order = reversal(lengths, steps).to(bench.device)
    inputs = bench.randn(steps, batch, size).requires_grad_()
    with bench.device:
        one = nn.LSTM(size, size, bidirectional=True, dtype=BRAIN)
        two = Bidirectional(*(Recurrent(size, size, BRAIN, "narrow") for _ in range(2)))

    def packed() -> Tensor:
        sequence = nn.utils.rnn.pack_padded_sequence(inputs, lengths)
        return nn.utils.rnn.pad_packed_sequence(one(sequence)[0], total_length=steps)[0]

    ways: dict[str, tuple[Callable[[], Tensor], nn.Module]] = {
        "packed": (packed, one),
        "two": (lambda: two(inputs, order), two),
        "unpacked": (lambda: one(inputs)[0], one),
    }
    if bench.cuda:
        side = Bidirectional(two.ahead, two.back, torch.cuda.Stream())
        ways["two streams"] = (lambda: side(inputs, order), side)
    at = f"B {batch} real {share}"
    works = {
        f"{name} {at}": backward(way, [inputs, *module.parameters()])
        for name, (way, module) in ways.items()
    }
    times = bench.measure(works, hold=True)
    bench.ratio(times, f"packed {at}", f"two {at}", "≥ 1.3 at 128, ≥ 1.1 at 384")
    bench.ratio(times, f"two {at}", f"two streams {at}", "1.1–1.3")


def weight_forms(bench: Bench) -> None:
    """Nine layers whose weights have four forms: how the layers keep float32 parameters.

    "cast" if it costs at most 3 % over "narrow" at 384; "flat" if it wins 3 % there or 15 % at 32.
    """
    size = bench.size(1024)
    forms = {"narrow": BRAIN, "cast": BRAIN, "flat": BRAIN}
    if bench.cuda:  # LSTMs on a CPU are not autocast.
        forms["autocast"] = HALF
    for _, batch in bench.sizes(384, 32):
        works: dict[str, Work] = {}
        inputs = bench.randn(bench.length(), batch, size).requires_grad_()
        for form, dtype in forms.items():
            with bench.device:
                layers = nn.Sequential(*(Recurrent(size, size, dtype, form) for _ in range(9)))
            leaves = [inputs, *layers.parameters()]
            works[f"{form} B {batch}"] = backward(functools.partial(layers, inputs), leaves)
        times = bench.measure(works, hold=True)
        for form, more in (("cast", "0.5"), ("flat", "0.3"), ("autocast", "0.5")):
            bench.ratio(times, f"{form} B {batch}", f"narrow B {batch}", f"+ {more} ms")


def output_layer(bench: Bench) -> None:
    """The output layer with its loss: rows of a chunk, and whether a Triton kernel is worth it.

    It is if it saves 3 ms of a 37 ms step that torch, compiled or not, does not.
    """
    for full, vocabulary in bench.sizes(32768, 16384, 8192):
        _losses_at(bench, bench.size(16384), vocabulary, every=full == 32768)
    _losses_at(bench, bench.size(65536), bench.size(32768), every=False)


def _losses_at(bench: Bench, tokens: int, vocabulary: int, *, every: bool) -> None:
    size = bench.size(1024)
    hidden = bench.randn(tokens, size).requires_grad_()
    weight = (bench.randn(vocabulary, size, dtype=SINGLE) / size**0.5).requires_grad_()
    bias = bench.randn(vocabulary, dtype=SINGLE).requires_grad_()
    data = (hidden, weight, bias, torch.randint(vocabulary, (tokens,), device=bench.device))
    ways: dict[str, Callable[[], Tensor]] = {"plain": functools.partial(plain_loss, *data)}

    def chunked(kind: str, kernel: LossKernel, rows: int) -> None:
        ways[f"{kind} {rows}"] = functools.partial(chunked_loss, *data, 1.0, rows, kernel)

    for _, rows in bench.sizes(2048, 1024, 4096, 8192):
        chunked("torch", loss_in_torch, rows)
        chunked("Triton", loss_in_triton, rows)
    if every:
        ways["F.linear_cross_entropy"] = functools.partial(loss_of_torch, *data)
        chunked("compiled", compiled(bench, loss_in_torch), bench.size(4096))
    leaves = (hidden.detach().float().requires_grad_(), weight, bias)
    loss = chunked_loss(*leaves, data[3], 1.0, bench.size(2048), loss_in_torch)
    exact = torch.autograd.grad(loss, leaves)
    shapes = ((tokens, vocabulary, size), (tokens, size, vocabulary), (vocabulary, size, tokens))
    products = [product(bench, *shape) for shape in shapes]
    at = f"N {tokens} V {vocabulary}"
    works: dict[str, Work] = {f"products {at}": lambda: [each() for each in products]}
    errors: dict[str, float] = {}
    for kind, way in ways.items():
        with bench.guard(f"{kind} {at}"):
            gradients = torch.autograd.grad(way(), data[:3])
            errors[f"{kind} {at}"] = max(map(relative_error, gradients, exact))
            works[f"{kind} {at}"] = backward(way, data[:3])
    expected = {"plain": "products + 8 ms, 5–7.5 GB", "torch": "products + 6–8 ms, 0.3 GB"}
    expected |= {"Triton": "products + 1.2–1.6 ms, 0.3 GB", "products": "5.5 ms"}
    predicted = {name: expected.get(name.split()[0], "") for name in works if every}
    bench.measure(works, predicted, lambda name, _: {"error": errors.get(name, 0.0)})


@torch.no_grad()
def relative_error(got: Tensor, exact: Tensor) -> float:
    """Compare by the norm of the difference over the norm."""
    return float((got.double() - exact.double()).norm() / exact.double().norm())


def whole_step(bench: Bench) -> None:
    """A whole step of `gnmt`: tokens a second, its parts, and where the time goes next."""
    bench.row("kernel of the loss", best_kernel(bench).__name__)
    # Large products at 600 TFLOP/s, 18 serial steps a position, 0.75 MB a position at 2.5 TB/s, and
    # 3.5 ms for optimizer and casts.
    predicted = {44: {384: 37, 128: 21, 1024: 81}, 29: {384: 26, 128: 15, 1024: 55}}
    for length, expected in predicted.items():
        for full, batch in bench.sizes(*expected):
            text = f"{expected[full]} ms ± 15 %"
            _step_at(bench, "bf16", batch, bench.length(length), text)
    _step_at(bench, "fp16", bench.size(128), bench.length(), "14.5 ms ± 15 %", dtype=HALF)


def _step_at(
    bench: Bench, kind: str, batch: int, length: int, predicted: str, **options: Any
) -> None:
    name = f"{kind} B {batch} T {length}"
    with bench.guard(name):
        training = Training(bench, make_batch(bench, batch, length), **options)
        bench.measure({name: training.step}, {name: predicted}, training.figures, calls=3)
        parts = {"forward": training.loss, "forward, backward": training.gradients}
        parts |= {"clip": training.clip, "optimizer": training.optimizer.step}
        bench.measure({f"{name} {part}": work for part, work in parts.items()})


def input_feeding(bench: Bench) -> None:
    """The same step with input feeding: the price that the option's text names."""
    predicted = {128: "2.5–4", 384: "1.5–2.5"}
    for full, size in bench.sizes(128, 384):
        with bench.guard(f"B {size}"):
            batch = make_batch(bench, size, bench.length())
            feeding, gnmt = Training(bench, batch, feeding=True), Training(bench, batch)
            names = f"input_feeding B {size}", f"gnmt B {size}"
            times = bench.measure(dict(zip(names, (feeding.step, gnmt.step), strict=True)))
            bench.ratio(times, *names, predicted[full])


def training_graph(bench: Bench) -> None:
    """A whole step in a CUDA graph: an option for training if it wins 15 % at 128 sentences."""
    predicted = {32: "1.3–2", 128: "1.1–1.3", 384: "1.0–1.1"}
    for full, batch in bench.sizes(128, 32, 384):
        eager, graph = f"eager B {batch}", f"graph B {batch}"
        with bench.guard(eager):
            data = make_batch(bench, batch, bench.length())
            training = Training(bench, data, capturable=bench.cuda)
            works: dict[str, Work] = {eager: training.step}
            with bench.guard(graph):
                torch.cuda.empty_cache()
                before, start = torch.cuda.memory_reserved(), time.perf_counter()
                works[graph] = captured(bench, training.step)
                figures = {"GB": (torch.cuda.memory_reserved() - before) / 1e9}
                bench.row(f"capture B {batch}", time.perf_counter() - start, "", figures, "s")
            times = bench.measure(works, figures=training.figures, calls=3)
            bench.ratio(times, eager, graph, predicted[full])


def gradient_precision(bench: Bench) -> None:
    """Gradients of a 2+2 model against float32: LSTMs must not run in fp16 without scaling."""
    batch = make_batch(bench, bench.size(64), bench.length())
    make = functools.partial(bench.network, layers=2, dropout=0.0)
    right = make(dtype=SINGLE)

    def gradients(network: Network, scale: float) -> Tensor:
        made = torch.autograd.grad(network(batch, scale), list(network.parameters()))
        return torch.cat([each.flatten() / scale for each in made])

    with strict_rnn():
        exact = gradients(right, 1.0)
    for name, network, scale, predicted in (
        ("bf16 as designed", make(), 1.0, "1e-2"),
        ("fp16, loss × 1024", make(dtype=HALF), 1024.0, "3e-3"),
        ("bf16, LSTMs in unscaled fp16", make(lstm_dtype=HALF), 1.0, "≥ 5e-2 or many zeros"),
    ):
        with bench.guard(name):
            network.load_state_dict(right.state_dict())
            got = gradients(network, scale)
            zeros = float(((got == 0) & (exact != 0)).sum() / (exact != 0).sum())
            bench.row(name, relative_error(got, exact), predicted, {"zeros": zeros}, "")


# --- Call B ---------------------------------------------------------------------------------------


def compiled_regions(bench: Bench) -> None:
    """A step with the regions between LSTMs compiled: kept if 5 % faster, warm in 60 s."""
    from torch._dynamo.utils import counters

    batch = make_batch(bench, bench.size(384), bench.length())
    wrap = functools.partial(compiled, bench, dynamic=True)
    eager, other = Training(bench, batch), Training(bench, batch, wrap=wrap)
    start = time.perf_counter()
    other.step()
    bench.synchronize()
    bench.row("warm-up", time.perf_counter() - start, "≤ 60 s", unit="s")
    works = {"eager": eager.step, "compiled": other.step}
    times = bench.measure(works, figures=eager.figures, calls=3)
    bench.ratio(times, "eager", "compiled", "≥ 1.05 to be kept")
    before, start = counters["stats"]["unique_graphs"], time.perf_counter()
    for more in range(1, 9):
        other.batch = make_batch(bench, bench.size(384), bench.length() + more)
        other.step()
    bench.synchronize()
    graphs = {"new graphs": float(counters["stats"]["unique_graphs"] - before)}
    bench.row("eight other lengths", time.perf_counter() - start, "", graphs, "s")


def attentions(bench: Bench) -> None:
    """Kinds of attention, forward and backward: the default, and the costs that are printed."""
    shape, size = (bench.size(384), bench.length(), bench.size(1024)), bench.size(1024)
    query, key, value = (bench.randn(*shape).requires_grad_() for _ in range(3))
    matrix, vector = (bench.randn(size, each) / size**0.5 for each in (size, 1))
    leaves = [query, key, value, matrix.requires_grad_(), vector.requires_grad_()]

    def look_up(scores: Tensor) -> Tensor:
        return torch.bmm((scores * size**-0.5).softmax(2), value)

    def heads() -> Tensor:
        split = [each.unflatten(2, (8, -1)).transpose(1, 2) for each in (query, key, value)]
        mixed = functional.scaled_dot_product_attention(split[0], split[1], split[2])
        return mixed.transpose(1, 2).flatten(2)

    def additive(queries: Tensor) -> Tensor:
        return (torch.tanh(queries[:, :, None] + key[:, None]) @ vector).squeeze(3)

    def by_four(queries: Tensor) -> Tensor:
        again: Any = functools.partial(checkpoint, additive, use_reentrant=False)
        return torch.cat([again(each) for each in queries.split(4, 1)], 1)

    fused = compiled(bench, additive)
    ways: dict[str, Callable[[], Tensor]] = {
        "dot": lambda: look_up(torch.bmm(query, key.transpose(1, 2))),
        "general": lambda: look_up(torch.bmm(query, (key @ matrix).transpose(1, 2))),
        "eight heads, SDPA": heads,
        "additive": lambda: look_up(additive(query)),
        "additive, compiled": lambda: look_up(fused(query)),
        "additive, four queries at a time": lambda: look_up(by_four(query)),
    }
    works: dict[str, Work] = {}
    for name, way in ways.items():
        with bench.guard(name):
            works[name] = backward(way, leaves)
    bench.measure(works, hold=True)


def optimizers(bench: Bench) -> None:
    """Optimizers, clipping, average and casts of 160 M parameters: all bound by memory.

    Each should take 1.3 × its bytes over 3 TB/s at most, or be mended.
    """
    weights = list(bench.network().parameters())
    average = [each.detach().clone() for each in weights]
    for each in weights:
        each.grad = torch.randn_like(each)
    count = sum(each.numel() for each in weights)
    lerp: Any = torch._foreach_lerp_  # pyright: ignore
    works: dict[str, Work] = {
        "AdamW fused": torch.optim.AdamW(weights, fused=True).step,
        "AdamW foreach": torch.optim.AdamW(weights, foreach=True).step,
        "clip": lambda: nn.utils.clip_grad_norm_(weights, LARGEST_NORM, foreach=True),
        "average of weights": lambda: lerp(average, weights, 0.001),
        "casts to bf16": lambda: [each.to(BRAIN) for each in weights],
    }
    moved = {name: count * size for name, size in zip(works, (28, 28, 12, 12, 6), strict=True)}
    predicted = {name: f"≤ {1.3e3 * size / 3e12:.2f} ms" for name, size in moved.items()}

    def rate(name: str, ms: float) -> dict[str, float]:
        return {"GB/s": moved[name] / ms / 1e6}

    with torch.no_grad():
        bench.measure(works, predicted, rate, hold=True)


def frame(bench: Bench) -> None:
    """A bare loop against Lightning's Trainer, at most 5 % apart; no host sync in a step."""
    with bench.guard("no host sync"):
        if not bench.cuda:
            raise AbsentError("only a GPU is waited for")
        training = Training(bench, make_batch(bench, bench.size(32), bench.length()))
        training.step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            training.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        bench.row("no host sync", "none was met")
    for _, batch in bench.sizes(32, 384):
        with bench.guard(f"Lightning B {batch}"):
            training = Training(bench, make_batch(bench, batch, bench.length()))
            steps = max(3, round(40 * bench.seconds))
            names = (f"Lightning B {batch}", f"bare B {batch}")
            times = {name: Timing([]) for name in names}
            for _ in range(5):
                times[names[0]].samples.append(_lightning(training, steps))
                times[names[1]].samples.append(bench.sample(training.step, steps))
            for name, timing in times.items():
                bench.row(name, timing)
            bench.ratio(times, *names, "≤ 1.05")


def _lightning(training: Training, steps: int) -> float:
    """Time a step of Lightning's Trainer after its first, in milliseconds."""
    lightning = optional("pytorch_lightning")
    if lightning is None:
        raise AbsentError("no Lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    times: list[float] = []

    def note_time() -> None:
        training.bench.synchronize()
        times.append(time.perf_counter())

    class Module(lightning.LightningModule):
        automatic_optimization = False

        def configure_optimizers(self) -> Any:
            return training.optimizer

        def training_step(self, batch: Batch, number: int) -> None:
            if number == 1:
                note_time()
            optimizer: Any = self.optimizers()
            optimizer.zero_grad(set_to_none=True)
            self.manual_backward(training.network(batch))
            training.clip()
            optimizer.step()

        def on_train_epoch_end(self) -> None:
            note_time()

    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    silent: Any = dict.fromkeys(names, False)
    kind = "gpu" if training.bench.cuda else "cpu"
    trainer = lightning.Trainer(accelerator=kind, devices=1, max_epochs=1, **silent)
    batches: Any = [training.batch] * (steps + 1)
    trainer.fit(Module(), DataLoader(batches, batch_size=None))
    # Lightning leaves it on the CPU.
    training.optimizer.load_state_dict(training.optimizer.state_dict())
    return (times[1] - times[0]) * 1e3 / steps


def cell_by_layer(inputs: Tensor, state: Tensor, cell: Tensor, weights: list[Tensor]) -> Any:
    """Run a layer over a sequence of one step."""
    before = (state[None], cell[None])
    after = torch.lstm(inputs[None], before, weights, True, 1, 0.0, False, False, False)[1:]
    return [each[0] for each in after]


def cell_in_two(inputs: Tensor, state: Tensor, cell: Tensor, weights: list[Tensor]) -> Any:
    """Two products and a kernel for the gates."""
    return torch.lstm_cell(inputs, (state, cell), *weights)  # pyright: ignore


def cell_in_one(inputs: Tensor, state: Tensor, cell: Tensor, weights: list[Tensor]) -> Any:
    """One product over `[x; h]`; `weights` are one matrix and one bias."""
    gates = functional.linear(torch.cat((inputs, state), 1), *weights)
    if gates.is_cuda:
        return torch.ops.aten._thnn_fused_lstm_cell(gates, torch.zeros_like(gates), cell)[:2]
    enter, forget, new, leave = gates.chunk(4, 1)
    after = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * after.tanh(), after


def pick_first(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Take the best logits of each row, then make log-probabilities of these alone."""
    values, ids = logits.topk(count, 1)
    total = (logits - values[:, :1]).exp().sum(1, keepdim=True, dtype=SINGLE).log()
    return (values - values[:, :1]).float() - total, ids


def pick_last(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Make all log-probabilities, then take the best."""
    values, ids = logits.log_softmax(1, dtype=SINGLE).topk(count, 1)
    return values, ids


class Decoding:
    """Beam search step by step, over a memory that a sentence's hypotheses share.

    What changes stays in its place, so that a step can be captured.
    """

    def __init__(self, bench: Bench, network: Network, batch: int, beam: int, cell: Any):
        rows, size = batch * beam, network.size
        self.cell, self.beam, self.batch = cell, beam, batch
        self.keys, self.values = (bench.randn(batch, bench.length(30), size) for _ in range(2))
        self.state = bench.randn(2, len(network.decoder), rows, size)
        self.tokens = torch.ones(rows, device=bench.device, dtype=torch.long)
        self.scores = torch.zeros(batch, beam, device=bench.device)
        self.base = torch.arange(batch, device=bench.device)[:, None] * beam
        self.weights: list[Any] = [layer.weights() for layer in network.decoder]  # pyright: ignore
        if cell is cell_by_layer:
            flat = [torch.cat([part.flatten() for part in each]) for each in self.weights]
            shapes = [[part.shape for part in each] for each in self.weights]
            self.weights = list(map(split_as, flat, shapes))
        if cell is cell_in_one:
            self.weights = [(torch.cat(each[:2], 1), each[2] + each[3]) for each in self.weights]
        rest = (network.query.weight, network.embedding.weight, *network.output.parameters())
        self.query, self.table, *self.output = (each.to(BRAIN) for each in rest)

    def step(self) -> None:
        """Go one token further with all hypotheses."""
        inputs, context = functional.embedding(self.tokens, self.table), None
        pairs: list[Any] = []
        for number, weights in enumerate(self.weights):
            joined = inputs if context is None else torch.cat((inputs, context), 1)
            pairs.append(self.cell(joined, *self.state[:, number], weights))
            inputs = pairs[-1][0] + inputs if number > 1 else pairs[-1][0]
            if context is None:
                queries = functional.linear(inputs, self.query).view(self.batch, self.beam, -1)
                weight = torch.bmm(queries, self.keys.transpose(1, 2)).softmax(2)
                context = torch.bmm(weight, self.values).flatten(0, 1)
        gains, ids = pick_first(functional.linear(inputs, *self.output), 2 * self.beam)
        sums = (self.scores.view(-1, 1) + gains).view(self.batch, -1)
        best, places = sums.topk(self.beam, 1)
        self.scores.copy_(best)
        self.tokens.copy_(ids.view(self.batch, -1).gather(1, places).flatten())
        parents = (self.base + places // (2 * self.beam)).flatten()
        for kept, new in zip(self.state, zip(*pairs, strict=True), strict=True):
            kept.copy_(torch.stack(new).index_select(1, parents))


@torch.inference_mode()
def decoding(bench: Bench) -> None:
    """Steps of decoding: which cell, captured or not, when to ask for the end, when to pick."""
    network = bench.network()
    for beam, full in itertools.product((5, 1), (1, 512, 32, 128)):
        _steps_at(bench, network, beam, full)
    _asking(bench, Decoding(bench, network, bench.size(32), 5, cell_in_two))
    logits = bench.randn(bench.size(512) * 5, bench.size(32768))
    picks = {"top-k, then softmax": pick_first, "softmax, then top-k": pick_last}
    bench.measure({name: functools.partial(pick, logits, 10) for name, pick in picks.items()})


def _steps_at(bench: Bench, network: Network, beam: int, full: int) -> None:
    batch, works = full if full == 1 else bench.size(full), dict[str, Work]()
    names = ("one-step LSTM", "two products", "one product")
    for name, cell in zip(names, (cell_by_layer, cell_in_two, cell_in_one), strict=True):
        label = f"{name}, beam {beam} B {batch}"
        works[label] = Decoding(bench, network, batch, beam, cell).step
        with bench.guard(f"graph of {label}"):
            works[f"graph of {label}"] = captured(bench, works[label])
    aim = {(5, 1): "≥ 6,000 tok/s", (5, 512): "≥ 200,000 tok/s"}.get((beam, full), "")
    bench.measure(works, dict.fromkeys(works, aim), lambda _, ms: {"tok/s": batch * 1e3 / ms})


def _asking(bench: Bench, search: Decoding) -> None:
    """Run 24 steps, waiting for the answer whether all have ended every so often, or never."""
    step = captured(bench, search.step) if bench.cuda else search.step

    def run(every: int) -> None:
        for number in range(1, 25):
            step()
            if number % every == 0:
                bool((search.tokens == 0).all())

    names = {f"24 steps, asked every {every}": every for every in (1, 4, 8)}
    names["24 steps, never asked"] = 25
    bench.measure({name: functools.partial(run, every) for name, every in names.items()})


def budgets(bench: Bench) -> None:
    """Tokens a second and memory by tokens of a batch: the default of `tokens_per_device`."""
    for length in map(bench.length, (44, 14, 75)):
        peaks: list[tuple[int, int]] = []
        for _, tokens in bench.sizes(16384, 33792, 65536, 98304, 131072, 196608):
            batch = max(8, tokens // (2 * length) // 64 * 64)
            name = f"T {length} B {batch}"
            with bench.guard(name):
                training = Training(bench, make_batch(bench, batch, length))
                times = bench.measure({name: training.step}, figures=training.figures)
                peaks += [(2 * batch * length, timing.memory) for timing in times.values()]
        if bench.cuda and len(peaks) > 1:
            (few, small), (many, large) = peaks[0], peaks[-1]
            torch.cuda.empty_cache()
            free = torch.cuda.mem_get_info()[0] * 0.95 - large
            most = many + free * (many - few) / (large - small)
            bench.row(f"most at T {length}, by a straight line", most, unit="tok")


def wavefront(bench: Bench) -> None:
    """Four layers cut in time, each piece as soon as its past and the layer below allow.

    If a graph of it is much faster than one of whole layers, pipelining is worth research.
    """
    shape = (bench.length(), bench.size(128), bench.size(1024))
    made: Any = functools.partial(nn.LSTM, shape[2], shape[2], device=bench.device, dtype=BRAIN)
    layers = [made() for _ in range(4)]
    inputs = bench.randn(*shape).requires_grad_()
    leaves = [inputs, *itertools.chain(*(layer.parameters() for layer in layers))]
    none: list[Any] = [None] * 4
    streams = [torch.cuda.Stream() for _ in layers] if bench.cuda else none
    ways = {"whole": (1, none), "four pieces": (4, none), "four pieces on streams": (4, streams)}
    pieces = functools.partial(run_in_pieces, layers, inputs)
    run = {name: functools.partial(pieces, *way) for name, way in ways.items()}
    error = relative_error(run["four pieces on streams"](), run["whole"]())
    bench.row("error of pieces on streams", error, unit="")
    works = {name: backward(way, leaves) for name, way in run.items()}
    for name in run:
        with bench.guard(f"graph of {name}"):
            works[f"graph of {name}"] = captured(bench, works[name])
    bench.measure(works, figures=lambda _, ms: {"us/step": ms * 1e3 / shape[0]}, hold=True)


def run_in_pieces(
    layers: Sequence[nn.Module], inputs: Tensor, pieces: int, streams: Sequence[Any]
) -> Tensor:
    """Run layers over pieces of time, each layer on its stream; None is the current one."""
    parts, done = list(inputs.chunk(pieces)), list[Any]()
    for layer, stream in zip(layers, streams, strict=True):
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream())
        state, below, done = None, done, []
        with torch.cuda.stream(stream):
            for number, part in enumerate(parts):
                if below:
                    below[number].wait(stream)
                parts[number], state = layer(part, state)
                if stream is not None:
                    done.append(stream.record_event())
    for stream in streams:
        if stream is not None:
            torch.cuda.current_stream().wait_stream(stream)
    return torch.cat(parts)


# --- The command ----------------------------------------------------------------------------------

Item = Callable[[Bench], None]

ITEMS: dict[str, tuple[float, Item]] = {  # with the seconds that each may take
    "A0": (25, ceilings),
    "A1": (90, one_layer),
    "A2": (40, both_directions),
    "A3": (40, weight_forms),
    "A4": (70, output_layer),
    "A5": (70, whole_step),
    "A6": (45, input_feeding),
    "A7": (50, training_graph),
    "A8": (30, gradient_precision),
    "B1": (90, compiled_regions),
    "B2": (35, attentions),
    "B3": (30, optimizers),
    "B4": (60, frame),
    "B5": (90, decoding),
    "B6": (40, budgets),
    "B7": (30, wavefront),
}


def run_item(bench: Bench, name: str, seconds: float, item: Item) -> None:
    """Fill the table of an item, whatever happens in it."""
    start = time.perf_counter()
    bench.deadline = start + seconds * bench.seconds
    title = str(item.__doc__).splitlines()[0]
    bench.current = bench.items[name] = {"title": title, "rows": []}
    columns = f"{'median':>9}     {'quartiles':<18} {'n':>4} {'enqueue':>8} {'GB':>7}"
    print(f"\n{name}  {title}\n{'':<40} {columns}", flush=True)
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            with bench.guard("item"):
                item(bench)
        except OutOfTimeError:
            bench.row("item", "out of time: what would follow is left out")
    for text in sorted({str(each.message).splitlines()[0] for each in caught}):
        bench.row("warning", text)
    bench.current["seconds"] = time.perf_counter() - start
    bench.current["card"] = card() if bench.cuda else ""
    bench.write()


def run(bench: Bench, names: Sequence[str]) -> None:
    """Fill all tables, between two measurements of the same product: these show the noise."""
    rates: list[float] = []

    def repeated(bench: Bench) -> None:
        """A product, first and last: the difference is the noise."""
        rates.append(measure_product(bench, (8192, 8192, 8192), "790 TFLOP/s"))
        bench.ceiling = rates[0]
        if len(rates) > 1:
            bench.row("noise: last / first", rates[1] / rates[0], unit="×")

    run_item(bench, "first", 30, repeated)
    for name in names:
        run_item(bench, name, *ITEMS[name])
    run_item(bench, "last", 30, repeated)


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("items", nargs="*", metavar="ITEM", help="A0 … B7; default: the call's")
    parser.add_argument("--call", choices=("A", "B", "AB"), default="A", help="default: A")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes; default: 1")
    parser.add_argument("--seconds", type=float, default=1.0, help="of all times; default: 1")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark_gpu"), metavar="FOLDER")
    parser.add_argument("--list", action="store_true", help="name the items and end")
    return parser.parse_args(arguments)


def refuse(options: argparse.Namespace) -> None:
    """Raise ValueError for what cannot be run."""
    for name in options.items:
        if name not in ITEMS:
            raise ValueError(f"There is no item {name!r}; there are {', '.join(ITEMS)}.")
    for name in ("scale", "seconds"):
        if not 0 < getattr(options, name) < float("inf"):
            raise ValueError(f"--{name} must be above 0, and it is {getattr(options, name)}.")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU; --device cpu --scale 0.03 tries it without one.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the items: 0 if none failed, 1 if some did, 2 if there is something to put right."""
    options = read_options(arguments)
    if options.list:
        for name, (seconds, item) in ITEMS.items():
            print(f"{name}  {seconds:>3.0f} s  {str(item.__doc__).splitlines()[0]}")
        return 0
    try:
        refuse(options)
        options.output.mkdir(parents=True, exist_ok=True)
        path = options.output / time.strftime("benchmark_gpu-%Y%m%d-%H%M%S.json", time.gmtime())
        bench = Bench(options.device, options.scale, options.seconds, path)
        bench.write()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*(f"{name}: {value}" for name, value in bench.machine.items()), sep="\n")
    if bench.cuda and (torch.backends.cudnn.version() or 0) < 91300:
        print("warning: bf16 LSTMs need cuDNN 9.13; an older one leaves them to a slow loop")
    run(bench, options.items or [name for name in ITEMS if name[0] in options.call])
    print(f"\n{path}", *bench.failed, sep="\nfailed: ")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
