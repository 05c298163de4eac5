"""One file translated by any number of processes, each started by the same command.

They needn't know of each other, nor run at the same time: they share a folder beside the output.
The input is cut at fixed line numbers into parts of a few windows; a window is translated by
itself, so who translates it changes nothing. A process goes through the input once and translates
the parts that nobody has finished or claimed. Whoever finds all finished puts them together.

    OUTPUT.json            what is translated, with what; how many lines, once it is done
    OUTPUT.parts/          finished parts and claims; gone once it is done
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seq2seq import __version__
from seq2seq.claims import LEASE, Claims
from seq2seq.config import SearchConfig
from seq2seq.config_file import by_key
from seq2seq.config_mistakes import flow
from seq2seq.data.text_files import PACKED, ending, read_lines
from seq2seq.errors import DataError, UserError
from seq2seq.files import clear_leftovers, create_whole, digest, whole_file, write_whole
from seq2seq.model_description import ModelDescription
from seq2seq.model_folder import WEIGHTS
from seq2seq.terminal import Progress, say
from seq2seq.translation import WINDOW, Translator, search_settings, translated_text

_FORMAT = 1
_WINDOWS = 8  # in a part, which is what a process that is killed loses at most
_MERGE = "merge"


def translate_file(
    model: Path,
    source: Path,
    output: Path,
    *,
    device: torch.device | str = "cpu",
    beam: int | None = None,
    window: int = WINDOW,
    lease: float = LEASE,
) -> None:
    """Translate a file together with all processes that are given the same.

    Args:
        model: model folder.
        source: the text, packed or not.
        output: place of the translations.
        device: that this process translates on.
        beam: replaces the size that the model was trained with.
        window: lines that are translated together.
        lease: seconds without a sign of life after which another process counts as gone; all must
            give the same.

    Raises:
        UserError: another translation is there, or a file can't be read or written.
    """
    output = Path(os.path.realpath(output))  # a link stays, and what it leads to is written
    if ending(output) in PACKED:
        raise UserError(
            f"the output is plain text, but {output} is the name of a packed file: leave"
            f" {ending(output)} away"
        )
    overrides = [f"search.beam={beam}"] if beam else []
    settings = search_settings(ModelDescription.load(model).config, overrides)
    work = _Work(source, output, window, lease)
    work.begin(_describe(model, source, settings, window))
    if work.is_done():
        say(f"{output} is already translated")
    else:
        _work_on(work, Translator.load(model, overrides=overrides, device=device))
    work.clear()


def _work_on(work: "_Work", translator: Translator) -> None:
    """Do what is to be done, until all of it is done or the rest is in others' hands."""
    with Progress("translating", total=0, unit="lines") as progress:
        while True:
            state = work.translate(translator, progress)
            if state.claimed:
                number = len(state.claimed)
                say(f"watching for a sign of life of those who have claimed parts: {number}")
            ended = work.claims.wait(state.claimed)
            missing = work.missing(state.claimed)
            if not missing:
                break
            if not missing & ended:
                say(
                    f"others are still at work on {work.output} (parts: {len(missing)}), and the"
                    " last one will put it together: this process is done"
                )
                return
    whole = work.merge(state)
    say(f"{work.output} is whole" if whole else f"another process puts {work.output} together")


class _State(NamedTuple):
    """What a process has seen when it has gone through the input."""

    parts: int
    lines: int
    claimed: set[str]
    """The parts that were others' to translate."""


