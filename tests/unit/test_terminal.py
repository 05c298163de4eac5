"""What a person at a terminal, a log file and a pipe get to see."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seq2seq.terminal import Progress, say, show_table, use_plain

ROOT = Path(__file__).parents[2]
IMPORTS = "import sys, time; from seq2seq.terminal import *\n"
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"
Environment = dict[str, str] | None
UNRULY = "[/b] [red] :smile: \x1b[31m \r \a \x9b2J \u202e"


@pytest.fixture(autouse=True)
def not_plain_afterwards() -> Iterator[None]:
    yield
    use_plain(False)


def start(
    script: str, *, stdout: int, stderr: int, environment: Environment = None
) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return subprocess.Popen(
        [sys.executable, "-c", IMPORTS + script],
        cwd=ROOT,
        env={**clean, "TERM": "xterm-256color", **(environment or {})},
        stdout=stdout,
        stderr=stderr,
    )


def on_terminal(
    script: str, *, interrupt_at: str = "", columns: int = 200, environment: Environment = None
) -> str:
    """All that the script writes to a terminal; `interrupt_at` presses Ctrl-C once that is seen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = start(script, stdout=theirs, stderr=theirs, environment=environment)
    os.close(theirs)
    seen = b""
    while part := read_some(ours):
        seen += part
        if interrupt_at and interrupt_at.encode() in seen:
            process.send_signal(signal.SIGINT)
            interrupt_at = ""
    os.close(ours)
    process.wait()
    return seen.decode()


