"""YAML text and `section.key=value` as a tree of what was written and in which line.

Every scalar stays the text it is; only `null`, `~` and nothing, unquoted, become none.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import yaml

from seq2seq.config_mistakes import COMMAND_LINE, WHOLE_FILE, Mistake, Plain

_NULL = "tag:yaml.org,2002:null"
_NULL_WORDS = ("", "~", "null", "Null", "NULL")
_EXTRA = "is YAML for {}, and those aren't read; text needs quotes"
_OPENED = (
    "while parsing a flow mapping",
    "while parsing a flow sequence",
    "while scanning a quoted",
)
_PLAIN_WORDS = [
    (r"mapping values are not allowed", "a `: ` too many; put text that holds one in quotes"),
    (r"found character '\\t'", "a tab; indent with spaces"),
    (r"expected <block end>", "the indentation doesn't fit the lines above"),
    (r"could not find expected ':'", "neither `key: value` nor part of a quoted text"),
    (r"expected alphabetic or numeric", "text that begins with `*` or `&` needs quotes"),
    (r"another document", "a second document (`---`)"),
    (r"expected ',' or '([]}])'", r"no `\1` where one is needed"),
    (r"end of stream|<stream end>", "the text ends too early"),
]


class Given(NamedTuple):
    """A value as it was written, and its line; a section holds others by name."""

    value: "str | list[Plain] | dict[str, Given] | None"
    line: int

    def at(self, path: Sequence[str]) -> "Given | None":
        """Return what was given for a key."""
        found = self
        for name in path:
            if not isinstance(found.value, dict) or name not in found.value:
                return None
            found = found.value[name]
        return found

    def plain(self) -> Plain:
        """Return the values without their lines."""
        if isinstance(self.value, dict):
            return {name: given.plain() for name, given in self.value.items()}
        return self.value


def as_given(value: Any, line: int) -> Given:
    """Take plain values for values that were written in one line."""
    if isinstance(value, dict):
        return Given({name: as_given(part, line) for name, part in value.items()}, line)
    return Given(value, line)


class _UnreadableError(Exception):
    """Text that isn't YAML, or not of our kind."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def read_text(text: str, mistakes: list[Mistake]) -> Given | None:
    """Read a whole file, or return none where there is nothing to go on with."""
    try:
        node = _compose(text, mistakes)
    except _UnreadableError as error:
        mistakes.append(Mistake(error.line, "", str(error)))
        return None
    if isinstance(node, yaml.MappingNode):
        return _take(node, "", 1, mistakes)
    problem = (
        "must hold sections such as `training:`, but holds something else"
        if node
        else "is empty; `{}` stands for all defaults"
    )
    mistakes.append(Mistake(WHOLE_FILE, "", problem))
    return None


def read_overrides(overrides: Sequence[str], mistakes: list[Mistake]) -> Given:
    """Read the command line's `section.key=value`; what is given twice is a mistake."""
    together = Given({}, COMMAND_LINE)
    for override in overrides:
        key, equals, text = (part.strip() for part in override.partition("="))
        if not equals or not all(key.split(".")):
            problem = f"must be section.key=value, such as training.steps=1000, but is {override!r}"
            mistakes.append(Mistake(COMMAND_LINE, "", problem))
            continue
        given = _read_value(text, key, mistakes)
        if given is None:
            continue
        for name in reversed(key.split(".")):
            given = Given({name: given}, COMMAND_LINE)
        together = _join(together, given, "", mistakes)
    return together


def _compose(text: str, mistakes: list[Mistake]) -> yaml.Node | None:
    try:
        _refuse_extras(text, mistakes)
        return yaml.SafeLoader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _UnreadableError(mark.line + 1 if mark else WHOLE_FILE, _problem(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _UnreadableError(line, f"isn't YAML: the character U+{error.character:04X}") from None
    except RecursionError:
        raise _UnreadableError(WHOLE_FILE, "is nested too deeply") from None


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it can't be parsed"
    for pattern, words in _PLAIN_WORDS:
        if match := re.search(pattern, problem):
            problem = match.expand(words)
            break
    start, end = error.context_mark, error.problem_mark
    if start and end and start.line < end.line and (error.context or "").startswith(_OPENED):
        problem += f" (opened in line {start.line + 1})"
    return f"isn't YAML: {problem}"


def _refuse_extras(text: str, mistakes: list[Mistake]) -> None:
    """Report anchors and tags; stop at an alias, which may hold itself."""
    for event in cast(Iterator[Any], yaml.parse(text, yaml.SafeLoader)):
        line = event.start_mark.line + 1
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            raise _UnreadableError(line, f"`*{anchor}` {_EXTRA.format('an alias')}")
        if anchor:
            mistakes.append(Mistake(line, "", f"`&{anchor}` {_EXTRA.format('an anchor')}"))
        if tag:
            tag = tag.replace("tag:yaml.org,2002:", "!!")
            mistakes.append(Mistake(line, "", f"`{tag}` {_EXTRA.format('a tag')}"))


def _take(node: yaml.Node, key: str, line: int, mistakes: list[Mistake]) -> Given:
    if isinstance(node, yaml.ScalarNode):
        return Given(None if node.tag == _NULL else node.value, line)
    if isinstance(node, yaml.SequenceNode):
        return Given([_take(part, key, line, mistakes).plain() for part in node.value], line)
    section: dict[str, Given] = {}
    for name_node, value in node.value:
        here = line if line == COMMAND_LINE else name_node.start_mark.line + 1
        if not isinstance(name_node, yaml.ScalarNode):
            mistakes.append(Mistake(here, key, "a key must be a word"))
            continue
        name: str = name_node.value
        inner = f"{key}.{name}" if key else name
        given = _take(value, inner, here, mistakes)
        if first := section.get(name):
            places = "" if line == COMMAND_LINE else f", in lines {first.line} and {here}"
            mistakes.append(Mistake(here, inner, f"is given twice{places}"))
            if isinstance(first.value, dict) and isinstance(given.value, dict):
                given = Given(first.value | given.value, here)
        section[name] = given
    return Given(section, line)


def _read_value(text: str, key: str, mistakes: list[Mistake]) -> Given | None:
    """Read a value: YAML where it begins like a list, a section or a quoted text; else text."""
    if not text.startswith(("[", "{", "'", '"')):
        return Given(None if text in _NULL_WORDS else text, COMMAND_LINE)
    found: list[Mistake] = []
    given = None
    try:
        if node := _compose(text, found):
            given = _take(node, key, COMMAND_LINE, found)
    except _UnreadableError as error:
        problem = f"{error} (in {text!r}; text that begins so needs quotes)"
        found.append(Mistake(COMMAND_LINE, key, problem))
    mistakes += [Mistake(COMMAND_LINE, mistake.key or key, mistake.text) for mistake in found]
    return given


def _join(first: Given, second: Given, key: str, mistakes: list[Mistake]) -> Given:
    if not (isinstance(first.value, dict) and isinstance(second.value, dict)):
        mistakes.append(Mistake(COMMAND_LINE, key, "is given twice"))
        return first
    both = dict(first.value)
    for name, given in second.value.items():
        inner = f"{key}.{name}" if key else name
        both[name] = _join(both[name], given, inner, mistakes) if name in both else given
    return Given(both, COMMAND_LINE)
