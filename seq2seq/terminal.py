"""Results on stdout; messages and the progress of long work on stderr.

Only a person at a terminal sees boxes, colours and moving bars: a file or a pipe gets plain lines.
Texts come from users and models, so they are shown as text: no markup, and no control character
reaches the terminal.
"""

import contextlib
import re
import sys
import time
import unicodedata
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from rich import box
from rich import progress as rich_progress
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

_NUMBER = re.compile(r"[-+−]?(\d[\d,.]*(e[-+]?\d+)?|nan|inf)( ?± ?\d[\d.]*)?( ?%)?")
_NO_VALUE = ("", "-", "–", "—")
# Line and paragraph separators, and what makes text run the other way until it is closed.
_UNRULY = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_Stream = Any  # what notebooks and tests put in place of stdout is seldom a whole TextIO

_plain = False
_speaker = ""
_bars: rich_progress.Progress | None = None  # all of them: two would fight for the screen


def use_plain(plain: bool) -> None:
    """Write as if no terminal were there: no colours, no boxes, no moving bars."""
    global _plain
    _plain = plain


def speak_as(speaker: str) -> None:
    """Be one of several processes: silent, but for complaints, which begin with its name."""
    global _speaker
    _speaker = speaker


def complain(text: str) -> None:
    """Write to stderr what has gone wrong, whichever process this is."""
    _write(f"seq2seq: {_speaker}: {text}" if _speaker else f"seq2seq: {text}")


def visible(text: str) -> str:
    r"""Spell out the characters that would drive a terminal, as `\x1b` for the escape character."""
    return "".join(_escaped(character) for character in text)


def say(text: str) -> None:
    """Write a message to stderr, above the bar where one is running."""
    if not _speaker:
        _write(text)


def _write(text: str) -> None:
    lines = "\n".join(_shown(line, sys.stderr) for line in text.split("\n"))
    with contextlib.suppress(OSError):  # work goes on when nobody reads its messages any more
        if _bars is not None:
            _bars.console.print(Text(lines), soft_wrap=True)
        else:
            print(lines, file=sys.stderr, flush=True)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout: boxed on a terminal, else in aligned columns with every cell whole.

    Raises:
        BrokenPipeError: The reader of stdout is gone, as after `| head -1`.
    """
    lines = [[_shown(cell, sys.stdout) for cell in line] for line in (columns, *rows)]
    assert all(len(line) == len(columns) for line in lines), "a row has a cell for each column"
    to_right = [_is_numeric(column[1:]) for column in zip(*lines, strict=True)]
    title = _shown(title, sys.stdout)
    console = _terminal(sys.stdout)
    if console is None:
        _print_plain_table(title, lines, to_right)
        return
    # A bar shares the screen with the table, and only the bar's console knows how to get past it.
    console = console if _bars is None else _bars.console
    if title:
        console.print(Text(title, style="bold"))
    console.print(_boxed_table(lines, to_right))


class Progress:
    """How far a long piece of work is: a bar on a terminal, else a plain line once in a while."""

    def __init__(
        self, task: str, *, total: int, unit: str = "", done: int = 0, interval: float = 60.0
    ) -> None:
        """Describe the work; it starts where the `with` block does.

        Args:
            task: What is being done, such as `training`.
            total: Amount of work in all; 0 where there is none, or where nobody knows.
            unit: What is counted, in the plural.
            done: Amount that was done before, by an earlier run; the rate leaves it out.
            interval: Seconds between two plain lines.
        """
        self._task = task
        self._total = total
        self._unit = unit
        self._done = self._done_before = done
        self._interval = interval
        self._facts: dict[str, str] = {}
        self._started = self._last_line = 0.0
        self._bar: rich_progress.TaskID | None = None
        self._starts_bars = False

    def __enter__(self) -> "Progress":
        """Start the clock, and the bar where stderr is a terminal."""
        global _bars
        self._started = self._last_line = time.monotonic()
        console = _terminal(sys.stderr)
        if console is not None and _bars is None:
            _bars = _start_bars(console)
            self._starts_bars = True
        if _bars is not None:
            self._bar = _bars.add_task(
                _shown(self._task, sys.stderr), total=self._total, completed=self._done, work=self
            )
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the terminal as it was, and say how far the work came."""
        global _bars
        if _bars is None or self._bar is None:
            if time.monotonic() - self._started > self._interval:
                self._say_line(f"after {duration(time.monotonic() - self._started)}")
        elif self._starts_bars:
            bars, _bars = _bars, None
            with contextlib.suppress(OSError):
                bars.stop()
        else:
            _bars.remove_task(self._bar)

    def advance(self, amount: int = 1, **facts: str) -> None:
        """Count work as done; a fact, such as `loss="3.21"`, is shown until it is given anew."""
        self._done += amount
        self._facts = {**self._facts, **facts}  # a new one: the bar's thread may be reading the old
        if _bars is not None and self._bar is not None:
            _bars.update(self._bar, completed=self._done)
        elif time.monotonic() - self._last_line >= self._interval:
            self._say_line(self._time_left())

    def details(self) -> str:
        """The text beside the bar."""
        elapsed = timedelta(seconds=int(time.monotonic() - self._started))
        return _shown(self._summary(f"{elapsed}", self._time_left()), sys.stderr)

    def _say_line(self, *times: str) -> None:
        self._last_line = time.monotonic()
        say(f"{self._task}: {self._summary(*times)}".replace("\n", " "))

    def _summary(self, *times: str) -> str:
        count = f"{self._done:,} of {self._total:,}" if self._total else f"{self._done:,}"
        percent = f"{min(100, 100 * self._done // self._total)} %" if self._total else ""
        facts = [f"{_fact_name(name)} {value}" for name, value in self._facts.items()]
        parts = [f"{count} {self._unit}".rstrip(), percent, self._speed(), *times, *facts]
        return ", ".join(part for part in parts if part)

    def _rate(self) -> float:
        elapsed = time.monotonic() - self._started
        return (self._done - self._done_before) / elapsed if elapsed > 0 else 0.0

    def _speed(self) -> str:
        rate = self._rate()
        if rate <= 0:
            return ""
        seconds, period = (1, "s") if rate >= 1 else (60, "min") if rate >= 1 / 60 else (3600, "h")
        amount = rate * seconds
        number = f"{amount:,.0f}" if amount >= 10 else f"{amount:.1f}"
        return f"{number} {self._unit}".rstrip() + f"/{period}"

    def _time_left(self) -> str:
        remaining, rate = self._total - self._done, self._rate()
        return f"{duration(remaining / rate)} left" if remaining > 0 and rate > 0 else ""


