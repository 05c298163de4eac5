"""YAML and `section.key=value` → `Config`, every mistake at once; and `Config` → YAML.

A value is handed to pydantic as the text that was written, in a file as on the command line: the
field's type decides what it becomes, not YAML's guess (to YAML 1.1, `no` is false, `010` is 8 and
`12:00` is 720). Only `null`, `~` and nothing, unquoted, mean none. Keys given twice, tags, anchors
and aliases are refused.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from seq2seq.config import NAME, Config, SearchConfig, Section
from seq2seq.config_mistakes import (
    COMMAND_LINE,
    WHOLE_FILE,
    Mistake,
    Plain,
    as_error,
    bad_value,
    entries_of,
    flow,
    forms_of,
    kind_of,
    listed,
    shown,
    takes_none,
    unknown_key,
)
from seq2seq.config_yaml import Given, as_given, read_overrides, read_text
from seq2seq.errors import ConfigError, ModelError
from seq2seq.model_description import ModelDescription

_NUMBER = r"^[-+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_SWITCH = "^([Tt]rue|[Ff]alse|[Yy]es|[Nn]o|[Oo]n|[Oo]ff)$"
_CLEAR = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_WIDER: dict[str, dict[str, Plain]] = {
    "integer": {"type": ["integer", "string"], "pattern": _NUMBER},
    "number": {"type": ["number", "string"], "pattern": _NUMBER},
    "boolean": {"type": ["boolean", "string"], "pattern": _SWITCH},
    "string": {"type": ["string", "number", "boolean"]},
}


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file; `overrides` (`section.key=value`) win over it.

    A value on the command line that begins with `[`, `{`, `'` or `"` is read as YAML; any other is
    the text itself. A section that has several forms starts afresh where the command line gives it
    another `kind` than the file does: the file's keys of that section no longer count. Relative
    paths stay as written, relative to the working folder. Where `base.model` names a model, its
    settings are the defaults of `model` and `vocabulary`.

    Raises:
        ConfigError: naming every mistake with its file, line and key.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: must be a YAML file, but is a folder") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: must be UTF-8 text, but isn't") from None
    return parse_config(text, name=str(path), overrides=overrides)


def parse_config(text: str, *, name: str, overrides: Sequence[str] = ()) -> Config:
    """Read YAML text as `load_config` reads a file; `name` stands for the file in messages."""
    mistakes: list[Mistake] = []
    file = read_text(text, mistakes)
    commands = read_overrides(overrides, mistakes)
    config = None
    if file is not None:
        given = _merge(file, commands, Config())
        base = _base(given, mistakes)
        config = _Check(_over_base(given, base), mistakes).config(base)
    if config is None or mistakes:
        raise as_error(mistakes, name)
    return config


def search_settings(config: Config, overrides: Sequence[str], *, name: str) -> SearchConfig:
    """Let the command line's `search.key=value` win over a model's own settings of search.

    Args:
        config: the model's.
        overrides: as in `load_config`, but of the section `search` alone.
        name: stands for the model in messages.

    Raises:
        ConfigError: naming every mistake.
    """
    mistakes: list[Mistake] = []
    commands = read_overrides(overrides, mistakes)
    own = as_given(config.model_dump(mode="json", include={"search"}), WHOLE_FILE)
    given = _merge(own, commands, config)
    assert isinstance(given.value, dict)
    for section in [name for name in given.value if name in Config.model_fields]:
        if section != "search":
            text = "is the model's own; settings of `search` alone may be given here"
            mistakes.append(Mistake(COMMAND_LINE, section, text))
            del given.value[section]
    checked = _Check(given, mistakes).config(None)
    if checked is None or mistakes:
        raise as_error(mistakes, name)
    return checked.search


def _merge(file: Given, commands: Given, default: Any) -> Given:
    """Let the command line win, and start a section afresh that it gives another `kind`."""
    if not (isinstance(file.value, dict) and isinstance(commands.value, dict)):
        return commands
    default_kind = getattr(default, "kind", None)
    kind, new_kind = file.at(["kind"]), commands.at(["kind"])
    if default_kind and new_kind and new_kind.value != (kind.value if kind else default_kind):
        return commands
    merged = dict(file.value)
    for name, given in commands.value.items():
        inner = getattr(default, name, None)
        merged[name] = _merge(merged[name], given, inner) if name in merged else given
    return Given(merged, file.line)


def _base(given: Given, mistakes: list[Mistake]) -> Config | None:
    """Read the config of the base model, where one is named."""
    model = given.at(["base", "model"])
    if model is None or not isinstance(model.value, str):
        return None
    try:
        return ModelDescription.load(Path(model.value)).config
    except ModelError as error:
        mistakes.append(Mistake(model.line, "base.model", str(error)))
        return None


def _over_base(given: Given, base: Config | None) -> Given:
    """Put what was given over the base's network and vocabulary, which are the defaults."""
    if base is None:
        return given
    defaults = base.model_dump(mode="json", include={"model", "vocabulary"})
    return _merge(as_given(defaults, WHOLE_FILE), given, base)


