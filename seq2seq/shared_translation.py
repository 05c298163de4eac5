"""One output that any number of processes make, each started by the same command.

They needn't know of each other, nor run at the same time: they share a folder beside the output.
The input is cut into windows at fixed line numbers; a window is translated by itself, so who does
it changes nothing. A process goes through the input once and translates the windows that nobody has
finished or claimed. Whoever finds all finished puts them together.

    OUTPUT.json            what is translated, with what; how many lines, once it is done
    OUTPUT.parts/          finished windows and claims; gone once it is done
"""

import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from seq2seq.claims import LEASE, Claims
from seq2seq.config_file import by_key
from seq2seq.config_mistakes import flow
from seq2seq.errors import UserError
from seq2seq.files import clear_leftovers, create_whole, whole_file, write_whole
from seq2seq.parallel.place import Place
from seq2seq.terminal import Progress, say
from seq2seq.translation_input import Input, Window, windows
from seq2seq.translation_output import Notes, Writer

_FORMAT = 2
_REMEDY = "choose another --output, or replace it with --overwrite"


def work_together(output: "SharedOutput", load: Callable[[], Writer], place: Place) -> None:
    """Do what is to be done, until all of it is done or the rest is in others' hands.

    Of processes that the first one has started, the others leave the end to it.

    Args:
        output: what was begun.
        load: makes what translates; not called where nothing is left to translate.
        place: of this process.

    Raises:
        UserError: the input can't be read, or the output can't be written.
    """
    if output.is_done():
        say(f"{output.path} is translated already")
    else:
        with output.alone():
            _work_on(output, load(), place)
    output.clear()


def _work_on(output: "SharedOutput", writer: Writer, place: Place) -> None:
    was_started = place.launcher == "seq2seq"
    with output.progress() as progress:
        while True:
            state = output.translate(writer, progress)
            if was_started and not place.is_first:
                return
            lost, missing = output.wait_for(state.claimed, patiently=was_started)
            if not missing:
                break
            if not lost:
                say(
                    f"others are still at work on {output.path} (windows: {len(missing)}), and the"
                    " last one will put it together: this process is done"
                )
                return
    whole = output.merge(state)
    say(f"{output.path} is whole" if whole else f"another process puts {output.path} together")


class State(NamedTuple):
    """What a process has seen when it has gone through the input."""

    windows: int
    claimed: set[str]
    """The windows that were others' to translate."""