class _Details(rich_progress.ProgressColumn):
    def render(self, task: rich_progress.Task) -> Text:
        return Text(task.fields["work"].details())


def _start_bars(console: Console) -> rich_progress.Progress:
    bars = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(bar_width=20),
        _Details(table_column=Column(overflow="fold")),
        console=console,
        refresh_per_second=4,
        redirect_stdout=False,  # rich would send results to stderr
    )
    bars.start()
    return bars


def _terminal(stream: _Stream) -> Console | None:
    """A console for the stream, where it is a terminal that can show boxes and may."""
    if _plain or _speaker or not stream.isatty():
        return None
    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _escaped(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cs") or character in _UNRULY:
        return character.encode("unicode_escape").decode("ascii")
    return character


def _shown(text: str, stream: _Stream) -> str:
    """The text as the stream can take it, known before it is laid out since it may get longer."""
    encoding = stream.encoding or "utf-8"
    return visible(text).encode(encoding, "backslashreplace").decode(encoding)


def _fact_name(name: str) -> str:
    return {"bleu": "BLEU", "chrf": "chrF"}.get(name, name.replace("_", " "))


def _is_numeric(cells: Sequence[str]) -> bool:
    values = [cell for cell in cells if cell not in _NO_VALUE]
    return bool(values) and all(_NUMBER.fullmatch(value) for value in values)


def _boxed_table(lines: Sequence[Sequence[str]], to_right: Sequence[bool]) -> Table:
    table = Table(box=box.ROUNDED)
    for name, right in zip(lines[0], to_right, strict=True):
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for cells in lines[1:]:
        table.add_row(*map(Text, cells))
    return table


def _print_plain_table(
    title: str, lines: Sequence[Sequence[str]], to_right: Sequence[bool]
) -> None:
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    if title:
        print(title)
    for cells in lines:
        padded = [
            " " * (width - cell_len(cell)) + cell if right else set_cell_size(cell, width)
            for cell, width, right in zip(cells, widths, to_right, strict=True)
        ]
        print("  ".join(padded).rstrip())
    sys.stdout.flush()  # so that a reader who is gone is noticed here


def duration(seconds: float) -> str:
    """Write a time as a person would: `90 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