class _Check:
    """One config on its way from what was given to what pydantic makes of it."""

    def __init__(self, given: Given, mistakes: list[Mistake]) -> None:
        self._given = given
        self._mistakes = mistakes
        self._fields: dict[str, FieldInfo] = {}

    def config(self, base: Config | None) -> Config | None:
        """Validate, and again without what was wrong, for the rules over several keys.

        Returns nothing where such a rule is broken; what is left out has its default.
        """
        plain = self._section(self._given, Config, "")
        while True:
            try:
                return Config.model_validate(plain, context=base)
            except ValidationError as error:
                problems = error.errors(include_url=False)
            wrong = [self._report(problem, plain) for problem in problems]
            if [] in wrong:
                return None
            for path in {tuple(path) for path in wrong}:
                _drop(plain, path)

    def _section(self, given: Given, form: type[Section], section: str) -> dict[str, Any]:
        """Return the known keys and their text, reporting the unknown ones."""
        assert isinstance(given.value, dict)
        plain: dict[str, Any] = {}
        for name, inner in given.value.items():
            key = f"{section}.{name}" if section else name
            field = form.model_fields.get(name)
            if field is None:
                self._add(inner.line, key, unknown_key(section, name, form, Config))
                continue
            self._fields[key] = field
            forms = forms_of(field.annotation)
            if entry := entries_of(field.annotation):
                plain[name] = self._entries(inner, entry, key)
            elif not forms or (inner.value is None and takes_none(field)):
                plain[name] = inner.plain()
            elif not isinstance(inner.value, dict):
                self._add(inner.line, key, f"must be a section, but is {shown(inner.value)}")
            elif len(forms) == 1:
                plain[name] = self._section(inner, forms[0], key)
            else:
                plain |= self._one_of(inner, forms, name, key)
        return plain

    def _entries(self, given: Given, form: type[Section], key: str) -> dict[str, Any]:
        """Return the sections that stand under names of the user's own."""
        if not isinstance(given.value, dict) or not given.value:
            self._add(given.line, key, bad_value(self._fields[key], given.plain()))
            return {}
        plain: dict[str, Any] = {}
        for name, inner in given.value.items():
            if not re.fullmatch(NAME, name):
                text = f"names must have letters, digits, - and _ alone, but one is {shown(name)}"
                self._add(inner.line, key, text)
            elif not isinstance(inner.value, dict):
                text = f"must be a section, but is {shown(inner.value)}"
                self._add(inner.line, f"{key}.{name}", text)
            else:
                plain[name] = self._section(inner, form, f"{key}.{name}")
        return plain

    def _one_of(
        self, given: Given, forms: Sequence[type[Section]], name: str, key: str
    ) -> dict[str, Any]:
        """Return a section that has several forms under its name; nothing if `kind` is wrong."""
        default = getattr(self._fields[key].default, "kind", None)
        kind = given.at(["kind"]) or Given(default, given.line)
        for form in forms:
            if kind.value == kind_of(form):
                return {name: {"kind": kind.value, **self._section(given, form, key)}}
        kinds = listed([repr(kind_of(form)) for form in forms], "or")
        self._add(kind.line, f"{key}.kind", f"must be {kinds}, but is {shown(kind.plain())}")
        return {}

    def _report(self, problem: ErrorDetails, plain: dict[str, Any]) -> list[str]:
        """Report what pydantic found, and return the path of what is to be left out for it."""
        path = _path(problem["loc"], plain)
        key = ".".join(path)
        given = self._given.at(path)
        match problem["type"]:
            case "value_error":
                self._report_rules(str(problem.get("ctx", {})["error"]), key)
            case "missing" if key not in self._fields:
                path.pop()
                section = self._given.at(path)
                assert section
                kind = section.at(["kind"])
                of_kind = f" of kind {kind.value!r}" if kind else ""
                text = f"is missing, but {'.'.join(path)}{of_kind} needs it"
                self._add(section.line, key, text)
            case "missing" | "too_short" if self._wrong_around(key):
                pass  # what was given has been left out
            case _:
                if not given:  # pydantic tells the forms that a value can have apart
                    path.pop()
                    key, given = ".".join(path), self._given.at(path)
                assert given
                self._add(given.line, key, bad_value(self._fields[key], given.plain()))
        return path

    def _report_rules(self, message: str, at: str) -> None:
        """Report broken rules, a line each; one over several keys names them in backticks."""
        for text in message.splitlines():
            named: list[str] = re.findall(rf"`({NAME}(?:\.{NAME})*)`", text)
            # A section that stands in several places names its own keys.
            keys = [name if "." in name else f"{at}.{name}" for name in named] or [at]
            if any(map(self._wrong_around, keys)):
                continue  # the values that the rule saw are not those that were given
            text = re.sub("^`[^`]+` ", "", text)
            self._add(self._line(keys), keys[0], text)

    def _wrong_around(self, key: str) -> bool:
        """Whether there is a mistake in a section or setting, in a part of it, or around it."""
        wrong = [f"{mistake.key}." for mistake in self._mistakes if mistake.key]
        return any(f"{key}.".startswith(other) or other.startswith(f"{key}.") for other in wrong)

    def _line(self, keys: Sequence[str]) -> int:
        """Find the line of the first key that was given; of none, that of what would have it."""
        paths = [key.split(".") for key in keys]
        paths += [paths[0][:end] for end in range(len(paths[0]) - 1, 0, -1)]
        given = (self._given.at(path) for path in paths)
        return next((found.line for found in given if found), WHOLE_FILE)

    def _add(self, line: int, key: str, text: str) -> None:
        mistake = Mistake(line, key, text)
        if mistake not in self._mistakes:  # pydantic finds one for each part of a list
            self._mistakes.append(mistake)


