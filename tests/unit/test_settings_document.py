"""What is written of the settings is what the settings are, and each key can be overlaid alone."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w
from pydantic import BaseModel

from fleet.errors import InvalidConfig
from fleet.settings import FleetConfig, parse_config
from fleet.settings.budgets import REFERENCE_CHEAPER_MODELS
from fleet.settings.document import (
    CONFIGURATION_MD,
    DEFAULT_TOML,
    configuration_page,
    default_toml,
)
from fleet.settings.environment import Environment

DEFAULTS = parse_config("", "built-in defaults")
RUN_IT = "run: python -m fleet.settings.document"


def tables(table: BaseModel, *path: str) -> Iterator[tuple[tuple[str, ...], BaseModel]]:
    """Every table with fixed keys, nested ones too."""
    for name in type(table).model_fields:
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            yield (*path, name), value
            yield from tables(value, *path, name)


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value  # type: ignore[no-any-return]


KEYS = [
    (*path, name)
    for path, table in tables(DEFAULTS)
    for name in type(table).model_fields
    if isinstance(getattr(table, name), bool | int | float | str)
]


def values(default: Any) -> list[Any]:
    """Values of the same kind: one of them fits whatever else has to hold."""
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, int | float):
        return [default + 1, default + 0.01, default - 0.01, default - 1]
    return ["reference", "thompson", "open", "wait", "rlimits", "hmac", "keyring", "approle",
            "{pool}s"]


def test_the_commented_defaults_are_written_from_the_settings() -> None:
    assert DEFAULT_TOML.read_text(encoding="utf-8") == default_toml(), RUN_IT


def test_the_page_of_the_configuration_is_written_from_the_settings() -> None:
    assert CONFIGURATION_MD.read_text(encoding="utf-8") == configuration_page(), RUN_IT


def test_the_commented_defaults_are_the_defaults() -> None:
    text = DEFAULT_TOML.read_text(encoding="utf-8")
    assert parse_config(text, "default.toml") == DEFAULTS
    given = tomllib.loads(text)
    for path in KEYS:
        held: Any = given
        for name in path:
            held = held[name]
        assert held is not None


def test_each_key_and_variable_is_described() -> None:
    def silent(kind: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
        seen.add(kind)
        for name, field in kind.model_fields.items():
            inner = [each for each in _classes(field.annotation) if each not in seen]
            for each in inner:
                yield from silent(each, seen)
            if not list(_classes(field.annotation)) and not field.description:
                yield f"{kind.__name__}.{name}"

    assert [*silent(FleetConfig, set()), *silent(Environment, set())] == []


def _classes(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from _classes(each)


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_a_key_of_any_table_is_overlaid_alone(path: tuple[str, ...]) -> None:
    expected = DEFAULTS.model_dump()
    table = expected
    for name in path[:-1]:
        table = table[name]
    for value in values(table[path[-1]]):
        try:
            found = parse_config(tomli_w.dumps(nested(path, value)), "fleet.toml")
        except InvalidConfig:
            continue
        table[path[-1]] = value
        if path == ("models", "catalogue"):
            # The one default that follows another key: which of its models are there.
            expected["budgets"]["downgrade"]["models"] = REFERENCE_CHEAPER_MODELS
        assert found.model_dump() == expected
        return
    pytest.fail(f"no other value of {'.'.join(path)} is taken")


def test_every_table_with_fixed_keys_is_among_those_that_are_overlaid() -> None:
    overlaid = {path[0] for path in KEYS}
    named = {"agent_types", "pools", "request_types", "compatibility", "providers", "catalogue"}
    # [rates] has no default but a limit of nothing: each of its keys is absent.
    assert overlaid | named | {"rates"} == FleetConfig.tables()


def test_a_key_of_rates_leaves_the_others_unset() -> None:
    found = parse_config("[rates]\nrequests = 5", "fleet.toml").rates
    assert found.model_dump(exclude_none=True) == {"requests": 5, "scopes": {}}
