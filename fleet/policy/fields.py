"""The names of the policy's fields: a kind, and what it is about.

    version, difficulty, emergency, emergency_ms (when it began)
    route|REQUEST_TYPE|TENANT       how tasks are routed
    over|REQUEST_TYPE|TENANT        what becomes of a call that does not fit a budget
    limit|SCOPE|WINDOW|QUANTITY     a number, or `none` where the limit is lifted
"""

from __future__ import annotations

from urllib.parse import quote, unquote

VERSION = "version"
DIFFICULTY = "difficulty"
EMERGENCY = "emergency"
EMERGENCY_MS = "emergency_ms"
ROUTE = "route"
OVER = "over"
LIMIT = "limit"
LIFTED = "none"
SEPARATOR = "|"


def field_name(kind: str, *about: str) -> str:
    """The name of a field. A tenant of another publisher may be any text, so parts are quoted."""
    return SEPARATOR.join((kind, *(quote(part, safe=" /:*") for part in about)))


def field_parts(name: str) -> tuple[str, list[str]]:
    """The kind of a field, and what it is about: the inverse of `field_name`."""
    kind, *about = name.split(SEPARATOR)
    return kind, [unquote(part) for part in about]
