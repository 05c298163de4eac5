"""A long text: memory that doesn't grow, and kills at any moment that change nothing."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from seq2seq.model_folder import save_model
from tests.builders import LINES, tiny_model, variant
from tests.integration.processes import Process

QUICK = ("search.beam=1", "search.max_length_ratio=0.1")
LONG = pytest.param(1_000_000, 1024, 10, marks=[pytest.mark.long, pytest.mark.timeout(7200)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "model"
    sizes = {"embedding_size": 2, "encoder_size": 2, "decoder_size": 2}
    save_model(folder, tiny_model(0, variant(encoder_layers=1, decoder_layers=1, **sizes)))
    return folder


def write_text(path: Path, number: int) -> Path:
    generator, words = random.Random(1), " ".join(LINES).split()
    with path.open("w") as file:
        for _ in range(number):
            print(*generator.choices(words, k=generator.randint(0, 8)), file=file)
    return path


def assert_memory_stays(process: Process, progress: Callable[[], int]) -> None:
    """Watch a process to its end: after a tenth of the way it has what it needs."""
    samples: list[tuple[int, int]] = []
    memory = Path(f"/proc/{process.pid}/statm")
    while process.poll(0.05) is None:
        with suppress(FileNotFoundError):
            samples.append((progress(), int(memory.read_text().split()[1])))
    end = process.finish()
    assert end.status == 0, end
    most = max(done for done, _ in samples)
    early = next(pages for done, pages in samples if done >= max(1, most / 10))
    assert max(pages for _, pages in samples) < 1.1 * early


@pytest.mark.parametrize(("number", "window", "kills"), [(20_000, 128, 2), LONG])
def test_memory_stays_and_kills_change_nothing(
    model: Path, tmp_path: Path, number: int, window: int, kills: int
) -> None:
    source = write_text(tmp_path / "in.txt", number)

    def start(name: str) -> Process:
        output = tmp_path / name
        words = ("--input", source, "--output", output, "--window", window)
        return Process("translate", model, *words, *QUICK)

    def done() -> int:
        return len(list((tmp_path / "out.txt.parts").glob("[0-9]*[0-9]")))

    began = time.monotonic()
    assert_memory_stays(start("out.txt"), done)
    expected = (tmp_path / "out.txt").read_bytes()
    assert expected.count(b"\n") == number
    share = (time.monotonic() - began) / (kills + 1)
    generator = random.Random(number)
    for _ in range(kills):
        process = start("killed.txt")
        time.sleep(generator.uniform(0.0, share))
        process.kill()
        process.finish()
    end = start("killed.txt").finish(3000.0)
    assert end.status == 0, end
    assert (tmp_path / "killed.txt").read_bytes() == expected


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_memory_stays_where_a_pipe_is_translated(model: Path, tmp_path: Path) -> None:
    source = write_text(tmp_path / "in.txt", 1_000_000)
    process = Process("translate", model, *QUICK, stdin=source)
    assert_memory_stays(process, process.written)