class SharedOutput:
    """What is there of an output that several processes make, and how it goes on."""

    def __init__(
        self,
        path: Path,
        source: Input,
        description: dict[str, Any],
        *,
        window: int,
        lease: float = LEASE,
    ):
        """Say what is to be made.

        Args:
            path: of the output.
            source: what is translated; if it is there only once, one process alone can do so.
            description: all that the output depends on beside these.
            window: lines that are translated together.
            lease: seconds without a sign of life after which another process counts as gone; all
                must give the same.
        """
        self.path = Path(os.path.realpath(path))  # a link stays, and what it leads to is written
        self._source, self._window, self._lease = source, window, lease
        content = source.content()
        self._can_be_shared = content is not None
        whole = {
            "format": _FORMAT,
            "input": {"name": source.name, "digest": content},
            **description,
            "window": window,
            "lines": None,
        }
        self._description = json.loads(json.dumps(whole))  # as it is read again
        self._manifest = self.path.with_name(f"{self.path.name}.json")
        self._parts = self.path.with_name(f"{self.path.name}.parts")
        self._claims = Claims(self._parts, lease=lease)
        self._known = set[str]()  # windows that were finished before

    def begin(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Write down what is to be made, or make sure that it is what was begun.

        Args:
            resume: whether an input that is there only once goes on where it was.
            overwrite: whether anything else that is there is to be replaced.

        Raises:
            UserError: it is something else, or nobody knows what.
        """
        problem = self._problem(resume=resume)
        if problem and not overwrite:
            raise UserError(problem)
        if problem:
            self._replace()
        elif not self._manifest.exists():
            create_whole(self._manifest, _as_json(self._description))
        if problem := self._problem(resume=True):  # of a process that came first
            raise UserError(problem)
        self._known = {path.name for path in self._parts.glob("[0-9]*") if path.name.isdigit()}

    def _problem(self, *, resume: bool) -> str:
        """Say why this can't be begun, and nothing can be gone on with; nothing where it can."""
        # Looked at before the manifest, which is there before them.
        unexplained = [path for path in (self.path, self._parts) if path.exists()]
        found = self._read_manifest()
        if found is None and unexplained:
            return (
                f"{unexplained[0]} is there, but no {self._manifest.name} that says what it is"
                f" made of: {_REMEDY}"
            )
        if found is None:
            return ""
        if differing := [_difference(*entry) for entry in _differences(found, self._description)]:
            return (
                f"{self.path} is being made, or was made, of something else"
                f" ({'; '.join(differing)}): {_REMEDY}"
            )
        if self._can_be_shared or resume:
            return ""
        return (
            f"{self.path} was begun, and nobody can tell whether of this {self._source.name}:"
            " --resume goes on after what is whole, --overwrite starts anew"
        )

    def _replace(self) -> None:
        """Start anew; the old output stays until the new one is whole."""
        place = Claims(self.path.parent, lease=self._lease)
        with place.take_over(f"{self.path.name}.begin") as is_ours:
            if is_ours and self._problem(resume=False):
                names = [path.stem for path in self._parts.glob("*.claim")]
                if set(names) - self._claims.wait(names):
                    raise UserError(f"others are still at work on {self.path}: end them first")
                shutil.rmtree(self._parts, ignore_errors=True)
                write_whole(self._manifest, _as_json(self._description))

    @contextmanager
    def alone(self) -> Generator[None]:
        """Make sure that no other process has an input that is there only once.

        Raises:
            UserError: another process is at work.
        """
        if self._can_be_shared:
            yield
            return
        with self._claims.take_over("alone") as is_ours:
            if not is_ours:
                raise UserError(f"another process is at work on {self.path}: wait for its end")
            yield

    def is_done(self) -> bool:
        """Whether the output is whole."""
        return (self._read_manifest() or {}).get("lines") is not None and self.path.exists()

    def progress(self) -> Progress:
        """Make a bar that counts what all processes have done, and do now."""
        total, done = self._source.count(), len(self._known) * self._window
        return Progress("translating", total=total, unit="lines", done=min(done, total or done))

    def translate(self, writer: Writer, progress: Progress) -> State:
        """Go through the input, and translate each window that is neither finished nor claimed.

        Raises:
            UserError: the input can't be read, or nothing can be written.
        """
        count, claimed = 0, set[str]()
        # What is there only once can't be come back to, and nobody else is at work on it.
        take = self._claims.take if self._can_be_shared else self._claims.take_over
        for window in windows(self._source.lines(), self._window):
            part = self._part(count)
            if part.exists():
                self._check_length(part, window)
            else:
                with take(part.name) as is_ours:
                    if is_ours and self.is_done():  # it was here, and is in the output now
                        break
                    if not is_ours:
                        claimed.add(part.name)
                    elif not part.exists():
                        content, notes = writer.write(window)
                        write_whole(part, _as_line(notes) + content, check=self._check_description)
            count += 1
            if part.name not in self._known:
                self._known.add(part.name)
                progress.advance(len(window.lines))
        return State(count, claimed)

    def _check_length(self, part: Path, window: Window) -> None:
        """Notice an input that is there only once and has changed its length."""
        if self._can_be_shared:
            return
        with part.open("rb") as file:
            lines = _read_notes(file).lines
        if lines != len(window.lines):
            raise UserError(
                f"{lines} lines from line {window.start + 1} on were translated before, but now"
                f" {self._source.name} has {len(window.lines)} there: it is another one, so choose"
                " another --output, or start anew with --overwrite"
            )

    def _check_description(self) -> None:
        if list(_differences(self._read_manifest() or {}, self._description)):
            raise UserError(f"{self.path} has come to be made of something else: this process ends")

    def wait_for(self, names: Iterable[str], *, patiently: bool) -> tuple[set[str], set[str]]:
        """Wait for windows that others have, until each owner has shown a sign of life.

        Args:
            names: of the windows.
            patiently: wait until they are finished.

        Returns:
            Those that nobody has any more, and all that aren't finished, these among them.
        """
        lost, missing = set[str](), self._missing(names)
        if missing:
            say(f"watching for a sign of life of those who have claimed windows: {len(missing)}")
        while missing and not lost:
            lost = self._missing(self._claims.wait(missing))
            missing = self._missing(missing)
            if not patiently:
                break
        return lost, missing

    def _missing(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if not (self._parts / name).exists()}

    def merge(self, state: State) -> bool:
        """Put all windows together in the output; say whether no other process is still at it.

        Raises:
            UserError: the output can't be written, or the input is shorter than before.
        """
        with self._claims.take_over("merge") as is_ours:
            if is_ours and not self.is_done():
                self._merge(state)
        return is_ours

    def _merge(self, state: State) -> None:
        if self._part(state.windows).exists():
            raise UserError(
                f"{self._source.name} is shorter than what was translated before: it is another"
                " one, so choose another --output, or start anew with --overwrite"
            )
        clear_leftovers(self.path.parent, self.path.name)
        notes = Notes()
        with whole_file(self.path, check=self._check_description) as file:
            for number in range(state.windows):
                with self._part(number).open("rb") as part:
                    notes = notes.with_more(_read_notes(part))
                    shutil.copyfileobj(part, file)
        write_whole(self._manifest, _as_json(self._description | {"lines": notes.lines}))
        notes.tell()

    def clear(self) -> None:
        """Remove the windows, once the output is whole."""
        if self.is_done():
            shutil.rmtree(self._parts, ignore_errors=True)

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:09}"

    def _read_manifest(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._manifest.read_bytes())
        except (FileNotFoundError, NotADirectoryError):  # writing finds the second
            return None
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._manifest} can't be read, or doesn't say what {self.path.name} is made"
                " of: choose another --output"
            ) from error
        return found if isinstance(found, dict) else {}


def _differences(
    found: dict[str, Any], wanted: dict[str, Any]
) -> Iterator[tuple[str, object, object]]:
    old, new = by_key(found | {"lines": None}), by_key(wanted)
    for key in old | new:
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _difference(key: str, old: Any, new: Any) -> str:
    name = key.removesuffix(".digest")  # which nobody can read
    return f"other content of the {name}" if name != key else f"{key}: {flow(old)}, not {flow(new)}"


def _as_json(description: dict[str, Any]) -> bytes:
    return (json.dumps(description, indent=1, ensure_ascii=False) + "\n").encode()


def _as_line(notes: Notes) -> bytes:
    """Write what a window's file begins with."""
    return f"{json.dumps(notes)}\n".encode()


def _read_notes(part: BinaryIO) -> Notes:
    return Notes(*json.loads(part.readline()))
