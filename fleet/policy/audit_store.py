"""The audit: who changed which part of the policy, when and why. `policy.lua` writes it."""

from __future__ import annotations

from typing import Any, NamedTuple

from fleet.policy.fields import field_parts
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

MAX_ENTRIES = 10_000
"""The approximate number of entries kept: a few megabytes."""


class PolicyChange(NamedTuple):
    """The change of one field of the policy.

    `id` is `<ms>-<n>`, the ms since 1970 by Redis's clock. `kind` is `route`, `limit`, `over`,
    `emergency`, `difficulty`, `size`, `scaling` or `access`. `about` names the subject, such as the
    scope, window and quantity of a limit, or the tenant and id of a token. `before` and `after` are
    the written values, empty if there was none.
    """

    id: str
    version: int
    kind: str
    about: tuple[str, ...]
    before: str
    after: str
    by: str
    why: str

    @property
    def epoch(self) -> float:
        """When the change was made, in seconds since 1970."""
        return int(self.id.partition("-")[0]) / 1000


class Audit(Store):
    """Reads the audit."""

    def newest(self, most: int) -> list[PolicyChange]:
        """Changes, newest first. One call to Redis."""
        with redis_errors(self.client):
            found: Any = self.client.xrevrange(self.keys.audit, count=most)
        return [_change(text(entry_id), fields) for entry_id, fields in found]


def _change(entry_id: str, fields: dict[Any, Any]) -> PolicyChange:
    found = {text(name): text(value) for name, value in fields.items()}
    kind, about = field_parts(found.pop("field"))
    version = int(found.pop("version"))
    return PolicyChange(id=entry_id, version=version, kind=kind, about=tuple(about), **found)
