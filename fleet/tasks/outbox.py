"""Hands messages over to a RabbitMQ, where one carries them. See `fleet/tasks/outbox_store.py`.

The publisher does it right after its atomic step; workers look twice a second and beat every few
seconds, for what a publisher that died has left and for what scripts have queued again. Beat also
looks after what RabbitMQ has confirmed, and may have lost since
(`fleet/tasks/handed_over_store.py`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from fleet.errors import FleetError, MalformedMessage
from fleet.tasks.handed_over_store import HandedOver
from fleet.tasks.outbox_store import MOST_AT_ONCE, Letter, Outbox

if TYPE_CHECKING:
    from fleet.broker.rabbitmq import RabbitMq

MOST_ROUNDS = 100
REST_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Relay:
    """May run in many places at once, and die anywhere."""

    def __init__(self, outbox: Outbox, handed_over: HandedOver, rabbitmq: RabbitMq) -> None:
        self.outbox = outbox
        self.handed_over = handed_over
        self.rabbitmq = rabbitmq
        self._rests_until = 0.0

    def run(self) -> int:
        """Hand over what waits; how many. Where RabbitMQ is away it waits on, and a warning in the
        log says so: it is safe in Redis. Then nobody in this process asks it for a while."""
        done = 0
        if time.monotonic() < self._rests_until:
            return done
        for _ in range(MOST_ROUNDS):
            try:
                letters = self.outbox.take()
                if not letters:
                    break
                self._hand_over(letters)
            except FleetError as error:
                self._rests_until = time.monotonic() + REST_SECONDS
                log.warning("messages wait in Redis for RabbitMQ", error=str(error))
                break
            done += len(letters)
        return done

    def _hand_over(self, letters: list[Letter]) -> None:
        good = [letter for letter in letters if self._is_message(letter)]
        if good:
            self.rabbitmq.publish([(letter.queue, letter.message) for letter in good])
            self.outbox.done(good)

    def _is_message(self, letter: Letter) -> bool:
        """Whether it can be handed over; else it is set aside, and keeps no others waiting."""
        try:
            self.rabbitmq.check(letter.message)
        except MalformedMessage as error:
            log.error("a malformed message is set aside", queue=letter.queue, reason=str(error))
            self.outbox.set_aside(letter, str(error))
            return False
        return True

    def rescue(self, pool: str, queue: str, overflow_queue: str) -> list[str]:
        """Move what waits for a pool without live agents to where others may take it."""
        try:
            moved = self.rabbitmq.move(queue, overflow_queue, MOST_AT_ONCE)
        except FleetError as error:
            log.warning("nothing could be rescued from RabbitMQ", pool=pool, error=str(error))
            return []
        self.outbox.free_slots(pool, moved)
        self.handed_over.moved(queue, overflow_queue, moved)
        return moved

    def resend_missed(self, patience_seconds: float) -> list[str]:
        """Queue the tasks again that RabbitMQ has given out, or lost, and that nobody has begun in
        so many seconds; their ids."""
        for queue in self.handed_over.queues:
            try:
                self._note_who_left(queue, round(patience_seconds * 1000))
            except FleetError as error:
                # It may be this queue alone, such as one without its quorum: on to the next one.
                log.warning(
                    "what RabbitMQ has could not be counted", queue=queue, error=str(error)
                )
        return [each for name in self.handed_over.queues for each in self.handed_over.resend(name)]

    def _note_who_left(self, queue: str, patience_ms: int) -> None:
        for _ in range(MOST_ROUNDS):
            look = self.handed_over.look(queue)
            if not look.first:
                break
            messages = self.rabbitmq.count(queue)
            if self.handed_over.left(look, messages, patience_ms) < len(look.first):
                break
