"""scripts/benchmark_gpu.py: its numbers, its tables, and that it needs nothing but torch."""

import ast
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts import benchmark_gpu
from scripts.benchmark_gpu import Bench, Bidirectional, Network, Recurrent

SCRIPT = Path(benchmark_gpu.__file__)
SMALL = ("--device", "cpu", "--scale", "0.01", "--seconds", "0.01")


def results(folder: Path) -> dict[str, Any]:
    """Read the one file that a call left in a folder."""
    (path,) = folder.iterdir()
    return json.loads(path.read_text(encoding="utf-8"))


def measured(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in item["rows"] if "median" in row]


def test_the_script_imports_torch_and_the_standard_library_alone():
    tree = ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8")))
    names = {
        name.split(".")[0]
        for node in tree
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "torch" in names
    assert names - {"torch"} <= sys.stdlib_module_names


def test_the_script_runs_alone_and_leaves_whole_tables(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, *SMALL, "A0", "A8", "--output", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    items = results(tmp_path / "out")["items"]
    assert list(items) == ["first", "A0", "A8", "last"]
    for name, item in items.items():
        assert item["seconds"] > 0
        assert measured(item)
        for row in measured(item):
            assert math.isfinite(row["median"])
            assert row["low"] <= row["median"] <= row["high"]
            assert row["name"] in done.stdout
        assert f"{name}  {item['title']}" in done.stdout
    assert len(measured(items["A8"])) == 3
    assert items["last"]["rows"][-1]["name"] == "noise: last / first"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["A1", "C7"], "error: There is no item 'C7'; there are A0, A1,"),
        (["--scale", "0"], "error: --scale must be above 0, and it is 0.0."),
        (["--output", "a file/folder"], "error: [Errno 20] Not a directory"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    Path("a file").touch()
    assert benchmark_gpu.main([*SMALL, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(sentence)
    assert captured.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_an_item_that_fails_is_recorded_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken(bench: Bench) -> None:
        """Break in a work, then as a whole."""

        def work() -> None:
            raise RuntimeError("too small\na second line")

        bench.measure({"this": work, "that": lambda: None})
        raise ZeroDivisionError("as a whole")

    monkeypatch.setitem(benchmark_gpu.ITEMS, "A9", (10.0, broken))
    arguments = [*SMALL, "A9", "A8", "--output", str(tmp_path)]
    assert benchmark_gpu.main(arguments) == 1
    items = results(tmp_path)["items"]
    notes = {row["name"]: row.get("note") for row in items["A9"]["rows"]}
    assert notes["this"].startswith("failed: RuntimeError: too small")
    assert notes["that"] is None
    assert notes["item"] == "failed: ZeroDivisionError: as a whole"
    assert "in work" in items["A9"]["tracebacks"]["this"]
    assert len(measured(items["A8"])) == 3
    assert "failed: A9 this" in capsys.readouterr().out


def test_an_item_out_of_time_says_so_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def slow(bench: Bench) -> None:
        """Need more than there is."""
        bench.measure({"one": lambda: None})
        bench.deadline = 0.0
        bench.measure({"other": lambda: None})

    monkeypatch.setitem(benchmark_gpu.ITEMS, "A9", (60.0, slow))
    assert benchmark_gpu.main([*SMALL, "--seconds", "0.1", "A9", "--output", str(tmp_path)]) == 0
    one, end = results(tmp_path)["items"]["A9"]["rows"]
    assert one["repeats"] >= 10
    assert end["note"].startswith("out of time")


@pytest.mark.long
def test_the_whole_plan_runs_small(tmp_path: Path):
    arguments = [*SMALL, "--scale", "0.03", "--seconds", "0.25", "--call", "AB"]
    assert benchmark_gpu.main([*arguments, "--output", str(tmp_path)]) == 0
    items = results(tmp_path)["items"]
    assert list(items) == ["first", *benchmark_gpu.ITEMS, "last"]
    for name, item in items.items():
        assert measured(item), name
        assert all(math.isfinite(row["median"]) for row in measured(item)), name


def losses(hidden: Tensor, weight: Tensor, bias: Tensor, expected: Tensor) -> list[Tensor]:
    """Sum the loss in ways that should make no difference."""
    chunked = benchmark_gpu.chunked_loss
    ways = [
        chunked(hidden, weight, bias, expected, 1.0, rows, benchmark_gpu.loss_in_torch)
        for rows in (1, 3, 100)
    ]
    half = chunked(hidden, weight, bias, expected, 0.5, 4, benchmark_gpu.loss_in_torch)
    ways += [half * 2, benchmark_gpu.plain_loss(hidden, weight, bias, expected)]
    if hasattr(nn, "LinearCrossEntropyOptions"):
        ways.append(benchmark_gpu.loss_of_torch(hidden, weight, bias, expected))
    return ways


def test_all_losses_have_the_gradients_of_plain_cross_entropy():
    made = torch.Generator().manual_seed(3)
    shapes = ((10, 6), (17, 6), (17,))
    hidden, weight, bias = (
        torch.randn(shape, generator=made, dtype=torch.float64).requires_grad_() for shape in shapes
    )
    expected = torch.randint(17, (10,), generator=made)
    logits, leaves = functional.linear(hidden, weight, bias), (hidden, weight, bias)
    plain = functional.cross_entropy(logits, expected, label_smoothing=0.1, reduction="sum")
    exact = torch.autograd.grad(plain, leaves)
    for loss in losses(hidden, weight, bias, expected):
        torch.testing.assert_close(loss, plain, rtol=1e-12, atol=0)
        gradients = torch.autograd.grad(loss, leaves)
        torch.testing.assert_close(gradients, exact, rtol=1e-10, atol=1e-13)


def test_the_network_has_the_size_and_the_arithmetic_of_gnmt():
    with torch.device("meta"):
        network = Network(32_320, 1024)
    encoder = 2 * 2048 * 4096 + 3072 * 4096 + 2 * 2048 * 4096 + 1024 * 1024
    decoder = 2048 * 4096 + 3 * 3072 * 4096 + 1024 * 1024 + 1024 * 32_320
    biases = 9 * 2 * 4096 + 32_320
    count = sum(each.numel() for each in network.parameters())
    assert count == encoder + decoder + biases + 1024 * 32_320 == 160_669_248
    assert network.arithmetic(10) == 60 * (encoder + decoder)


def test_two_layers_and_a_reversal_are_the_packed_bidirectional_layer():
    torch.manual_seed(4)
    steps, size, lengths = 7, 5, torch.tensor([7, 5, 3, 2])
    packing = nn.LSTM(size, size, bidirectional=True)
    two = Bidirectional(*(Recurrent(size, size, torch.float64) for _ in range(2)))
    weights = list(packing.parameters())
    for layer, part in ((two.ahead, weights[:4]), (two.back, weights[4:])):
        for into, value in zip(layer.parameters(), part, strict=True):
            into.data.copy_(value)
    inputs = torch.randn(steps, 4, size, dtype=torch.float64)
    sequence = nn.utils.rnn.pack_padded_sequence(inputs, lengths)
    expected, _ = nn.utils.rnn.pad_packed_sequence(packing.double()(sequence)[0])
    got = two(inputs, benchmark_gpu.reversal(lengths, steps))
    real = torch.arange(steps)[:, None] < lengths
    torch.testing.assert_close(got[real], expected[real], rtol=0, atol=1e-14)


def test_forms_of_the_weights_and_pieces_of_time_change_nothing():
    torch.manual_seed(5)
    cast, flat = (Recurrent(6, 6, torch.float64, form) for form in ("cast", "flat"))
    vector = nn.utils.parameters_to_vector(cast.parameters())
    nn.utils.vector_to_parameters(vector, flat.parameters())
    inputs = torch.randn(9, 2, 6, dtype=torch.float64)
    torch.testing.assert_close(flat(inputs), cast(inputs), rtol=0, atol=0)
    layers = [nn.LSTM(6, 6, dtype=torch.float64) for _ in range(3)]
    whole, cut = (
        benchmark_gpu.run_in_pieces(layers, inputs, pieces, [None] * 3) for pieces in (1, 4)
    )
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-14)


def test_cells_and_ways_to_pick_agree():
    torch.manual_seed(6)
    weights: list[Tensor] = list(nn.LSTM(4, 3, dtype=torch.float64).parameters())
    inputs, state, cell = (torch.randn(5, size, dtype=torch.float64) for size in (4, 3, 3))
    joined = [torch.cat(weights[:2], 1), weights[2] + weights[3]]
    expected = benchmark_gpu.cell_by_layer(inputs, state, cell, weights)
    for got in (
        benchmark_gpu.cell_in_two(inputs, state, cell, weights),
        benchmark_gpu.cell_in_one(inputs, state, cell, joined),
    ):
        torch.testing.assert_close(list(got), expected, rtol=0, atol=1e-14)
    logits = torch.randn(5, 40)
    best = logits.log_softmax(1).topk(3)
    scores, ids = benchmark_gpu.pick_last(logits, 3)
    torch.testing.assert_close(scores, best.values)
    assert torch.equal(ids, best.indices)
    assert torch.equal(benchmark_gpu.pick_first(logits, 3)[1], ids)
