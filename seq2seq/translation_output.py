"""Windows of lines, translated and written: as text or JSON lines, with what is to be said of them.

Text has one line for each line: the translation, or its score. Where several are asked for, it has
as many as there are, as Moses has them: `NUMBER ||| TEXT ||| SCORE`, counted from 0. An alignment
follows after ` ||| `, as pairs of source and target piece: `0-0 1-2`.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from seq2seq.terminal import say
from seq2seq.translation import Translation, Translator
from seq2seq.translation_input import Line, Window

_SEPARATOR = " ||| "
# JSON leaves them as they are, and other programs take them for line ends.
_BREAKS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x7f\x85\u2028\u2029"}


class Notes(NamedTuple):
    """What is to be said of lines, once all are translated."""

    lines: int = 0
    damaged: int = 0
    """How many had something that was no text."""
    first_damaged: int | None = None
    """Number of the first, counted from 1."""
    unmet: int = 0
    """How many translations lack something that was asked for."""
    first_unmet: int | None = None

    def with_more(self, more: "Notes") -> "Notes":
        """Add what is to be said of later lines."""
        return Notes(
            self.lines + more.lines,
            self.damaged + more.damaged,
            self.first_damaged or more.first_damaged,
            self.unmet + more.unmet,
            self.first_unmet or more.first_unmet,
        )

    def tell(self) -> None:
        """Say it."""
        if self.damaged:
            say(
                f"lines that were no UTF-8: {self.damaged}, the first of them line"
                f" {self.first_damaged}; what couldn't be read was taken for U+FFFD"
            )
        if self.unmet:
            say(
                f"translations that lack what was asked for: {self.unmet}, the first of them of"
                f" line {self.first_unmet}; --json marks them, with what they lack as `unmet`"
            )


class Form(NamedTuple):
    """What is written of a translation."""

    json: bool = False
    """Whether as JSON lines."""
    alignment: bool = False
    """Whether with the alignment."""
    nbest: bool = False
    """Whether with further hypotheses."""
    scored: bool = False
    """Whether scores are asked for, and no translations."""

    def written(self, number: int, line: Line, found: Sequence[Translation]) -> str:
        """Write what was found for a line, best first.

        Args:
            number: of the line, counted from 0.
            line: what was translated.
            found: one translation or more.
        """
        if self.json:
            record = self._record(line, found)
            return json.dumps(record, ensure_ascii=False).translate(_BREAKS) + "\n"
        if self.scored:
            return self._aligned(f"{found[0].score:.4f}", found[0])
        if not self.nbest:
            return self._aligned(found[0].text, found[0])
        texts = [
            self._aligned(_SEPARATOR.join((str(number), t.text, f"{t.score:.4f}")), t)
            for t in found
        ]
        return "".join(texts)

    def _aligned(self, text: str, translation: Translation) -> str:
        end = _SEPARATOR + _pharaoh(translation) if self.alignment else ""
        return f"{text}{end}\n"

    def _record(self, line: Line, found: Sequence[Translation]) -> dict[str, Any]:
        best = found[0]
        record = {"source": line.request.text, **self._facts(best)}
        if line.request.to is not None:
            record["to"] = line.request.to
        record["source_pieces"] = list(best.source_pieces)
        if self.nbest or len(line.targets) > 1:
            record["hypotheses"] = [self._facts(translation) for translation in found]
        if best.unmet:
            record["unmet"] = list(best.unmet)
        return record

    def _facts(self, translation: Translation) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "text": translation.text,
            "score": round(translation.score, 6),
            "log_probability": round(translation.log_probability, 6),
            "pieces": list(translation.pieces),
        }
        if self.alignment:
            facts["alignment"] = _pharaoh(translation)
            facts["attention"] = [[round(w, 4) for w in row] for row in translation.attention]
        return facts


def _pharaoh(translation: Translation) -> str:
    return " ".join(f"{source}-{target}" for source, target in translation.alignment)


class Writer:
    """Translates windows, or scores what they bring, and writes what comes of it."""

    def __init__(self, translator: Translator, form: Form):
        self._translator, self._form = translator, form

    def write(self, window: Window) -> tuple[bytes, Notes]:
        """Give what is written of a window, and what is to be said of it."""
        found = list(self._scored(window) if self._form.scored else self._translated(window))
        numbered = list(enumerate(zip(window.lines, found, strict=True), start=window.start))
        texts = [self._form.written(number, line, entry) for number, (line, entry) in numbered]
        damaged = [number + 1 for number, (line, _) in numbered if line.is_damaged]
        unmet = [number + 1 for number, (_, (best, *_)) in numbered if best.unmet]
        notes = Notes(
            len(texts),
            len(damaged),
            next(iter(damaged), None),
            len(unmet),
            next(iter(unmet), None),
        )
        return "".join(texts).encode(), notes

    def _translated(self, window: Window) -> Iterator[Sequence[Translation]]:
        for best in self._translator.translate([line.request for line in window.lines]):
            yield [best, *best.alternatives]

    def _scored(self, window: Window) -> Iterator[Sequence[Translation]]:
        pairs = [(line.request, line.targets) for line in window.lines]
        for line, found in zip(window.lines, self._translator.score(pairs), strict=True):
            given = [t._replace(text=text) for t, text in zip(found, line.targets, strict=True)]
            yield sorted(given, key=lambda translation: -translation.score)
