"""A hundred million pairs: what their plan takes, and what the processes of a node share of it."""

import json
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from seq2seq.benchmark.simulation import simulate

PAIRS = 100_000_000
GIBIBYTE = 2**20  # in KiB
# A rank that makes the plan, or waits for it, and then makes steps all over the epoch.
RANK = """
import json, sys, time
from pathlib import Path
import numpy
from seq2seq.benchmark.simulation import simulated
from seq2seq.data.loader import Position, StepDataset
from seq2seq.data.plan_files import PlanFiles

folder, rank, world_size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
began = time.monotonic()

def seconds():
    global began
    passed, began = time.monotonic() - began, time.monotonic()
    return passed

steps = StepDataset(
    simulated(folder),
    seed=1,
    tokens_per_step=25_000,
    tokens_per_device=25_000,
    rank=rank,
    world_size=world_size,
    files=PlanFiles(folder / "plans", "node"),
)
number = steps.epoch_length(0)
times = [seconds()]
for place in numpy.random.default_rng(1).integers(0, number, 1000).tolist():
    steps[Position(0, place)]
    times.append(seconds())
told = {"plan": times[0], "first": times[1], "slowest": max(times[1:])}
(folder / f"told-{rank}.json").write_text(json.dumps(told))
sys.stdin.read()
"""


def memory(process: subprocess.Popen[bytes]) -> int:
    """KiB that a process has; of what it shares with others, its part."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def run(folder: Path, world_size: int) -> tuple[float, list[dict[str, float]]]:
    """Start the ranks of a node: the most GiB that they have together, and what each took."""
    told = [folder / f"told-{rank}.json" for rank in range(world_size)]
    for path in told:
        path.unlink(missing_ok=True)
    most = 0
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", RANK, str(folder), str(rank), str(world_size)],
                    stdin=subprocess.PIPE,
                )
            )
            for rank in range(world_size)
        ]
        while True:
            done = all(path.exists() and path.read_text() for path in told)
            most = max(most, sum(map(memory, ranks)))
            if done:
                break
            assert all(rank.poll() is None for rank in ranks)
            time.sleep(1)
        for rank in ranks:
            rank.communicate()
    return most / GIBIBYTE, [json.loads(path.read_text()) for path in told]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_hundred_million_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate(tmp_path, PAIRS)
    memories: dict[int, float] = {}
    for world_size in (1, 4):
        shutil.rmtree(tmp_path / "plans", ignore_errors=True)
        memories[world_size], told = run(tmp_path, world_size)
        with capsys.disabled():
            print(f"\n{world_size} ranks: at most {memories[world_size]:.2f} GiB together; {told}")
    again, told = run(tmp_path, 1)
    with capsys.disabled():
        print(f"\n1 rank, from the file: {again:.2f} GiB; {told}")
    assert len(list((tmp_path / "plans" / "node").iterdir())) == 1
    assert memories[1] < 4
    assert memories[4] < 1.3 * memories[1]