class _Work:
    """What is there of a translation that several processes make, and how it goes on."""

    def __init__(self, source: Path, output: Path, window: int, lease: float):
        self.output = output
        self._source, self._window = source, window
        self._manifest = output.with_name(f"{output.name}.json")
        self._parts = output.with_name(f"{output.name}.parts")
        self.claims = Claims(self._parts, lease=lease)

    def begin(self, description: dict[str, Any]) -> None:
        """Write down what is to be made, or make sure that it is what others have begun.

        Raises:
            UserError: it is something else, or nobody knows what.
        """
        # Looked at before the manifest, which is there before them.
        unexplained = [path for path in (self.output, self._parts) if path.exists()]
        if self._read_manifest() is None:
            if unexplained:
                raise UserError(
                    f"{unexplained[0]} is there, but no {self._manifest.name} that says what it is"
                    " made of: choose another --output, or move it away"
                )
            create_whole(self._manifest, _as_json(description))
        found = self._read_manifest() or {}
        differing = [_difference(*entry) for entry in _differences(found, description)]
        if differing:
            raise UserError(
                f"{self.output} is being made, or was made, of something else"
                f" ({'; '.join(differing)}): choose another --output, or delete"
                f" {self._manifest.name} and {self._parts.name}"
                f"{f' and {self.output.name}' if self.output.exists() else ''} to start anew"
            )

    def is_done(self) -> bool:
        """Whether the output is whole."""
        return (self._read_manifest() or {}).get("lines") is not None and self.output.exists()

    def translate(self, translator: Translator, progress: Progress) -> _State:
        """Go through the input, and translate each part that is neither finished nor claimed.

        Raises:
            UserError: the input can't be read, or nothing can be written.
        """
        count, seen, claimed = 0, 0, set[str]()
        for lines in self._cut():
            part = self._part(count)
            count, seen = count + 1, seen + len(lines)
            if part.exists():
                continue
            with self.claims.take(part.name) as is_ours:
                if not is_ours:
                    claimed.add(part.name)
                elif self.is_done():  # the parts were here, and are in the output now
                    break
                elif not part.exists():
                    write_whole(part, self._translated(lines, translator, progress))
        return _State(count, seen, claimed)

    def missing(self, parts: Iterable[str]) -> set[str]:
        """Give those parts that aren't finished."""
        return {name for name in parts if not (self._parts / name).exists()}

    def merge(self, state: _State) -> bool:
        """Put all parts together in the output; say whether no other process is still at it.

        Raises:
            UserError: the output can't be written.
        """
        while True:
            with self.claims.take(_MERGE) as is_ours:
                if is_ours:
                    self._merge(state)
                    return True
            if not self.claims.wait([_MERGE]):
                return False

    def _merge(self, state: _State) -> None:
        if self.is_done():
            return
        clear_leftovers(self.output.parent, self.output.name)
        with whole_file(self.output) as file:
            for number in range(state.parts):
                with self._part(number).open("rb") as part:
                    shutil.copyfileobj(part, file)
        description = (self._read_manifest() or {}) | {"lines": state.lines}
        write_whole(self._manifest, _as_json(description))

    def clear(self) -> None:
        """Remove the parts, once the output is whole."""
        if self.is_done():
            shutil.rmtree(self._parts, ignore_errors=True)

    def _cut(self) -> Iterator[list[str]]:
        lines = read_lines(self._source)
        while part := list(islice(lines, self._window * _WINDOWS)):
            yield part

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:09}"

    def _translated(self, lines: list[str], translator: Translator, progress: Progress) -> bytes:
        texts: list[bytes] = []
        for start in range(0, len(lines), self._window):
            window = lines[start : start + self._window]
            texts.append(translated_text(translator, window))
            progress.advance(len(window))
        return b"".join(texts)

    def _read_manifest(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._manifest.read_bytes())
        except (FileNotFoundError, NotADirectoryError):  # writing finds the second
            return None
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self._manifest} can't be read, or doesn't say what {self.output.name} is made"
                " of: choose another --output"
            ) from error
        return found if isinstance(found, dict) else {}


def _describe(model: Path, source: Path, settings: SearchConfig, window: int) -> dict[str, Any]:
    """Say what a translation depends on.

    Raises:
        DataError: the input is no file, or can't be read.
    """
    if source.exists() and not source.is_file():
        raise DataError(f"{source} must be a file, since it may be read more than once")
    try:
        text = {"name": source.name, "bytes": source.stat().st_size, "digest": digest(source)}
    except OSError as error:
        raise DataError(f"{source} can't be read: {error.strerror}") from error
    return {
        "format": _FORMAT,
        "version": __version__,
        "input": text,
        "model": {"digest": _model_digest(model)},
        "search": settings.model_dump(mode="json"),
        "window": window,
        "lines": None,
    }


def _model_digest(folder: Path) -> str:
    """Digest the weights and the vocabularies."""
    files = sorted([folder / WEIGHTS, *folder.glob("*.model")])
    return hashlib.sha256("\n".join(f"{f.name} {digest(f)}" for f in files).encode()).hexdigest()


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
