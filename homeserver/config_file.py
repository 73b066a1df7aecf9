"""Reads a YAML or JSON file and the environment into `Config`, and writes the explained example.

Rules of this file: an error names the key by its path, says what was found and what is allowed.
"""

from __future__ import annotations

import difflib
import os
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from homeserver.config import Config
from homeserver.json_types import JsonObject

ENVIRONMENT_PREFIX = "HOMESERVER_"


class ConfigError(Exception):
    """The config can't be used; the text says which key, what was found, what is allowed."""


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """The config in `path`, overridden by the `HOMESERVER_…` variables of the environment.

    Raises ConfigError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    values = _parse(text, path)
    try:
        return decode_config(values, path.absolute().parent, environment)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def decode_config(
    values: JsonObject, directory: Path, environment: Mapping[str, str] | None = None
) -> Config:
    """`values` and the environment as a Config; relative paths are relative to `directory`."""
    _apply_environment(values, os.environ if environment is None else environment)
    values.setdefault("data_dir", "data")
    _refuse_unknown_keys(values, Config, "")
    try:
        return msgspec.convert(values, Config, dec_hook=lambda type_, v: _path(type_, v, directory))
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), values)) from error


def _parse(text: str, path: Path) -> JsonObject:
    if path.suffix == ".json":
        try:
            values = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}: not JSON: {error}") from error
    else:
        values = _yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: must hold `key: value` lines such as `server_name: example.org`,"
            f" found {_shown(values)}"
        )
    return values


def _yaml(text: str, where: str) -> Any:
    import yaml  # only who has a config file pays for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506  (safe, and in C)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {error}") from error


def _path(type_: type, value: Any, directory: Path) -> Any:
    if type_ is not Path:
        raise TypeError(f"No option has the type {type_}")
    if not isinstance(value, str):
        raise ValueError(f"Expected a path, got {_shown(value)}")
    return directory / Path(value).expanduser()


def _apply_environment(values: JsonObject, environment: Mapping[str, str]) -> None:
    """`HOMESERVER_REGISTRATION__ENABLED=true` sets `registration: {enabled: true}`.

    Variables that don't begin with the name of an option are somebody else's.
    """
    for name, text in sorted(environment.items()):
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if not name.startswith(ENVIRONMENT_PREFIX) or path[0] not in Config.__struct_fields__:
            continue
        kind: Any = Config
        section = values
        for depth, key in enumerate(path):
            kind = _field_types(kind).get(key) if _struct_of(kind) else None
            if kind is None:
                raise ConfigError(f"{name}: there is no option `{'.'.join(path)}`")
            if depth < len(path) - 1:
                section[key] = {} if section.get(key) is None else section[key]
                section = section[key]
            if not isinstance(section, dict):
                raise ConfigError(f"{name}: `{key}` is no section: set it as a whole, as YAML")
        section[path[-1]] = text if _is_text(kind) else _yaml(text, name)


def _is_text(kind: Any) -> bool:
    return bool({str, Path} & {kind, *get_args(kind)})


def _field_types(kind: Any) -> dict[str, Any]:
    struct = _struct_of(kind)
    if struct is None:
        return {}
    return {f.encode_name: _plain(f.type) for f in msgspec.structs.fields(struct)}


def _plain(kind: Any) -> Any:
    """`kind` without its Annotated wrappings."""
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    return kind


def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """The section type in `kind`, `kind | None` or `tuple[kind, ...]`."""
    kind = _plain(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if get_origin(kind) in (Union, types.UnionType, tuple):
        return next((s for s in map(_struct_of, get_args(kind)) if s), None)
    return None


def _refuse_unknown_keys(values: Any, kind: Any, path: str) -> None:
    if isinstance(values, list):
        for index, item in enumerate(values):
            _refuse_unknown_keys(item, kind, f"{path}[{index}]")
        return
    known = _field_types(kind)
    if not known or not isinstance(values, dict):
        return
    for key, value in values.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f" (did you mean `{near[0]}`?)" if near else ""
            allowed = ", ".join(known)
            raise ConfigError(f"unknown key `{where}`{hint}; allowed here: {allowed}")
        _refuse_unknown_keys(value, known[key], where)


def _explain(message: str, values: JsonObject) -> str:
    """msgspec's message with the key's path in front and what was found behind."""
    text, _, pointer = message.partition(" - at `$")
    pointer = pointer.rstrip("`").lstrip(".")
    if not pointer:
        return text
    found: Any = values
    kind: Any = Config
    try:
        for step in re.findall(r"[^.\[\]]+", pointer):
            found = found[int(step)] if isinstance(found, list) else found[step]
            kind = _field_types(kind).get(step, kind)
    except (KeyError, IndexError, ValueError, TypeError):
        return f"`{pointer}`: {text}"
    if isinstance(found, dict | list):
        return f"`{pointer}`: {text}"
    return f"`{pointer}`: {text}{_hint(text, kind, found)}; found {_shown(found)}"


def _hint(text: str, kind: Any, found: Any) -> str:
    if "Expected `str" in text and isinstance(found, int | float):
        return " (write it in quotes)"
    choices = [value for part in (kind, *get_args(kind)) for value in _choices(part)]
    return f", allowed: {', '.join(choices)}" if "enum" in text else ""


def _choices(kind: Any) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def _shown(value: Any) -> str:
    """`value` in an error, short."""
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def example_config(server_name: str = "example.org") -> str:
    """A config file with every option, its default and its explanation, as comments."""
    lines = [
        "# Every option of the homeserver with its default. Only server_name has to be set.",
        "# A value can also come from the environment: HOMESERVER_REGISTRATION__ENABLED=true.",
        "# Relative paths are relative to this file.",
    ]
    for field in msgspec.structs.fields(Config):
        lines += ["", f"# {_explanation(field.type)}"]
        if field.required:
            lines.append(f"{field.name}: {server_name}")
        else:
            lines += [f"# {line}" for line in _option_lines(field)]
    return "\n".join(lines) + "\n"


def _option_lines(field: msgspec.structs.FieldInfo) -> Iterator[str]:
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    struct = _struct_of(field.type)
    if not isinstance(default, msgspec.Struct):
        yield from _value_lines(field, default, struct)
        return
    yield f"{field.name}:"
    for inner in msgspec.structs.fields(type(default)):
        yield f"  # {_explanation(inner.type)}"
        yield f"  {inner.name}: {_flow(getattr(default, inner.name))}"


def _value_lines(
    field: msgspec.structs.FieldInfo, default: Any, struct: type[msgspec.Struct] | None
) -> Iterator[str]:
    if struct is None or not default:
        yield f"{field.name}: {_flow(default)}"
        return
    yield f"{field.name}:"
    for inner in msgspec.structs.fields(struct):
        yield f"  # {inner.name}: {_explanation(inner.type)}"
    for item in default:
        yield f"  - {_flow(item)}"


def _explanation(kind: Any) -> str:
    while hasattr(kind, "__metadata__"):
        for meta in kind.__metadata__:
            if meta.description:
                return str(meta.description)
        kind = kind.__origin__
    return ""


def _flow(value: Any) -> str:
    """`value` as YAML in one line."""
    value = msgspec.to_builtins(value, enc_hook=str)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value):
        return value
    return msgspec.json.encode(value).decode()
