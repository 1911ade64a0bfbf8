"""The messages that a consumer holds and has not acknowledged; see the channel beside it.

A worker's acknowledgements wait for its event loop, which sends all that have come together at
its very next poll: with a fetch, or by themselves. The slot is free at once. A worker that dies in
between leaves messages of tasks that have ended: they are delivered again and, as the record says
so, dropped.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

import structlog
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str

from fleet.broker.rules.prefetch import Pace
from fleet.errors import MalformedMessage
from fleet.redis.keys import Keys

RESTORE_AT_ONCE = 100

MAX_DRIFT_SECONDS = 2.0
"""By which two clocks may differ from one look to the next."""

log = structlog.get_logger(__name__)


class QoS(redis.QoS):
    """Messages that `fetch.lua` took are noted as unacknowledged already."""

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self._done: deque[str] = deque()
        self._ended: set[str] = set()
        self._unclaimed = Unclaimed()
        #: Redis's time at the last look, and the monotonic one; 0 before the first.
        self._time_seen = (0.0, 0.0)
        #: How many messages may wait for their acknowledgement without a slot, see `slots.py`.
        self.max_ended = 0
        self.pace = Pace(0)
        #: What the worker has begun, see `known_deliveries.py`.
        self.known_deliveries: Callable[[], set[str]] = set
        #: Whether a task has the process to itself, see `slots.py`.
        self.is_closed: Callable[[], bool] = bool

    def end(self, delivery_tag: str) -> None:
        """A message needs its slot no more, though it is still to be acknowledged."""
        is_held = delivery_tag in self._delivered and delivery_tag not in self._dirty
        if is_held and len(self._ended) < self.max_ended:
            self._ended.add(delivery_tag)
        self.pace.end(monotonic())

    def can_consume(self) -> bool:
        return self.room()[0] > 0

    def can_consume_max_estimate(self) -> int | None:
        return self.room()[0] if self.prefetch_count else None

    def room(self) -> tuple[int, int]:
        """How many messages may be taken now, and how many of them ahead of their slots."""
        if not self.prefetch_count:
            return 1, 0
        if self.is_closed():
            return 0, 0
        ahead = self.ahead()
        most = max(self.free_slots(ahead), 0)
        return most, min(ahead, most)

    def ahead(self) -> int:
        """How many messages of agents' tasks may be taken ahead of their slots: only where so many
        wait that another worker, which has a slot, has enough of them too."""
        return self.pace.ahead(monotonic()) if self.channel.more_waits else 0

    def free_slots(self, ahead: int = 0) -> int:
        """How many messages may be taken whose tasks start at once, and so many ahead."""
        # Asked at each turn of the loop, mostly while all slots are taken: then counting will do.
        most = self.prefetch_count + ahead - len(self._delivered) + len(self._dirty | self._ended)
        if most <= 0:
            return int(most)
        held = (self._delivered.keys() - self._dirty) | self.known_deliveries()
        return int(self.prefetch_count) + ahead - len(held - self._ended)

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag in self.channel.noted:
            self.channel.noted.discard(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        self._ended.discard(delivery_tag)
        if self.channel.has_event_loop:
            # Celery acknowledges from the loop, also where the task ran in a thread.
            virtual.QoS.ack(self, delivery_tag)
            self._done.append(delivery_tag)
            return
        with self._let_go(delivery_tag):
            super().ack(delivery_tag)

    def take_done(self) -> list[str]:
        """The messages that are done with and still noted; the caller has to acknowledge them."""
        taken = []
        while self._done:
            taken.append(self._done.popleft())
        return taken

    def keep_done(self, tags: list[str]) -> None:
        """Take messages back that could not be acknowledged now."""
        self._done.extend(tags)

    def acknowledge_done(self) -> None:
        """Acknowledge what is done with."""
        tags = self.take_done()
        if not tags:
            return
        try:
            with self.pipe_or_acquire() as pipe:
                pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags).execute()
        except Exception:
            self.keep_done(tags)
            raise

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """The end of the channel: acknowledge what is done with, give back the rest."""
        try:
            self.acknowledge_done()
        except Exception as error:
            log.warning("ended tasks stay unacknowledged for a while", error=str(error))
        super().restore_unacked_once(stderr)

    def restore_unacked(self, client: Any = None) -> None:
        """Give back all that is held. One that cannot go back does not keep the others."""
        with self.channel.conn_or_acquire(client) as found:
            for tag in self._delivered:
                self._restore(tag, found)
        self._delivered.clear()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._ended.discard(delivery_tag)
        with self._let_go(delivery_tag):
            super().reject(delivery_tag, requeue)

    @contextmanager
    def _let_go(self, delivery_tag: str) -> Iterator[None]:
        """A message is done with here, whatever Redis says to it: its slot is free again.

        Celery logs an error of the connection and goes on. The message would take a slot, and
        be renewed, for as long as the worker lives; let go, it comes back in time.
        """
        try:
            yield
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Renew what this consumer holds; give back what nobody renews, or nobody begins."""
        if self.channel.fleet is None:
            super().restore_visible(start, num, interval)
            return
        with self.channel.conn_or_acquire() as client:
            now = self._renew(client)
            was_set = self._was_set(now)
            if self._delivered:
                self._give_back_unclaimed(client)
            if was_set:
                return
            overdue = client.zrangebyscore(
                self.unacked_index_key, 0, now - self.visibility_timeout, 0, RESTORE_AT_ONCE
            )
            for tag in overdue:
                self._restore(bytes_to_str(tag), client)

    def _was_set(self, now: float) -> bool:
        """Whether somebody has set Redis's clock since the last look: then it says nothing of how
        long others have been silent. `redis/lua/clock.lua` puts that right before the next look."""
        before, self._time_seen = self._time_seen, (now, monotonic())
        passed = self._time_seen[1] - before[1]
        return abs(now - before[0] - passed) > MAX_DRIFT_SECONDS if before[0] else False

    def renew(self) -> None:
        """Say that this consumer still holds what it holds; from any thread."""
        with self.channel.conn_or_acquire() as client:
            self._renew(client)

    def _renew(self, client: Any) -> float:
        """The time by Redis's clock."""
        seconds, micros = client.time()
        now = float(seconds + micros / 1e6)
        held = dict.fromkeys(tuple(self._delivered), now)
        if held:
            client.zadd(self.unacked_index_key, held, xx=True)
        return now

    def _give_back_unclaimed(self, client: Any) -> None:
        # What waits in the worker for its rate limit is not handed to its pool yet.
        handed_over = self.known_deliveries()
        held = {tag: each for tag, each in dict(self._delivered).items() if tag in handed_over}
        overdue = self._unclaimed.overdue(held, monotonic(), self.visibility_timeout)
        if not overdue:
            return
        messages = {tag: held[tag] for tag in overdue}
        found = queued(client, Keys(self.channel.fleet.tag), messages)
        for tag, task_id in found.items():
            self._restore(tag, client)
            self._unclaimed.let_go(tag)
            log.warning("nobody here has begun a task; it goes back", task=task_id)

    def _restore(self, tag: str, client: Any) -> None:
        if self.channel.fleet is None:
            self.restore_by_tag(tag, client)
            return
        try:
            self.restore_by_tag(tag, client)
        except (MalformedMessage, ValueError, TypeError, RecursionError) as error:
            # A stranger's: it must not keep the others from coming back.
            reason = f"it cannot go back to its queue: {error}"
            log.error("a malformed message is set aside", tag=tag, reason=reason)
            noted = client.hget(self.unacked_key, tag) or b""
            where = (self.unacked_key, self.unacked_index_key, tag)
            self.channel.set_aside.keep_noted(*where, noted, reason)


# Deliveries that a live worker holds and that nobody begins: its pool child hangs, or was stopped.
#
# The worker renews what it holds, so such a delivery would stay with it for as long as it lives.
# What its pool has had for as long as an agent may be silent, and whose record still says `queued`,
# goes back for another to run. The record decides: a task that runs was claimed, however long it
# takes, and a plain one of Celery has none. The slot stays taken until Celery hears of the child,
# which is of no use to another task. Should the child go on after all, the task runs for whoever
# claims it first, and the other delivery is dropped.

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
