"""The messages that a consumer holds and has not acknowledged, see `channel.py`.

A worker's acknowledgements wait for its event loop. Its next poll sends all of them together, with
a fetch or by themselves. The slot is free at once. A worker that dies in between leaves messages of
ended tasks: they are delivered again, and dropped because of their records.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str

from fleet.broker.rules.prefetch import Pace
from fleet.errors import MalformedMessage
from fleet.redis.keys import Keys
from fleet.telemetry.logger import get_logger

RESTORE_AT_ONCE = 100

MAX_DRIFT_SECONDS = 2.0
"""By how much two clocks may differ from one check to the next."""

log = get_logger(__name__)


class QoS(redis.QoS):
    """Messages that `fetch.lua` took are noted as unacknowledged already."""

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        self._done: deque[str] = deque()
        self._ended: set[str] = set()
        self._unclaimed = Unclaimed()
        #: Redis's time at the last check, and the monotonic one; 0 before the first.
        self._time_seen = (0.0, 0.0)
        #: How many messages may wait for their acknowledgement without a slot, see `slots.py`.
        self.max_ended = 0
        self.pace = Pace(0)
        #: The delivery tags of the tasks that the worker has begun, see `deliveries.py`.
        self.known_deliveries: Callable[[], set[str]] = set
        #: Whether a task has the process to itself, see `slots.py`.
        self.is_closed: Callable[[], bool] = bool

    def end(self, delivery_tag: str) -> None:
        """Free the slot of a message that is not acknowledged yet."""
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
        """How many messages of agents' tasks may be taken ahead of their slots: none unless enough
        wait for the workers that have free slots too."""
        return self.pace.ahead(monotonic()) if self.channel.has_more else 0

    def free_slots(self, ahead: int = 0) -> int:
        """How many messages may be taken: one for each free slot, and `ahead` more."""
        # The loop calls this at each turn, mostly while all slots are taken: then this count is
        # enough.
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
            # Celery acknowledges from the loop, even if the task ran in a thread.
            virtual.QoS.ack(self, delivery_tag)
            self._done.append(delivery_tag)
            return
        with self._forgetting(delivery_tag):
            super().ack(delivery_tag)

    def take_done(self) -> list[str]:
        """The done messages that are still noted; the caller has to acknowledge them."""
        taken = []
        while self._done:
            taken.append(self._done.popleft())
        return taken

    def keep_done(self, tags: list[str]) -> None:
        """Add messages again whose acknowledgement failed."""
        self._done.extend(tags)

    def acknowledge_done(self) -> None:
        """Acknowledge all done messages."""
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
        """At the end of the channel, acknowledge done messages and requeue the others."""
        try:
            self.acknowledge_done()
        except Exception as error:
            log.warning("acknowledging ended tasks failed, to be redelivered", error=str(error))
        super().restore_unacked_once(stderr)

    def restore_unacked(self, client: Any = None) -> None:
        """Requeue all held messages. One that cannot be requeued does not stop the others."""
        with self.channel.conn_or_acquire(client) as found:
            for tag in self._delivered:
                self._restore(tag, found)
        self._delivered.clear()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._ended.discard(delivery_tag)
        with self._forgetting(delivery_tag):
            super().reject(delivery_tag, requeue)

    @contextmanager
    def _forgetting(self, delivery_tag: str) -> Iterator[None]:
        """Free the slot of a message even if Redis answers with an error.

        Celery logs an error of the connection and continues. The message would take a slot, and
        be renewed, for as long as the worker lives; forgotten, it is requeued after the timeout.
        """
        try:
            yield
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Renew the held messages; requeue those that nobody renews, or whose tasks never begin."""
        if self.channel.fleet is None:
            super().restore_visible(start, num, interval)
            return
        with self.channel.conn_or_acquire() as client:
            now = self._renew(client)
            was_set = self._was_set(now)
            if self._delivered:
                self._requeue_unclaimed(client)
            if was_set:
                return
            overdue = client.zrangebyscore(
                self.unacked_index_key, 0, now - self.visibility_timeout, 0, RESTORE_AT_ONCE
            )
            for tag in overdue:
                self._restore(bytes_to_str(tag), client)

    def _was_set(self, now: float) -> bool:
        """Whether Redis's clock was set since the last check: then it does not show how long other
        workers have been silent. `redis/lua/clock.lua` corrects that before the next check."""
        before, self._time_seen = self._time_seen, (now, monotonic())
        passed = self._time_seen[1] - before[1]
        return abs(now - before[0] - passed) > MAX_DRIFT_SECONDS if before[0] else False

    def renew(self) -> None:
        """Renew the messages that this consumer holds; from any thread."""
        with self.channel.conn_or_acquire() as client:
            self._renew(client)

    def _renew(self, client: Any) -> float:
        """Renew the held messages. Returns Redis's time, in seconds."""
        seconds, micros = client.time()
        now = float(seconds + micros / 1e6)
        held = dict.fromkeys(tuple(self._delivered), now)
        if held:
            client.zadd(self.unacked_index_key, held, xx=True)
        return now

    def _requeue_unclaimed(self, client: Any) -> None:
        # A task that waits in the worker for its rate limit is not handed to the pool yet.
        handed_over = self.known_deliveries()
        held = {tag: each for tag, each in dict(self._delivered).items() if tag in handed_over}
        overdue = self._unclaimed.overdue(held, monotonic(), self.visibility_timeout)
        if not overdue:
            return
        messages = {tag: held[tag] for tag in overdue}
        found = queued(client, Keys(self.channel.fleet.tag), messages)
        for tag, task_id in found.items():
            self._restore(tag, client)
            self._unclaimed.forget(tag)
            log.warning("no process has claimed a task in time, requeueing", task=task_id)

    def _restore(self, tag: str, client: Any) -> None:
        if self.channel.fleet is None:
            self.restore_by_tag(tag, client)
            return
        try:
            self.restore_by_tag(tag, client)
        except (MalformedMessage, ValueError, TypeError, RecursionError) as error:
            # It must not stop the others from being requeued.
            reason = f"it cannot be requeued: {error}"
            log.error("setting a malformed message aside", tag=tag, reason=reason)
            noted = client.hget(self.unacked_key, tag) or b""
            where = (self.unacked_key, self.unacked_index_key, tag)
            self.channel.set_aside.keep_noted(*where, noted, reason)


