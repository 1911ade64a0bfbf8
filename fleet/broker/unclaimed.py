"""Deliveries that a live worker holds and that nobody begins: its pool child hangs, or was stopped.

The worker renews what it holds, so such a delivery would stay with it for as long as it lives.
What its pool has had for as long as an agent may be silent, and whose record still says `queued`,
goes back for another to run. The record decides: a task that runs was claimed, however long it
takes, and a plain one of Celery has none. The slot stays taken until Celery hears of the child,
which is of no use to another task. Should the child go on after all, the task runs for whoever
claims it first, and the other delivery is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fleet.redis.keys import Keys


class Unclaimed:
    """What one consumer holds, and since when, as its looks have seen it. Moments are monotonic."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def overdue(self, held: Iterable[str], now: float, seconds: float) -> list[str]:
        """The delivery tags that were held at a look so many seconds ago, or before."""
        self._since = {tag: self._since.get(tag, now) for tag in held}
        return [tag for tag, since in self._since.items() if now - since >= seconds]

    def let_go(self, tag: str) -> None:
        """This one has gone back: it is not asked about again."""
        self._since[tag] = math.inf


def queued(client: Any, keys: Keys, messages: Mapping[str, Any]) -> dict[str, str]:
    """Of some deliveries, by their tag, the ids of the tasks that nobody has claimed."""
    ids = {tag: message.headers.get("id") for tag, message in messages.items()}
    pipeline = client.pipeline(transaction=False)
    for task_id in ids.values():
        pipeline.hget(keys.task(str(task_id)), "state")
    states = pipeline.execute()
    pairs = zip(ids.items(), states, strict=True)
    return {tag: str(task_id) for (tag, task_id), state in pairs if state == b"queued"}
