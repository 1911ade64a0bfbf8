"""Writes what the settings mean: `fleet/settings/default.toml` and `docs/configuration.md`.

    python -m fleet.settings.document

Both come from the classes of the settings alone: their docstrings, descriptions, types, ranges and
defaults. A test holds the files equal to what this module writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fleet.settings.config import FleetConfig
from fleet.settings.environment import Environment

ROOT = Path(__file__).parents[2]
DEFAULT_TOML = Path(__file__).with_name("default.toml")
CONFIGURATION_MD = ROOT / "docs" / "configuration.md"
WIDTH = 100

UNITS = {
    "seconds": "seconds",
    "bytes": "bytes",
    "usd": "US dollars",
    "price": "US dollars",
    "timeout": "seconds",
}
"""The unit of a number, by the last word of its key."""

TOML_HEAD = """\
Fleet's defaults. Each key has its default here. Keys without a default are comments.

A fleet.toml in the working folder, or the file that FLEET_CONFIG names, is laid over them. A key
replaces a key, and the other keys of its table stay. A table of named things (agent_types, pools,
request_types, compatibility, providers, catalogue) replaces the whole table. Times are in seconds,
sizes in bytes, amounts in US dollars.

This file is generated: python -m fleet.settings.document"""

PAGE_HEAD = """\
# Configuration

Fleet reads environment variables and one file, `fleet.toml` in the working folder or the file that
`FLEET_CONFIG` names. `fleet config check` says what is wrong with them, `fleet config show` shows
what is in force. `fleet/settings/default.toml` is a `fleet.toml` with every
default.

A key of the file replaces the default of that key alone: the other keys of its table stay, also in
nested tables. A table of named things (`agent_types`, `pools`, `request_types`, `compatibility`,
`providers`, `catalogue`) replaces the whole default table.