class Unclaimed:
    """Finds deliveries that a live worker holds and whose tasks never begin, because the pool child
    hangs or was stopped. Times are monotonic, in seconds.

    The worker renews the messages that it holds, so such a delivery would stay with it for as long
    as it lives. If the pool has had a delivery for as long as an agent may be silent, and its
    record is still `queued`, it is requeued. The record decides: a running task was claimed,
    however long it takes, and a plain task has no record. The slot stays taken until Celery hears
    of the child, since the child could not run another task either. If the child continues after
    all, the process that claims the task first runs it, and the other delivery is dropped.
    """

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def overdue(self, held: Iterable[str], now: float, seconds: float) -> list[str]:
        """The delivery tags that were already held at a check at least `seconds` ago."""
        self._since = {tag: self._since.get(tag, now) for tag in held}
        return [tag for tag, since in self._since.items() if now - since >= seconds]

    def forget(self, tag: str) -> None:
        """Do not report this delivery again: it is requeued."""
        self._since[tag] = math.inf


def queued(client: Any, keys: Keys, messages: Mapping[str, Any]) -> dict[str, str]:
    """The ids of unclaimed tasks among some deliveries, by delivery tag."""
    ids = {tag: message.headers.get("id") for tag, message in messages.items()}
    pipeline = client.pipeline(transaction=False)
    for task_id in ids.values():
        pipeline.hget(keys.task(str(task_id)), "state")
    states = pipeline.execute()
    pairs = zip(ids.items(), states, strict=True)
    return {tag: str(task_id) for (tag, task_id), state in pairs if state == b"queued"}
