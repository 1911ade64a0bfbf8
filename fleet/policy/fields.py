"""The names of the policy's fields: a kind and a subject.

    version, difficulty, emergency, emergency_ms (when it began)
    route|REQUEST_TYPE|TENANT       how tasks are routed
    over|REQUEST_TYPE|TENANT        what happens to a call that exceeds a budget
    limit|SCOPE|WINDOW|QUANTITY     a number, or `none` if the limit is lifted
    size|POOL                       how many workers a pool has, by hand
    scaling|POOL                    the scaling policy of a pool, or of all with an empty name
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
SIZE = "size"
SCALING = "scaling"
LIFTED = "none"
SEPARATOR = "|"


def field_name(kind: str, *about: str) -> str:
    """The name of a field. Parts are quoted, because another publisher's tenant may be any text."""
    return SEPARATOR.join((kind, *(quote(part, safe=" /:*") for part in about)))


def field_parts(name: str) -> tuple[str, list[str]]:
    """The kind and the subject of a field: the inverse of `field_name`."""
    kind, *about = name.split(SEPARATOR)
    return kind, [unquote(part) for part in about]