This page is generated from the classes of the settings: `python -m fleet.settings.document`.
"""


def main() -> None:
    """Write both files."""
    DEFAULT_TOML.write_text(default_toml(), encoding="utf-8")
    CONFIGURATION_MD.write_text(configuration_page(), encoding="utf-8")


def default_toml() -> str:
    """A fleet.toml with every default, each key explained."""
    default = FleetConfig()
    parts = [_comment(TOML_HEAD), "\n".join(_keys(default, explained=True))]
    for name, field in FleetConfig.model_fields.items():
        if name in FleetConfig.tables():
            parts += _tables(name, getattr(default, name), field)
    return "\n\n".join(parts) + "\n"


def configuration_page() -> str:
    """A page of Markdown with every variable, table and key."""
    parts = [PAGE_HEAD, "## Environment variables\n", _text(Environment) + "\n"]
    parts.append(_rows(Environment, "variable", lambda name: f"FLEET_{name.upper()}"))
    parts += ["## Keys before the first table\n", _rows(FleetConfig, "key", str)]
    for name in FleetConfig.model_fields:
        if name in FleetConfig.tables():
            parts += _sections(name, FleetConfig.model_fields[name])
    return "\n".join(parts)


# default.toml


def _tables(path: str, value: object, field: FieldInfo) -> Iterator[str]:
    """A table and those in it, a block of lines each."""
    if isinstance(value, BaseModel):
        yield _block(_comment(_text(type(value))), f"[{path}]", *_keys(value, explained=True))
        for name, inner in type(value).model_fields.items():
            yield from _tables(f"{path}.{name}", getattr(value, name), inner)
    elif (kind := _kind_inside(field)) and isinstance(value, tuple):
        lines = [_comment(_text(kind)), f"# [[{path}]]"]
        yield _block(*lines, *_absent(kind))
    elif kind and not value:
        lines = [_comment(_text(kind)), f"# [{path}.{_key(_example(field))}]"]
        yield _block(*lines, *_absent(kind))
    elif isinstance(value, dict) and kind:
        yield from _named(path, value, kind)
    elif isinstance(value, dict):
        yield from _plain(path, value, field)


def _named(path: str, value: Mapping[str, BaseModel], kind: type[BaseModel]) -> Iterator[str]:
    """Tables of named things: the keys are explained once, at the first."""
    for number, (name, each) in enumerate(value.items()):
        head = [_comment(_text(kind))] if number == 0 else []
        yield _block(*head, f"[{path}.{_key(name)}]", *_keys(each, explained=number == 0))


def _plain(path: str, value: Mapping[str, Any], field: FieldInfo) -> Iterator[str]:
    """A table of values whose keys are names, or of such tables."""
    head = [_comment(field.description or "")]
    if not any(isinstance(each, dict) for each in value.values()):
        yield _block(*head, f"[{path}]", *_pairs(value))
        return
    for number, (name, row) in enumerate(value.items()):
        yield _block(*(head if number == 0 else []), f"[{path}.{_key(name)}]", *_pairs(row))


def _pairs(value: Mapping[str, Any]) -> list[str]:
    return [f"{_key(name)} = {json.dumps(each)}" for name, each in value.items()]


def _keys(table: BaseModel, *, explained: bool) -> Iterator[str]:
    """The keys of a table that are no tables themselves."""
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if _is_table(field, value):
            continue
        if explained:
            yield _comment(field.description or "")
        elif value == field.default:
            continue
        if value is not None:
            yield f"{name} = {json.dumps(value, default=str)}"
        elif explained:
            yield f"# {name} = {json.dumps(_example(field))}"


def _absent(kind: type[BaseModel]) -> Iterator[str]:
    """The keys of a table that nobody has by default, each with an example."""
    for name, field in kind.model_fields.items():
        if field.examples:
            yield f"# {name} = {json.dumps(_example(field))}    # {field.description}"


def _comment(text: str) -> str:
    lines = (line for part in text.split("\n") for line in wrap(part, WIDTH - 2) or [""])
    return "\n".join(f"# {line}".rstrip() for line in lines)


def _block(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)


# configuration.md


def _sections(path: str, field: FieldInfo, named: bool = False) -> Iterator[str]:
    """A table of the file and those in it, each with a heading."""
    kind = _kind(field)
    if kind is None:
        if _is_dict(field):
            yield f"## `[{path}]`\n"
            yield f"{field.description}\n"
            if field.get_default(call_default_factory=True):
                yield f"Default:\n\n```toml\n{_default_tables(path, field)}\n```\n"
        return
    several = "[[{}]]" if _is_tuple(field) else "[{}.NAME]" if _is_dict(field) else "[{}]"
    yield f"## `{several.format(path)}`\n"
    yield _text(kind) + "\n"
    if any(not _kind(inner) for inner in kind.model_fields.values()):
        yield _rows(kind, "key", str)
    inside = f"{path}.NAME" if _is_dict(field) else path
    for name, inner in kind.model_fields.items():
        if not _is_optional(inner):
            yield from _sections(f"{inside}.{name}", inner)


def _default_tables(path: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    return "\n\n".join(_plain(path, default, field)).removeprefix(
        _comment(field.description or "") + "\n"
    )


def _rows(kind: type[BaseModel], what: str, spelled: Any) -> str:
    """The keys of a table as a table of Markdown."""
    lines = [f"| {what} | type and range | default | meaning |", "|---|---|---|---|"]
    properties = kind.model_json_schema()["properties"]
    for name, field in kind.model_fields.items():
        if _is_optional(field) or not (_kind(field) or _is_dict(field)):
            unit = UNITS.get(name.rpartition("_")[2], "")
            cells = (_type(properties[name], unit), _default(field), field.description or "")
            lines.append(f"| `{spelled(name)}` | " + " | ".join(map(_escaped, cells)) + " |")
    return "\n".join(lines) + "\n"


def _type(schema: Mapping[str, Any], unit: str = "") -> str:
    """The type of a value and what it may be, from its JSON Schema."""
    for each in schema.get("anyOf", ()):
        if each.get("type") != "null":
            return _type(each, unit)
    if "$ref" in schema:
        return "table"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if "const" in schema:
        return f"`{schema['const']}`"
    name = {"boolean": "`true`, `false`", "string": "text"}.get(schema["type"], schema["type"])
    # The names of formats in a schema.
    name = {"password": "secret text", "path": "path"}.get(schema.get("format", ""), name)  # nosec B105
    if "pattern" in schema:
        return f"{name} like `{schema['pattern']}`"
    return ", ".join([f"{name} of {unit}" if unit else name, *_range(schema)])


def _range(schema: Mapping[str, Any]) -> Iterator[str]:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
    return (f"{word} {schema[key]:,}" for key, word in words.items() if key in schema)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if value in (None, "") else f"`{json.dumps(value, default=str)}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


# Both


def _text(kind: type[BaseModel]) -> str:
    """The docstring of a table's class, a line each paragraph."""
    paragraphs = (kind.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def _is_table(field: FieldInfo, value: object) -> bool:
    return isinstance(value, dict | BaseModel) or _kind(field) is not None


def _kind(field: FieldInfo) -> type[BaseModel] | None:
    """The class of the tables that a key is or holds; None where it is no table of a class."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((each for each in kinds if _is_section(each)), None)


def _kind_inside(field: FieldInfo) -> type[BaseModel] | None:
    return _kind(field) if _is_dict(field) or _is_tuple(field) else None


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_dict(field: FieldInfo) -> bool:
    return getattr(field.annotation, "__origin__", None) is dict


def _is_tuple(field: FieldInfo) -> bool:
    return getattr(field.annotation, "__origin__", None) is tuple


def _is_optional(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)


def _example(field: FieldInfo) -> Any:
    return (field.examples or [None])[0]


if __name__ == "__main__":
    main()
