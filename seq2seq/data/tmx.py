"""Translation memories: TMX files, read unit by unit."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, iterparse

from seq2seq.config_mistakes import listed
from seq2seq.data.text_files import Pairs, open_file
from seq2seq.errors import DataError
from seq2seq.terminal import say

# What is in these is formatting of another program, not text (TMX 1.4b, section 5).
_CODES = ("bpt", "ept", "it", "ph", "ut")
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_MOST_NAMED = 20

Segments = dict[str, str]


def read_tmx(path: Path, languages: tuple[str, str]) -> Pairs:
    """Go through the units that have both languages; how many lack one is told at the end.

    Entities that grow without bound are refused by the parser (expat), and what lies outside of the
    file is never read.

    Args:
        path: the file, plain or packed.
        languages: codes of source and target. `en` is also what the file calls `EN-GB`; of several
            such segments of a unit the first one counts.

    Raises:
        DataError: it can't be read, isn't XML, or no unit has both languages.
    """
    seen: Counter[str] = Counter()
    pairs = units = 0
    for segments in _units(path):
        units += 1
        seen.update(segments.keys())
        source, target = (_segment(segments, language) for language in languages)
        if source is not None and target is not None:
            pairs += 1
            yield source, target
    wanted = f"'{languages[0]}' and '{languages[1]}'"
    if not pairs:
        known = [language for language, _ in seen.most_common(_MOST_NAMED)]
        raise DataError(
            f"{path} has no unit with both {wanted}; it has {listed(known, 'and') or 'no units'}:"
            " set the languages to those of the file"
        )
    if pairs < units:
        say(f"{path}: {units - pairs:,} of {units:,} units lack one of {wanted} and are left out")


def _units(path: Path) -> Iterator[Segments]:
    """Go through the units, each with its texts by language."""
    with open_file(path) as file:
        try:
            body = None
            for event, element in iterparse(file, events=("start", "end")):
                name = _name(element)
                if name == "body" and event == "start":
                    body = element
                elif name == "tu" and event == "end":
                    yield _segments(element)
                    if body is not None:
                        body.clear()  # or all that was read would stay in memory
        except ParseError as error:
            line, column = error.position
            reason = str(error).partition(": line ")[0]
            raise DataError(
                f"{path}, line {line}, character {column + 1} isn't XML that can be read: {reason}"
            ) from error


def _segments(unit: Element) -> Segments:
    found: Segments = {}
    for variant in unit:
        if _name(variant) == "tuv":
            language = variant.get(_LANGUAGE) or variant.get("lang") or ""
            for segment in variant:
                if _name(segment) == "seg":
                    found.setdefault(language, _text(segment))
    return found


def _text(segment: Element) -> str:
    for element in [*segment.iter()]:
        if _name(element) in _CODES:
            tail = element.tail
            element.clear()
            element.tail = tail
    return "".join(segment.itertext())


def _segment(segments: Segments, language: str) -> str | None:
    """Choose the text of a language; none where the unit has none."""
    wanted = _code(language)
    texts = (text for code, text in segments.items() if _code(code).startswith(wanted))
    return next(texts, None)


def _code(language: str) -> str:
    return language.replace("_", "-").lower() + "-"


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]
