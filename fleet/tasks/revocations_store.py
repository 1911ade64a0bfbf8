"""What plain Celery has revoked: task ids and stamps, kept in Redis.

A worker of stock Celery keeps them in its memory, and what waits for its time in the memory of the
same worker. Here a message waits in Redis (`fleet.tasks.waiting.schedule_store`), and any worker
may take it. So what is revoked waits there too, and `fetch.lua` looks at it in the step that takes
a message.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

MAX_REVOKED = 50_000
KEEP_MS = 3 * 3600 * 1000
"""As Celery's workers keep in their memory (`CELERY_WORKER_REVOKES_MAX`,
`CELERY_WORKER_REVOKE_EXPIRES`). A stamp or id of what still waits for its time is kept longer."""


class Stamp(NamedTuple):
    """A header that a task was stamped with, and one value of it."""

    header: str
    value: Any


class Revocations(Store):
    """Keeps and lists what is revoked. Every method is one call to Redis."""

    def add(self, task_ids: Sequence[str]) -> None:
        """Revoke tasks by their ids."""
        self._add(self.keys.revoked, task_ids)

    def add_stamps(self, headers: Mapping[str, Any]) -> None:
        """Revoke tasks by their stamps: the values, one or many, by header."""
        stamps = (
            json.dumps([header, value])
            for header, values in headers.items()
            for value in (values if isinstance(values, (list, tuple, set)) else [values])
        )
        self._add(self.keys.revoked_stamps, list(stamps))

    def ids(self) -> list[str]:
        """The ids of revoked tasks, the oldest revocation first."""
        with redis_errors(self.client):
            return [text(each) for each in self.client.zrange(self.keys.revoked, 0, -1)]

    def _add(self, key: str, members: Sequence[str]) -> None:
        if not members:
            return
        arguments = [MAX_REVOKED, KEEP_MS, *members]
        with redis_errors(self.client):
            self.scripts.revoke(keys=[key, self.keys.deferred], args=arguments)

    def stamps(self) -> list[tuple[str, str]]:
        """The revoked stamps as they are stored, each with its place in their order."""
        with redis_errors(self.client):
            rows: Any = self.client.zrange(self.keys.revoked_stamps, 0, -1, withscores=True)
        return [(text(stamp), f"{place:.0f}") for stamp, place in rows]


def parse_stamps(stored: Iterable[str]) -> list[Stamp]:
    """Stamps from their stored form."""
    return [Stamp(*json.loads(each)) for each in stored]
