"""A file that several real processes translate: the text of one, whatever happens to them."""

import gzip
import hashlib
import io
import json
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import SoftFileLease

from seq2seq import claims
from seq2seq.claims import Claims
from seq2seq.errors import UserError
from seq2seq.model_folder import Model, save_model
from seq2seq.parallel.place import Place
from seq2seq.translation import Translator
from seq2seq.translation_input import Reading, open_input, windows
from seq2seq.translation_job import Job, run
from seq2seq.translation_output import Form, Writer
from tests.builders import LINES, TINY, tiny_model
from tests.integration.conftest import Command
from tests.integration.processes import Process, run_all, slurm_tasks

WINDOW = 12
NUMBER = 10 * WINDOW + 5
LEASE = 0.6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "model"
    save_model(folder, small_model())
    return folder


def small_model(seed: int = 0) -> Model:
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    return tiny_model(seed, TINY.model_copy(update=layers))


def make_text(number: int = NUMBER) -> bytes:
    generator = random.Random(1)
    words = " ".join(LINES).split()
    lines = [" ".join(generator.choices(words, k=generator.randint(0, 5))) for _ in range(number)]
    lines[1] = "form\x0cfeed and\u2028separator\r"  # no line ends
    return "\n".join(lines).encode()


TEXT = make_text()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_bytes(TEXT)
    return path


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What is made of all lines by themselves."""
    path = tmp_path_factory.mktemp("expected") / "in.txt"
    path.write_bytes(TEXT)
    writer = Writer(Translator.load(model), Form())
    lines = open_input(str(path), Reading(("en", "de"))).lines()
    return b"".join(writer.write(window)[0] for window in windows(lines, WINDOW))


def words(model: Path, source: Path) -> list[object]:
    output = source.with_name("out.txt")
    return ["translate", model, "--input", source, "--output", output, "--window", WINDOW]


def here(model: Path, text: Path, **options: Any) -> None:
    """Translate in this process, with a short lease."""
    output = text.with_name("out.txt")
    standard: dict[str, Any] = {"source": str(text), "output": output, "window": WINDOW}
    run(Job(model, **(standard | options)), Place(), torch.device("cpu"), lease=LEASE)


def begin(model: Path, source: Path) -> Path:
    """Translate some of it, but not the third window; returns the folder of the windows."""
    process = Process(*words(model, source))
    parts = source.with_name("out.txt.parts")
    process.wait_until(lambda: (parts / "000000002").exists())
    process.kill()
    process.finish()
    for claim in parts.glob("*.claim"):  # which has another lease than the tests' own
        claim.unlink()
    (parts / "000000002").unlink()
    return parts


def assert_whole(source: Path, expected: bytes) -> None:
    assert source.with_name("out.txt").read_bytes() == expected
    names = {path.name for path in source.parent.iterdir()}
    assert names == {source.name, "out.txt", "out.txt.json"}
    manifest = json.loads(source.with_name("out.txt.json").read_text())
    assert manifest["lines"] == expected.count(b"\n")


@pytest.mark.parametrize("number", [1, 3])
def test_processes_write_together_what_one_writes_alone(
    model: Path, source: Path, expected: bytes, number: int
) -> None:
    ends = run_all([{}] * number, *words(model, source))
    assert [end.status for end in ends] == [0] * number, ends
    assert [end.output for end in ends] == [""] * number
    assert any("out.txt is whole" in end.messages for end in ends)
    assert_whole(source, expected)


def test_tasks_of_a_slurm_step_form_no_group(model: Path, source: Path, expected: bytes) -> None:
    ends = run_all(slurm_tasks(2), *words(model, source))
    assert [end.status for end in ends] == [0, 0], ends
    assert_whole(source, expected)


SEEDS = [pytest.param(seed, marks=[pytest.mark.long] * (seed >= 2)) for seed in range(12)]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_killed_goes_on_where_it_was(
    model: Path, source: Path, expected: bytes, seed: int
) -> None:
    """One of two processes, and then one alone, each time at another moment."""
    generator = random.Random(seed)
    begun = source.with_name("out.txt.json")
    for number in (2, 1):
        processes = [Process(*words(model, source)) for _ in range(number)]
        processes[0].wait_until(begun.exists)
        time.sleep(generator.uniform(0.0, 0.6))
        processes[0].kill()
        statuses = [process.finish().status for process in processes]
        assert statuses[0] in (-signal.SIGKILL, 0)
        assert statuses[1:] == [0] * (number - 1)
    end = Process(*words(model, source)).finish()
    assert end.status == 0, end
    assert_whole(source, expected)


def test_finished_parts_are_not_translated_again(model: Path, source: Path) -> None:
    process = Process(*words(model, source))
    part = source.with_name("out.txt.parts") / "000000001"
    process.wait_until(part.exists)
    process.kill()
    process.finish()
    part.write_bytes(part.read_bytes().splitlines(keepends=True)[0] + b"kept\n" * WINDOW)
    assert Process(*words(model, source)).finish().status == 0
    lines = source.with_name("out.txt").read_bytes().split(b"\n")
    assert lines[WINDOW : 2 * WINDOW] == [b"kept"] * WINDOW
    assert b"kept" not in lines[:WINDOW] + lines[2 * WINDOW :]


def start_dweller(model: Path, source: Path, place: str, *options: str) -> tuple[Process, Path]:
    """Start a process that dwells somewhere until the file is there that is returned with it."""
    mark = source.parent.with_name(f"{source.parent.name}.mark")
    command = (*words(model, source), *options)
    dweller = Process(mark, place, 60, *command, module="tests.integration.dweller")
    dweller.wait_until(mark.with_name(f"{mark.name}.0").exists)
    return dweller, mark.with_name(f"{mark.name}.go")


@pytest.mark.parametrize("step", ["whole_file", "_as_json", "shutil.rmtree"])
def test_a_kill_while_all_is_put_together_is_healed(
    model: Path, source: Path, expected: bytes, step: str
) -> None:
    """At its start, before it is written down that all is done, and before the parts go."""
    begin(model, source)
    dweller, _ = start_dweller(model, source, f"seq2seq.shared_translation:{step}")
    dweller.kill()
    dweller.finish()
    if step == "whole_file":
        source.with_name(f".out.txt.partial-{dweller.pid}").write_bytes(expected[:50])
    end = Process(*words(model, source)).finish()
    assert end.status == 0, end
    assert_whole(source, expected)


@pytest.mark.parametrize(
    "place", ["seq2seq.claims:Claims.take", "seq2seq.shared_translation:write_whole"]
)
def test_one_that_was_thought_dead_changes_nothing_when_all_is_done(
    model: Path, source: Path, expected: bytes, place: str
) -> None:
    """Before its first claim, and before it writes the part that was taken from it."""
    dweller, go = start_dweller(model, source, place)
    for claim in source.with_name("out.txt.parts").glob("*.claim"):
        claim.unlink()
    here(model, source)
    assert_whole(source, expected)
    before = source.with_name("out.txt").stat().st_mtime_ns
    go.touch()
    end = dweller.finish()
    assert end.status == 0, end
    assert_whole(source, expected)
    assert source.with_name("out.txt").stat().st_mtime_ns == before


def claim_elsewhere(path: Path, content: str | None = None) -> None:
    """Leave a claim of a process on another machine, of which nothing will be heard any more."""
    path.parent.mkdir(exist_ok=True)
    lease = SoftFileLease(path, lease_duration=LEASE)
    lease.acquire()
    signed = path.read_text().replace(f"host={socket.gethostname()}", "host=elsewhere")
    lease.release()
    assert "elsewhere" in signed
    path.write_text(signed if content is None else content)


def test_a_part_whose_owner_elsewhere_is_gone_is_taken_over(
    model: Path, source: Path, expected: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = begin(model, source)
    claim_elsewhere(parts / "000000002.claim")
    here(model, source)
    assert "those who have claimed windows: 1" in capsys.readouterr().err
    assert_whole(source, expected)


def test_a_claim_that_was_never_signed_is_taken_over(
    model: Path, source: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_GRACE", 0.1)
    claim_elsewhere(begin(model, source) / "000000002.claim", content="")
    here(model, source)
    assert_whole(source, expected)


def test_a_merge_whose_owner_elsewhere_is_gone_is_taken_over(
    model: Path, source: Path, expected: bytes
) -> None:
    claim_elsewhere(begin(model, source) / "merge.claim")
    here(model, source)
    assert_whole(source, expected)


def test_a_part_whose_owner_is_alive_is_left_to_it(
    model: Path, source: Path, expected: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = begin(model, source)
    with Claims(parts, lease=LEASE).take("000000002") as is_ours:
        assert is_ours
        here(model, source)
        assert "still at work" in capsys.readouterr().err
        assert not source.with_name("out.txt").exists()
        assert not (parts / "000000002").exists()
    here(model, source)
    assert_whole(source, expected)


def test_what_is_done_is_not_touched(model: Path, source: Path) -> None:
    source.write_bytes(TEXT[:100])
    here(model, source)
    files = sorted(source.parent.iterdir())

    def state() -> list[tuple[int, str]]:
        return [(p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]

    before = state()
    end = Process(*words(model, source)).finish()
    assert end.status == 0
    assert "is translated already" in end.messages
    assert sorted(source.parent.iterdir()) == files
    assert state() == before


def test_another_translation_is_refused_and_named(
    model: Path, source: Path, tmp_path: Path, command: Command
) -> None:
    here(model, source)
    before = source.with_name("out.txt").read_bytes()
    ended = command(*words(model, source), "--beam", 2)
    assert ended.status == 2
    assert "out.txt is being made, or was made, of something else" in ended.messages
    assert "(search.beam: 3, not 2)" in ended.messages
    assert "choose another --output, or replace it with --overwrite" in ended.messages
    with pytest.raises(UserError, match=r"\(window: 12, not 5\)"):
        here(model, source, window=5)
    save_model(tmp_path / "other", small_model(seed=1))
    with pytest.raises(UserError, match=r"\(other content of the model\)"):
        here(tmp_path / "other", source)
    source.write_bytes(TEXT.replace(b"cat", b"dog", 1))
    with pytest.raises(UserError, match=r"\(other content of the input\)"):
        here(model, source)
    assert source.with_name("out.txt").read_bytes() == before


@pytest.mark.parametrize("name", ["out.txt", "out.txt.parts"])
def test_what_nothing_is_known_of_is_not_replaced(model: Path, source: Path, name: str) -> None:
    (source.parent / name).mkdir() if name.endswith("parts") else source.with_name(name).touch()
    with pytest.raises(UserError, match=rf"{name} is there, but no out\.txt\.json"):
        here(model, source)
    assert not source.with_name("out.txt.json").exists()


def test_the_window_changes_nothing_in_the_text(
    model: Path, source: Path, expected: bytes, command: Command
) -> None:
    here(model, source, window=1000)
    assert_whole(source, expected)
    ended = command("translate", model, "--window", 7, stdin=TEXT)
    assert ended.output.encode() == expected


def test_packed_input_is_unpacked(model: Path, source: Path, expected: bytes) -> None:
    packed = source.with_name("in.txt.gz")
    packed.write_bytes(gzip.compress(TEXT))
    source.unlink()
    here(model, packed)
    assert_whole(packed, expected)


@pytest.mark.parametrize("text", [b"", b"\n", b"\n" * WINDOW])
def test_little_or_nothing_gives_as_much(model: Path, source: Path, text: bytes) -> None:
    source.write_bytes(text)
    ends = run_all([{}] * 2, *words(model, source))
    assert [end.status for end in ends] == [0, 0], ends
    assert_whole(source, text)


REFUSED = {
    "no input": (["--input", "none.txt", "--output", "out.txt"], "none.txt can't be read"),
    "folder": (["--input", ".", "--output", "out.txt"], ". must be a file"),
    "packed": (["--input", "in.txt", "--output", "out.gz"], "leave .gz away"),
    "nowhere": (["--input", "in.txt", "--output", "in.txt/a"], "can't be written"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_make_no_sense_are_refused(
    model: Path, source: Path, case: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    options, said = REFUSED[case]
    ended = command("translate", model, *options)
    assert ended.status == 2
    assert said in ended.messages
    assert list(source.parent.iterdir()) == [source]


def test_ctrl_c_ends_it_with_a_word_and_gives_the_claim_back(model: Path, source: Path) -> None:
    process = Process(*words(model, source))
    parts = source.with_name("out.txt.parts")
    process.wait_until(lambda: (parts / "000000001").exists())
    process.send(signal.SIGINT)
    end = process.finish()
    assert end.status == 130
    assert "Traceback" not in end.messages
    assert "stopped; the same command goes on" in end.messages
    assert not list(parts.glob("*.claim"))


def test_processes_of_one_command_share_a_file(model: Path, source: Path, expected: bytes) -> None:
    end = Process(*words(model, source), "--devices", 2).finish()
    assert end.status == 0, end
    assert "out.txt is whole" in end.messages
    assert_whole(source, expected)


def from_pipe(model: Path, source: Path, *options: str) -> Process:
    output = source.with_name("out.txt")
    command = ("translate", model, "--output", output, "--window", WINDOW, *options)
    return Process(*command, stdin=source)


def begin_from_pipe(model: Path, source: Path, window: int) -> Path:
    """Translate what comes by a pipe up to a window; returns what was written of it."""
    process = from_pipe(model, source)
    part = source.with_name("out.txt.parts") / f"{window:09}"
    process.wait_until(part.exists)
    process.kill()
    process.finish()
    return part


def test_what_came_by_a_pipe_goes_on_when_asked_to(
    model: Path, source: Path, expected: bytes
) -> None:
    part = begin_from_pipe(model, source, 3)
    before = part.stat().st_mtime_ns
    refused = from_pipe(model, source).finish()
    assert refused.status == 2
    assert "out.txt was begun, and nobody can tell whether of this standard input: --resume" in (
        refused.messages
    )
    assert part.stat().st_mtime_ns == before
    end = from_pipe(model, source, "--resume").finish()
    assert end.status == 0, end
    assert_whole(source, expected)
    assert "--resume" in from_pipe(model, source).finish().messages
    again = from_pipe(model, source, "--resume").finish()
    assert (again.status, "is translated already" in again.messages) == (0, True)
    assert_whole(source, expected)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (WINDOW, "standard input is shorter than what was translated before"),
        (2 * WINDOW - 1, f"{WINDOW} lines from line {WINDOW + 1} on were translated before, but"),
    ],
)
def test_another_pipe_is_noticed(model: Path, source: Path, lines: int, said: str) -> None:
    begin_from_pipe(model, source, 1)
    source.write_bytes(b"the cat\n" * lines)
    end = from_pipe(model, source, "--resume").finish()
    assert end.status == 2
    assert said in end.messages
    assert not source.with_name("out.txt").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [("resume", "another process is at work on"), ("overwrite", "others are still at work on")],
)
def test_a_pipe_is_one_process_alone(
    model: Path, source: Path, option: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = begin_from_pipe(model, source, 1).parent
    for claim in parts.glob("*.claim"):
        claim.unlink()
    before = sorted(parts.iterdir())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT)))
    with Claims(parts, lease=LEASE).take("alone"), pytest.raises(UserError, match=said):
        here(model, source, source=None, **{option: True})
    assert sorted(parts.iterdir()) == before


def test_another_translation_is_replaced_when_asked_to(
    model: Path, source: Path, expected: bytes
) -> None:
    output = source.with_name("out.txt")
    output.write_text("precious")
    with pytest.raises(UserError, match=r"out\.txt is there, but no .* or replace it with --over"):
        here(model, source)
    assert output.read_text() == "precious"
    here(model, source, overwrite=True)
    assert_whole(source, expected)
    before = output.stat().st_mtime_ns
    here(model, source, overwrite=True)
    assert output.stat().st_mtime_ns == before, "it is the same translation"
    here(model, source, overwrite=True, overrides=["search.beam=1"])
    assert output.read_bytes() != expected
    here(model, source, overwrite=True)
    assert_whole(source, expected)


def test_the_old_one_stays_until_the_new_one_is_whole(
    model: Path, source: Path, expected: bytes
) -> None:
    output = source.with_name("out.txt")
    output.write_text("precious")
    dweller, _ = start_dweller(
        model, source, "seq2seq.shared_translation:whole_file", "--overwrite"
    )
    assert output.read_text() == "precious"
    dweller.kill()
    dweller.finish()
    assert output.read_text() == "precious"
    assert Process(*words(model, source)).finish().status == 0
    assert_whole(source, expected)


def test_what_others_are_at_work_on_is_not_replaced(model: Path, source: Path) -> None:
    parts = begin(model, source)
    before = sorted(parts.iterdir())
    with Claims(parts, lease=LEASE).take("000000002"), pytest.raises(UserError) as caught:
        here(model, source, overwrite=True, overrides=["search.beam=1"])
    assert "others are still at work on" in str(caught.value)
    assert sorted(parts.iterdir()) == before


def test_one_that_was_thought_dead_notices_another_translation(model: Path, source: Path) -> None:
    dweller, go = start_dweller(model, source, "seq2seq.shared_translation:write_whole")
    for claim in source.with_name("out.txt.parts").glob("*.claim"):
        claim.unlink()
    here(model, source, overwrite=True, overrides=["search.beam=1"])
    before = source.with_name("out.txt").read_bytes()
    go.touch()
    end = dweller.finish()
    assert end.status == 2, end
    assert "out.txt has come to be made of something else" in end.messages
    assert source.with_name("out.txt").read_bytes() == before


def test_json_lines_are_shared_too(model: Path, source: Path, command: Command) -> None:
    options = ("search.nbest=2", "--alignment", "--window", WINDOW)
    output = source.with_name("out.jsonl")
    shared = ("translate", model, "--input", source, "--output", output, *options)
    assert [end.status for end in run_all([{}] * 2, *shared)] == [0, 0]
    alone = command("translate", model, *options, "--json", stdin=TEXT).output
    assert output.read_text() == alone
    assert alone.count("\n") == NUMBER
    moses = command("translate", model, *options[:1], "--window", 7, stdin=TEXT).output
    numbers = [int(line.split(" ||| ")[0]) for line in moses.splitlines()]
    assert sorted(set(numbers)) == list(range(NUMBER))
    assert numbers == sorted(numbers)


def test_what_is_to_be_said_of_lines_is_said_by_whoever_ends(
    model: Path, source: Path, expected: bytes
) -> None:
    source.write_bytes(TEXT.replace(b"\n", b"\n\xff", 1) + b"\n\xff")
    begin(model, source)
    end = Process(*words(model, source), "--resume").finish()
    assert end.status == 0
    assert "lines that were no UTF-8: 2, the first of them line 2;" in end.messages
