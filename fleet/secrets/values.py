"""Values of the room: a secret with its version. No value of a secret is in any repr."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.errors import InvalidRequest
from fleet.settings.names import PATH_PATTERN
from fleet.text import brief

PATH = re.compile(PATH_PATTERN)


@dataclass(frozen=True, slots=True)
class Secret:
    """One version of a secret: named fields, such as `api_key`, with their values.

    `version` counts from 1 and only grows. `epoch` is when it was written, in seconds since 1970 by
    the clock of its store. `store` is the name of the store that it came from.
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
