"""The link from a channel of Fleet's transport to its fleet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.settings.addresses import RedisAddress

PlaceTask = Callable[[dict[str, Any], str], bool]
"""Places a message (as a dictionary, and as its text) in the pool that its plan ranks best. Returns
False if the message is no task that Fleet's router has planned."""


@dataclass(frozen=True, slots=True)
class Link:
    """A channel's facts about its fleet; stored in `broker_transport_options["fleet"]`.

    `pool` and `agent` are empty in a process that is no agent. `queues` are those that the worker
    serves, by priority. `max_bytes` bounds a message, `address` names the Sentinels.
    """

    tag: str
    place: PlaceTask
    pool: str = ""
    agent: str = ""
    queues: Sequence[str] = field(default_factory=tuple)
    dead_after_ms: int = 60_000
    max_bytes: int = 64 * 1024 * 1024
    address: RedisAddress | None = None

    def __json__(self) -> str:
        """The text that a worker's statistics show."""
        return self.tag

    def owns(self, queue: str) -> bool:
        """Whether a queue is one of the fleet's."""
        return queue.startswith(self.tag + ".")

    def is_overflow(self, queue: str) -> bool:
        """Whether tasks that wait in a queue hold no slot yet."""
        return queue.startswith(self.tag + ".overflow.")

    def kind(self, queue: str) -> str:
        """The kind of a queue for `fetch.lua`: beat's jobs, the pool's own, an overflow queue, or
        any other one, whose tasks take no slot of the pool."""
        if self.is_overflow(queue):
            return "overflow"
        if queue == self.tag + ".jobs":
            return "jobs"
        return "own" if self.pool and queue == f"{self.tag}.{self.pool}" else "other"
