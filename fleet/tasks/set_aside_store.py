"""Malformed messages, set aside with the reason and the time.

A stream holds the newest `MAX_KEPT` of them, each cut to its first `MAX_BYTES`, so it takes at most
some 8 MB. A counter has the total number.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from fleet.errors import TaskNotFound
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

MAX_KEPT = 500
MAX_BYTES = 16 * 1024
MAX_REASON = 500
SEEN_SECONDS = 60
"""Every worker receives a broadcast; repetitions within this time are not stored again."""
PREFIX = "malformed-"
ENTRY = re.compile(r"[0-9]{1,15}-[0-9]{1,15}")
FIELDS = ("queue", "reason", "bytes", "message")


class SetAsideMessage(NamedTuple):
    """A message that was set aside: `message` is its beginning, `size` its full size in bytes. `at`
    is in seconds since 1970 by Redis's clock."""

    id: str
    queue: str
    reason: str
    size: int
    message: str

    @property
    def at(self) -> float:
        return int(self.id.removeprefix(PREFIX).partition("-")[0]) / 1000


class SetAside(Store):
    """Stores, lists and drops malformed messages. Every method is one call to Redis unless it says
    more."""

    def keep(self, queue: str, message: bytes, reason: str) -> None:
        """Set a message aside. The caller acknowledges it afterwards: if the worker dies in
        between, the message stays in its queue and is set aside once more."""
        with redis_errors(self.client):
            self._add(queue, message, reason).execute()

    def keep_broadcast(self, name: str, message: bytes, reason: str) -> None:
        """Set aside a broadcast that every worker receives: the first worker stores it. Two
        calls."""
        digest = hashlib.sha256(message).hexdigest()
        with redis_errors(self.client):
            seen = self.keys.set_aside_seen(digest)
            if self.client.set(seen, "1", nx=True, ex=SEEN_SECONDS):
                self._add(name, message, reason).execute()

    def keep_due(self, member: bytes, reason: str) -> None:
        """Set aside a malformed member of the message schedule, and remove it there."""
        with redis_errors(self.client):
            pipeline = self._add(self.keys.deferred, member, reason)
            pipeline.zrem(self.keys.deferred, member)
            pipeline.execute()

    def keep_noted(self, unacked: str, index: str, tag: str, noted: bytes, reason: str) -> None:
        """Set aside an unacknowledged message that cannot return to its queue."""
        with redis_errors(self.client):
            pipeline = self._add(unacked, noted, reason)
            pipeline.hdel(unacked, tag)
            pipeline.zrem(index, tag)
            pipeline.execute()

    def count(self) -> int:
        """The number of stored messages."""
        with redis_errors(self.client):
            return int(self.client.xlen(self.keys.set_aside))

    def ever(self) -> int:
        """The number of messages ever set aside, including those no longer stored."""
        with redis_errors(self.client):
            return int(self.client.get(self.keys.set_aside_count) or 0)

    def newest(self) -> list[SetAsideMessage]:
        """All stored messages, newest first."""
        with redis_errors(self.client):
            found: Any = self.client.xrevrange(self.keys.set_aside)
        return [_message(text(entry_id), fields) for entry_id, fields in found]

    def drop(self, message_id: str) -> None:
        """Drop one message. Raises `TaskNotFound` if there is none with this id."""
        name = message_id.removeprefix(PREFIX)
        with redis_errors(self.client):
            known = ENTRY.fullmatch(name) and self.client.xdel(self.keys.set_aside, name)
        if not known:
            raise TaskNotFound(
                f"no message {message_id} is set aside; `fleet dead list` shows them"
            )

    def _add(self, queue: str, message: bytes, reason: str) -> Any:
        pipeline = self.client.pipeline(transaction=True)
        values = (queue, reason[:MAX_REASON], len(message), message[:MAX_BYTES])
        fields: Any = dict(zip(FIELDS, values, strict=True))
        pipeline.xadd(self.keys.set_aside, fields, maxlen=MAX_KEPT, approximate=False)
        pipeline.incr(self.keys.set_aside_count)
        return pipeline


def _message(entry_id: str, fields: dict[Any, Any]) -> SetAsideMessage:
    found = {text(name): text(value) for name, value in fields.items()}
    queue, reason, size, message = (found[name] for name in FIELDS)
    return SetAsideMessage(PREFIX + entry_id, queue, reason, int(size), message)
