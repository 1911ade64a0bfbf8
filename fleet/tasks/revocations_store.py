"""Revoked plain Celery tasks: their ids and stamps, in Redis.

A stock Celery worker keeps revocations in its memory, beside the delayed messages that it holds.
Here delayed messages wait in Redis (`fleet.tasks.waiting.schedule_store`), and any worker may take
them. So revocations are in Redis too, and `fetch.lua` checks them when it takes a message.
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
"""Celery's own defaults (`CELERY_WORKER_REVOKES_MAX`, `CELERY_WORKER_REVOKE_EXPIRES`). An id or
stamp of a message that is still delayed is kept longer."""


class Stamp(NamedTuple):
    """A stamp: a header of a task, and one of its values."""

    header: str
    value: Any


class Revocations(Store):
    """Stores and lists revocations. Every method is one call to Redis."""

    def add(self, task_ids: Sequence[str]) -> None:
        """Revoke tasks by their ids."""
        self._add(self.keys.revoked, task_ids)

    def add_stamps(self, headers: Mapping[str, Any]) -> None:
        """Revoke tasks by their stamps: for each header one value or several."""
        stamps = (
            json.dumps([header, value])
            for header, values in headers.items()
            for value in (values if isinstance(values, (list, tuple, set)) else [values])
        )
        self._add(self.keys.revoked_stamps, list(stamps))

    def ids(self) -> list[str]:
        """The ids of revoked tasks, oldest revocation first."""
        with redis_errors(self.client):
            return [text(each) for each in self.client.zrange(self.keys.revoked, 0, -1)]

    def _add(self, key: str, members: Sequence[str]) -> None:
        if not members:
            return
        arguments = [MAX_REVOKED, KEEP_MS, *members]
        with redis_errors(self.client):
            self.scripts.revoke(keys=[key, self.keys.deferred], args=arguments)

    def stamps(self) -> list[tuple[str, str]]:
        """The revoked stamps in stored form, each with its position."""
        with redis_errors(self.client):
            rows: Any = self.client.zrange(self.keys.revoked_stamps, 0, -1, withscores=True)
        return [(text(stamp), f"{place:.0f}") for stamp, place in rows]


def parse_stamps(stored: Iterable[str]) -> list[Stamp]:
    """Parse stamps from their stored form."""
    return [Stamp(*json.loads(each)) for each in stored]