def read_some(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side was closed
        return b""


def without_styles(output: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", output)


def test_a_message_is_text_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("translated [red]x[/b] :smile: 'y' 12 日本語\nsecond line")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "translated [red]x[/b] :smile: 'y' 12 日本語\nsecond line\n"


@pytest.mark.parametrize(
    ("control", "spelled"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\r", r"\r"),
        ("\t", r"\t"),
        ("\a", r"\x07"),
        ("\x00", r"\x00"),
        ("\x7f", r"\x7f"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202e", r"\u202e"),
        ("\u2028", r"\u2028"),
        ("\udcff", r"\udcff"),
    ],
)
def test_control_characters_are_spelled_out_everywhere(
    control: str, spelled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say(f"a{control}b")
    show_table(f"t{control}", [f"c{control}"], [[f"d{control}"]])
    with Progress(f"p{control}", total=1, interval=0.0) as progress:
        progress.advance(loss=f"f{control}")
    out, err = capsys.readouterr()
    assert control not in out + err
    for text in ("a", "p", "f"):
        assert text + spelled in err
    for text in ("t", "c", "d"):
        assert text + spelled in out


def test_a_plain_table_aligns_wide_characters_and_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [["日本語", "31.2", "一"], ["German", "1,204", "a b"], ["x", "–", ""]]
    show_table("Scores", ["Language", "BLEU", "Note"], rows)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "Scores",
        "Language   BLEU  Note",
        "日本語     31.2  一",
        "German    1,204  a b",
        "x             –",
    ]


def test_a_plain_table_shows_long_cells_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("", ["id", "text"], [["1", "word " * 100 + "end\nof it"]])
    header, row = capsys.readouterr().out.splitlines()
    assert header == "id  text"
    assert row == " 1  " + "word " * 100 + r"end\nof it"


@pytest.mark.parametrize("rows", [[], [["a", "1"]]])
def test_a_table_may_be_empty(rows: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    show_table("T", ["x", "y"], rows)
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)


def test_a_table_on_a_terminal_has_a_box_and_wraps() -> None:
    script = "show_table('T [/b]', ['[red]', 'n'], [['word' * 20, '7'], [':smile:', '12']])"
    out = without_styles(on_terminal(script, columns=40))
    assert "T [/b]" in out
    assert "│ [red]" in out
    assert "│ :smile:" in out
    assert "│  7 │" in out
    assert re.sub(r"[│\s\d]", "", out).count("word") == 20
    assert max(map(len, out.splitlines())) <= 40


def test_plain_output_on_a_terminal_has_no_boxes_and_no_escapes() -> None:
    script = """
use_plain(True)
show_table("T", ["name", "n"], [["a", "7"]])
with Progress("training", total=2, unit="steps", interval=0.0) as progress:
    progress.advance(2)
"""
    out = on_terminal(script)
    assert "\x1b" not in out
    assert "T\r\nname  n\r\na     7\r\n" in out
    assert "training: 2 of 2 steps, 100 %" in out


def test_plain_progress_tells_how_far_how_fast_and_how_long(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("training", total=5000, unit="steps", interval=0.0) as progress:
        time.sleep(0.01)
        progress.advance(1200, loss="3.21", bleu="31.2")
        progress.advance(0, loss="3.05")
    first, second, last = capsys.readouterr().err.splitlines()
    line = r"training: 1,200 of 5,000 steps, 24 %, [\d,]+ steps/s, \d+ s left, loss 3.21, BLEU 31.2"
    assert re.fullmatch(line, first)
    assert second.endswith("loss 3.05, BLEU 31.2")
    assert re.search(r"24 %, [\d,]+ steps/s, after 0 s, loss 3.05, BLEU 31.2$", last)


def test_plain_progress_keeps_its_interval(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("scoring", total=40, interval=0.1) as progress:
        for _ in range(40):
            time.sleep(0.01)
            progress.advance()
    assert 2 <= len(capsys.readouterr().err.splitlines()) <= 5


def test_short_work_leaves_no_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("scoring", total=1) as progress:
        progress.advance()
    assert capsys.readouterr().err == ""


def test_work_of_an_earlier_run_is_not_counted_as_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training", total=10**9 + 100, done=10**9, interval=0.0) as progress:
        time.sleep(0.1)
        progress.advance(1)
    first = capsys.readouterr().err.splitlines()[0]
    rate, left = re.findall(r"([\d.]+)/s, ([\d.]+) (?:s|min) left", first)[0]
    assert 0 < float(rate) <= 10
    assert float(left) > 5


@pytest.mark.parametrize(
    ("total", "amount", "text"), [(0, 0, "t: 0,"), (0, 3, "t: 3,"), (2, 5, "5 of 2, 100 %,")]
)
def test_an_unknown_or_wrong_total_is_no_problem(
    total: int, amount: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("t", total=total, interval=0.0) as progress:
        progress.advance(amount)
    assert text in capsys.readouterr().err


def test_the_bar_shows_the_work_and_messages_as_text() -> None:
    script = f"""
unruly = {UNRULY!r}
with Progress("training" + unruly, total=5000, unit="steps", done=1000) as progress:
    progress.advance(200, loss="3.21" + unruly, bleu="31.2")
    say("message" + unruly)
    with Progress("validation", total=0) as inner:
        inner.advance(2)
    show_table("Scores" + unruly, ["x"], [[unruly]])
    print("after", file=sys.stderr)
"""
    out = on_terminal(script, columns=400)
    assert out.count(HIDE_CURSOR) == out.count(SHOW_CURSOR) == 1
    assert "\x1b[31m" not in out
    assert not set("\a\x9b\u202e") & set(out)
    spelled = r"[/b] [red] :smile: \x1b[31m \r \x07 \x9b2J \u202e"
    plain = without_styles(out)
    for text in ("training", "message", "loss 3.21", "Scores"):
        assert text + spelled in plain
    assert "1,200 of 5,000 steps, 24 %" in plain
    message_line = next(line for line in plain.splitlines() if "message" in line)
    assert "steps" not in message_line.split("message")[1]
    # The bar is the last thing on the screen, below everything said while it ran.
    assert "1,200 of 5,000" in plain.rsplit("after", 1)[1]


@pytest.mark.parametrize("ending", ["raise ValueError('broken')", "time.sleep(60)"])
def test_the_cursor_comes_back_when_the_work_breaks_off(ending: str) -> None:
    script = f"with Progress('training', total=5) as progress:\n    say('ready')\n    {ending}"
    out = on_terminal(script, interrupt_at="ready" if "sleep" in ending else "")
    assert ("KeyboardInterrupt" if "sleep" in ending else "ValueError: broken") in out
    assert out.rindex(SHOW_CURSOR) > out.rindex(HIDE_CURSOR)
    assert out.rindex("Traceback") > out.rindex("0 of 5")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_terminal_that_knows_only_ascii_is_enough(environment: dict[str, str]) -> None:
    script = r"""
say("\u732b")
show_table("\u732b", ["\u732b"], [["\u00e9 \udcff"]])
with Progress("\u732b", total=1, interval=0.0) as progress:
    progress.advance(loss="\u732b")
    say("done \u732b")
"""
    out = on_terminal(script, environment=environment)
    assert "Traceback" not in out
    assert r"done \u732b" in out
    assert r"loss \u732b" in out
    piped = start(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, environment=environment)
    table, messages = piped.communicate()
    assert piped.returncode == 0
    assert table.decode("ascii").splitlines() == [r"\u732b", r"\u732b", r"\xe9 \udcff"]
    assert rb"done \u732b" in messages


def test_work_goes_on_when_nobody_reads_its_messages() -> None:
    script = """
say("a")
with Progress("t", total=1, interval=0.0) as progress:
    progress.advance()
print("result")
"""
    assert output_with_a_closed_pipe(script, closed="stderr") == b"result\n"


def test_a_table_that_nobody_reads_is_a_broken_pipe() -> None:
    script = """
try:
    show_table("T", ["x"], [["1"]])
except BrokenPipeError:
    say("noticed")
"""
    assert output_with_a_closed_pipe(script, closed="stdout").startswith(b"noticed\n")


def output_with_a_closed_pipe(script: str, *, closed: str) -> bytes:
    reader, writer = os.pipe()
    os.close(reader)
    stdout, stderr = (writer, subprocess.PIPE) if closed == "stdout" else (subprocess.PIPE, writer)
    process = start(script, stdout=stdout, stderr=stderr)
    os.close(writer)
    out, err = process.communicate()
    return out or err
