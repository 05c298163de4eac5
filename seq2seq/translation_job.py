"""`seq2seq translate`: from an input to standard output, or to a file that processes share."""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seq2seq import __version__
from seq2seq.claims import LEASE
from seq2seq.config import SearchConfig
from seq2seq.config_file import search_settings
from seq2seq.data.text_files import PACKED, ending
from seq2seq.errors import ModelError, UserError
from seq2seq.files import digest
from seq2seq.model_description import ModelDescription
from seq2seq.model_folder import WEIGHTS
from seq2seq.parallel.launcher import launched
from seq2seq.parallel.place import Place
from seq2seq.shared_translation import SharedOutput, work_together
from seq2seq.terminal import Progress
from seq2seq.translation import WINDOW, Request, Translator
from seq2seq.translation_input import JSON, Input, Reading, open_input, windows
from seq2seq.translation_output import Form, Notes, Writer
from seq2seq.vocabulary import Vocabularies, target_tag


class Job(NamedTuple):
    """What is to be translated, with what, and where to."""

    model: Path
    source: str | None = None
    """As in `open_input`."""
    output: Path | None = None
    """A file that any number of processes make; none: standard output."""
    overrides: Sequence[str] = ()
    """As in `search_settings`."""
    ensemble: Sequence[Path] = ()
    """Further models that translate together with the first."""
    column: str | None = None
    """As in `Reading`."""
    has_json: bool = False
    """Whether standard input has JSON lines."""
    json: bool = False
    """Whether JSON lines are written; they are, too, where the output's name says so."""
    alignment: bool = False
    """Whether alignments are written."""
    score: bool = False
    """Whether translations that the input brings are scored."""
    common: Request = Request("")
    """What all translations are to heed."""
    window: int | None = None
    """Lines that are translated together; none: 1024, or 1 where a person types them."""
    resume: bool = False
    """As in `SharedOutput.begin`."""
    overwrite: bool = False
    """As in `SharedOutput.begin`."""


def run(job: Job, place: Place, device: torch.device, *, lease: float = LEASE) -> None:
    """Translate.

    Args:
        job: what is to be done.
        place: of this process. Others that it is to start are started where there is work.
        device: that this process translates on.
        lease: as in `SharedOutput`.

    Raises:
        UserError: the job contradicts itself, or something can't be read or written.
    """
    for mistake in _mistakes(job, place):
        raise UserError(mistake)
    _keep_memory_small()
    config = ModelDescription.load(job.model).config
    settings = search_settings(config, job.overrides, name=str(job.model))
    target_tag(Vocabularies.load(job.model).source, job.common.to, config.data.default_target)
    languages = (config.data.source, job.common.to or config.data.target)
    reading = Reading(languages, job.column, job.score, job.common)
    source = open_input(job.source, reading, has_json=job.has_json)
    form = Form(
        json=job.json or (job.output is not None and ending(job.output) in JSON),
        alignment=job.alignment,
        nbest=settings.nbest > 1,
        scored=job.score,
    )

    def load() -> Writer:
        translator = Translator.load(
            job.model,
            overrides=job.overrides,
            ensemble=job.ensemble,
            device=device,
            alignments=job.alignment,
        )
        return Writer(translator, form)

    if job.output is None:
        _to_standard_output(source, load(), job)
        return
    to = job.common.to or config.data.default_target
    description = _describe(job, settings) | {"to": to, "form": form._asdict()}
    window = job.window or WINDOW
    output = SharedOutput(job.output, source, description, window=window, lease=lease)
    output.begin(resume=job.resume, overwrite=job.overwrite)
    with nullcontext(place) if output.is_done() else launched(place) as place:
        work_together(output, load, place)


def _keep_memory_small() -> None:
    """Let oneDNN keep less of what it compiles for each shape of a batch.

    It would keep 1024, which saves next to nothing, and memory would grow as long as new ones come.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def _mistakes(job: Job, place: Place) -> Iterator[str]:
    """Name options that contradict each other."""
    if job.output is None:
        if job.resume or job.overwrite:
            yield f"{'--resume' if job.resume else '--overwrite'} has no effect without --output"
    else:
        yield from _mistakes_of_output(job.output, job.source)
    if job.resume and job.overwrite:
        yield "--resume and --overwrite contradict each other: what is there is kept, or replaced"
    is_started = place.world_size > 1 and place.launcher in ("", "seq2seq")
    if is_started and (job.source is None or job.output is None or not _lasts(job.source)):
        yield "--devices needs --output and, as --input, a file that can be read more than once"
    if job.score and job.common._replace(to=None) != Request(""):
        yield "--prefix, --require and --avoid have no effect on translations that are scored"
    if not all(word.strip() for word in (*job.common.require, *job.common.avoid)):
        yield "--require and --avoid need words, but one is blank"


def _lasts(source: str) -> bool:
    """Say whether an input can be read more than once, if it can be read."""
    return not os.path.exists(source) or os.path.isfile(source)


def _mistakes_of_output(output: Path, source: str | None) -> Iterator[str]:
    if ending(output) in PACKED:
        yield (
            f"the output is plain text, but {output} is the name of a packed file: leave"
            f" {ending(output)} away"
        )
    if output.exists() and not output.is_file():
        yield f"{output} can't be written: it is no plain file"
    if source is not None and os.path.realpath(source) == os.path.realpath(output):
        yield f"{output} is the input: choose another --output"


def _describe(job: Job, settings: SearchConfig) -> dict[str, Any]:
    """Say what a translation depends on, beside its input."""
    first, *others = [
        _model_digest(folder, has_shortlist=settings.shortlist)
        for folder in (job.model, *job.ensemble)
    ]
    return {
        "version": __version__,
        "model": first,
        "ensemble": {str(number): other for number, other in enumerate(others, start=2)},
        "search": settings.model_dump(mode="json"),
        "column": job.column,
        "prefix": job.common.prefix,
        "require": job.common.require,
        "avoid": job.common.avoid,
    }


def _model_digest(folder: Path, *, has_shortlist: bool) -> dict[str, str]:
    """Digest the weights, the vocabularies and, if it is used, the shortlist."""
    files = [folder / WEIGHTS, *folder.glob("*.model")]
    files += folder.glob("shortlist.*") if has_shortlist else []
    try:
        text = "\n".join(f"{file.name} {digest(file)}" for file in sorted(files))
    except OSError as error:
        raise ModelError(f"the model {folder} can't be read: {error.strerror}") from error
    return {"digest": hashlib.sha256(text.encode()).hexdigest()}


def _to_standard_output(source: Input, writer: Writer, job: Job) -> None:
    types = job.source is None and sys.stdin.isatty()
    window = job.window or (1 if types else WINDOW)  # a person typing wants each answer at once
    # No bar between lines that a person types or reads.
    watched = types or sys.stdout.isatty()
    total = 0 if watched else source.count()
    notes = Notes()
    bar = nullcontext() if watched else Progress("translating", total=total, unit="lines")
    with bar as progress:
        for chosen in windows(source.lines(), window):
            content, more = writer.write(chosen)
            _write(content)
            notes = notes.with_more(more)
            if progress is not None:
                progress.advance(len(chosen.lines))
    notes.tell()


def _write(content: bytes) -> None:
    """Write to standard output.

    Raises:
        UserError: it is full.
        BrokenPipeError: its reader is gone.
    """
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:  # where Python, when it ends, tries again
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise UserError(f"standard output can't be written: {error.strerror}") from error
