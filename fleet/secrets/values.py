"""Values of the room: a secret with its version. No value of a secret is in any repr."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.errors import InvalidRequest
from fleet.settings.names import PATH_PATTERN
from fleet.text import brief, is_whole

PATH = re.compile(PATH_PATTERN)
FIELD = re.compile(r"[a-z][a-z0-9_]{0,62}")
MAX_BYTES = 32 * 1024
"""The fields of a version together. Every store can keep ten versions of this size."""
UNVERSIONED = 0
"""The version of a secret that its store keeps in one version alone, such as a variable. Every
version of a store that can be written is newer."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret: named fields, such as `api_key`, with their values.

    `version` counts from 1 and only grows; it is `UNVERSIONED` for a variable. `epoch` is when it
    was written, in seconds since 1970 by the clock of its store. `store` is the name of the store
    that it came from.
    """

    path: str
    version: int
    fields: Mapping[str, str] = field(repr=False)
    epoch: float
    store: str


class SecretVersion(NamedTuple):
    """What a store tells of a version without its values. `destroyed`: its values are gone."""

    version: int
    epoch: float
    destroyed: bool


def check_path(path: str) -> None:
    """Raise `InvalidRequest` for a text that is no path of a secret."""
    if not PATH.fullmatch(path):
        raise InvalidRequest(
            f"{brief(path)} is no path of a secret; use up to six parts of lower-case letters, "
            "digits, '_', '.' and '-', separated by '/', such as providers/openai"
        )


def check_field(name: str) -> None:
    """Raise `InvalidRequest` for a text that is no name of a field."""
    if not FIELD.fullmatch(name):
        raise InvalidRequest(
            f"{brief(name)} is no name of a field; use lower-case letters, digits and '_', such "
            "as api_key"
        )


def check_fields(fields: Mapping[str, str]) -> None:
    """Raise `InvalidRequest` for fields that not every store can keep. No value is shown."""
    if not fields:
        raise InvalidRequest("a secret needs at least one field, such as api_key")
    for name, value in fields.items():
        check_field(name)
        if not isinstance(value, str) or not is_whole(value):
            raise InvalidRequest(f"field {name}: the value is no text that UTF-8 can encode")
        if not value:
            raise InvalidRequest(f"field {name}: the value is empty; give one")
    if sum(len(name) + len(value.encode()) for name, value in fields.items()) > MAX_BYTES:
        raise InvalidRequest(f"a secret has at most {MAX_BYTES:,} bytes; split it into several")