def _path(location: Sequence[int | str], plain: Plain) -> list[str]:
    """Turn pydantic's location into keys, without places in lists and the kinds of unions."""
    path: list[str] = []
    for part in location:
        if isinstance(part, int) or not isinstance(plain, dict):
            break
        if part not in plain and plain.get("kind") == part:
            continue
        path.append(part)
        plain = plain.get(part)
    return path


def _drop(plain: dict[str, Any], path: Sequence[str]) -> None:
    """Leave out a value; or, where it was left out before and is needed, the section it is in."""
    section = plain
    for name in path[:-1]:
        section = section.get(name, {})
    if path[-1] in section:
        del section[path[-1]]
    elif path[:-1]:
        _drop(plain, path[:-1])


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line, and escapes what can't be seen."""


def _write_text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = None if value.isprintable() else '"'  # PyYAML leaves U+0085 bare, a line break to it
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


def _write_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(str, _write_text)
_Dumper.add_representer(list, _write_list)


def dump_config(config: Config) -> str:
    """Write every setting as YAML that `load_config` reads back to an equal config."""
    settings = config.model_dump(mode="json")
    return yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)


def setting(config: Config, key: str) -> str:
    """Write the value of one setting, such as that of `training.folder`.

    Raises:
        ConfigError: there is no such setting, or it is a whole section.
    """
    value: Any = config
    plain, section = config.model_dump(mode="json"), ""
    for name in key.split("."):
        if value is None:  # a section that isn't there
            break
        if isinstance(value, dict) and name not in value:
            raise ConfigError(f"{key}: {section} has {listed(list(value), 'and')}, but no {name}")
        if not isinstance(value, Section | dict):
            raise ConfigError(f"{key}: {section} is a setting, and no section that has {name!r}")
        if isinstance(value, Section) and name not in type(value).model_fields:
            raise ConfigError(f"{key}: {unknown_key(section, name, type(value), Config)}")
        value, plain = value[name] if isinstance(value, dict) else getattr(value, name), plain[name]
        section = f"{section}.{name}" if section else name
    if isinstance(value, Section | dict):
        raise ConfigError(
            f"{key}: is a section; name one of its settings: {listed(list(plain), 'and')}"
        )
    return plain if isinstance(plain, str) else flow(plain)


def differences(old: Config, new: Config) -> list[str]:
    """List the settings that have other values, each as `section.key: old → new`."""
    return list(_different(old.model_dump(mode="json"), new.model_dump(mode="json"), ""))


def _different(old: Plain, new: Plain, key: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for name in old:
            yield from _different(old[name], new[name], f"{key}.{name}" if key else name)
    elif old != new:
        yield f"{key}: {flow(old)} → {flow(new)}"


def by_key(tree: dict[str, Any], section: str = "") -> dict[str, Any]:
    """Give the values of a tree under their full names, such as `section.key`."""
    values: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{section}.{name}" if section else name
        values |= by_key(value, key) if isinstance(value, dict) else {key: value}
    return values


def config_schema() -> str:
    """Return the JSON Schema by which editors check and complete a config."""
    schema = _for_editors(Config.model_json_schema())
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _for_editors(schema: Plain) -> Plain:
    """Let a schema accept what is accepted here, whichever YAML version the editor reads.

    To one `1e-3` and `no` are a text, to the other a number and false.
    """
    if isinstance(schema, list):
        return [_for_editors(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    clear = {
        _CLEAR.get(key, key): _for_editors(value)
        for key, value in schema.items()
        if key not in ("discriminator", "format")
        and not (key == "title" and isinstance(value, str))
        and not (key == "default" and isinstance(value, dict))
    }
    match clear:
        case {"enum": _} | {"const": _}:
            return clear
        case {"type": "array", "prefixItems": [first, *_], **others}:
            return {**others, "type": "array", "items": first}
        case {"type": str(kind)} if kind in _WIDER:
            return clear | _WIDER[kind]
        case _:
            return clear
