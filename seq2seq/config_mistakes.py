"""Words for mistakes in a config: what a setting must be, what is there, what was perhaps meant."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from seq2seq.config import Length, Section
from seq2seq.errors import ConfigError

Plain: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

WHOLE_FILE = 0
COMMAND_LINE = 10**9

_TYPES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    Length: "a length > 0 such as 500 (steps), 2 epochs, 1e6 tokens or 10% (of the run)",
    NoneType: "null",
}
_COUNTS = {1: "one", 2: "two", 3: "three"}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_LEAST = {"min_length": "at least"}
_LONGEST_VALUE = 80


class Mistake(NamedTuple):
    """One mistake: where it is (a line, `WHOLE_FILE` or `COMMAND_LINE`), of what key, and what."""

    line: int
    key: str
    text: str


def as_error(mistakes: Sequence[Mistake], name: str) -> ConfigError:
    """Put the mistakes into one error, in the order of the file, the command line's last."""
    lines = [_written(mistake, name) for mistake in sorted(mistakes, key=lambda m: m.line)]
    if len(lines) == 1:
        return ConfigError(lines[0])
    return ConfigError("\n".join([f"{len(lines)} mistakes in {name}:", *lines]))


def _written(mistake: Mistake, name: str) -> str:
    places = {WHOLE_FILE: name, COMMAND_LINE: "command line"}
    place = places.get(mistake.line, f"{name}:{mistake.line}")
    return ": ".join(part for part in (place, mistake.key, mistake.text) if part)


def forms_of(annotation: Any) -> list[type[Section]]:
    """Return the sections that a field can hold: none for a value, several for a union."""
    if get_origin(annotation) in (Union, UnionType):
        return [form for part in get_args(annotation) for form in forms_of(part)]
    is_section = isinstance(annotation, type) and issubclass(annotation, Section)
    return [annotation] if is_section else []


def entries_of(annotation: Any) -> type[Section] | None:
    """Return the section that each entry of a field is, if it holds sections by name."""
    return forms_of(get_args(annotation)[1])[0] if get_origin(annotation) is dict else None


def takes_none(field: FieldInfo) -> bool:
    """Say whether a field can be none."""
    return NoneType in get_args(field.annotation)


def kind_of(form: type[Section]) -> str:
    """Return the `kind` by which a union's form is told from the others."""
    return get_args(form.model_fields["kind"].annotation)[0]


def rule(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say what a value must be, such as "a whole number ≥ 1 or null"."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return rule(parts[0], parts[1:])
    if origin in (Union, UnionType):
        rules = [rule(part) for part in parts]
        return (", or " if any("," in rule for rule in rules) else " or ").join(rules)
    if origin is Literal:
        return listed([repr(part) for part in parts], "or")
    if origin is dict:
        return "a section of sections"
    if origin is tuple:
        count = f" of {_COUNTS.get(len(parts), len(parts))}"
        if Ellipsis in parts:
            count = " of at least one" if any(_bounds(metadata, _LEAST)) else ""
        return f"a list{count}, each {rule(parts[0])}"
    return " ".join([_TYPES[annotation], " and ".join(_bounds(metadata))]).rstrip()


def _bounds(metadata: Sequence[Any], signs: Mapping[str, str] = _SIGNS) -> Iterator[str]:
    for part in metadata:
        if isinstance(part, FieldInfo):
            yield from _bounds(part.metadata, signs)
        for name, sign in signs.items():
            if (bound := getattr(part, name, None)) is not None:
                yield f"{sign} {bound:.12g}"


def bad_value(field: FieldInfo, value: Plain) -> str:
    """Say what the field must be and what is there instead."""
    must = rule(field.annotation, field.metadata)
    return f"must be {must}, but is {shown(value)}{_hint(value, must)}"


def shown(value: Plain) -> str:
    """Show a value the way it could be written, cut where it is long."""
    if isinstance(value, dict):
        return f"a section with {listed(list(value), 'and') or 'nothing in it'}"
    if isinstance(value, str) and not re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", value, re.I):
        text = repr(value)
    else:
        text = flow(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def flow(value: Plain) -> str:
    """Write a value on one line, as YAML does: `null`, `[a, b]`, `{key: value}`."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(flow, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {flow(part)}' for key, part in value.items())}}}"
        case _:
            return str(value)


def _hint(value: Plain, must: str) -> str:
    """Say how to write a number that has a comma between its thousands or as its decimal sign."""
    if not isinstance(value, str):
        return ""
    if "whole number" in must and re.fullmatch(r"\d{1,3}(,\d{3})+", value):
        return f"; write {value.replace(',', '')}"
    if "number" in must and re.fullmatch(r"[-+]?\d+,\d+(e[-+]?\d+)?", value, re.I):
        return f"; write {value.replace(',', '.')}"
    return ""


def listed(words: Sequence[str], conjunction: str) -> str:
    """Join words as a sentence does: "a, b or c"."""
    *first, last = words or [""]
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def unknown_key(section: str, name: str, form: type[Section], root: type[Section]) -> str:
    """Say that a section of this form has no such key, and what was perhaps meant."""
    if "." in name:
        return "write the section on a line of its own, and its keys indented below it"
    key = f"{section}.{name}" if section else name
    known = [(_entered(other, key), where) for other, where in known_keys(root)]
    if kinds := {repr(kind_of(where)): None for other, where in known if other == key}:
        return f"belongs to kind {listed(list(kinds), 'or')}, but the kind is {kind_of(form)!r}"
    if meant := _meant(key, [other for other, _ in known if other]):
        return f"unknown key; did you mean {listed(list(map(repr, meant)), 'or')}?"
    return f"unknown key; {section or 'a config'} has {listed(list(form.model_fields), 'and')}"


def _entered(known: str, key: str) -> str:
    """Put the name of the entry that a key is of in the place of `*`; nothing if it is of none."""
    section, star, name = known.partition(".*.")
    if not star:
        return known
    entry = key.removeprefix(f"{section}.").partition(".")[0]
    return f"{section}.{entry}.{name}" if key.startswith(f"{section}.{entry}.") else ""


def _meant(key: str, known: Sequence[str]) -> list[str]:
    """Look for the same name elsewhere, a like name here, a like name anywhere: in this order."""
    section, name = _split(key)
    same = [other for other in known if _split(other)[1] == name]
    here = [other for other in known if _split(other)[0] == section]
    return (
        _like(key, {other: other for other in same}, 0.0)
        or _like(name, {other: _split(other)[1] for other in here}, 0.6)
        or _like(name, {other: _split(other)[1] for other in known}, 0.75)
    )


def _like(word: str, candidates: Mapping[str, str], least: float) -> list[str]:
    """Return the most similar candidate, or two that are nearly as similar."""
    ratios = {
        key: difflib.SequenceMatcher(None, word, candidate).ratio()
        for key, candidate in candidates.items()
    }
    best = sorted(ratios, key=lambda key: -ratios[key])[:2]
    return [key for key in best if ratios[key] >= max(least, ratios[best[0]] - 0.05)]


def _split(key: str) -> tuple[str, str]:
    section, _, name = key.rpartition(".")
    return section, name


def known_keys(form: type[Section], section: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Yield every key as `section.key`, with the section that has it; all forms of unions too.

    The name of an entry, where a field holds sections by name, is `*`.
    """
    for name, field in form.model_fields.items():
        yield section + name, form
        for inner in forms_of(field.annotation):
            yield from known_keys(inner, f"{section}{name}.")
        if entry := entries_of(field.annotation):
            yield from known_keys(entry, f"{section}{name}.*.")
