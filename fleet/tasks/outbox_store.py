"""The messages that wait in Redis for another broker to take them over.

Where a RabbitMQ carries the messages, each script queues its message in Redis all the same, in the
one step with the record. The queues of Redis are the outbox then: what is in them is handed over,
and dropped here once the other broker has confirmed it. What became of it then is for
`fleet/tasks/handed_over_store.py` to find out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from redis import Redis

from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys, given, line
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store
from fleet.tasks.set_aside_store import SetAside

MOST_AT_ONCE = 100
CONFIRM_MS = 10_000
"""So long a message may take to be confirmed, until another process hands it over too."""


class Letter(NamedTuple):
    """A message, as kombu writes it, and the queue that it is for. `taken` tells this taking of it
    from every other one."""

    task_id: str
    queue: str
    message: str
    taken: str


class Outbox(Store):
    """Looks into the queues of a fleet."""

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, queues: Iterable[str]
    ) -> None:
        super().__init__(client, keys, scripts)
        self.places = [each for queue in queues for each in (queue, line(queue))]

    def take(self) -> list[Letter]:
        """What is to be handed over; whoever takes it has to say when that is done."""
        keys = [self.keys.outbox, self.keys.outbox_messages, *self.places]
        with redis_errors(self.client):
            found = self.scripts.outbox(keys=keys, args=[MOST_AT_ONCE, CONFIRM_MS])
        parts = [text(each) for each in found]
        size = len(Letter._fields)
        return [Letter(*parts[at : at + size]) for at in range(0, len(parts), size)]

    def done(self, letters: Sequence[Letter]) -> int:
        """The other broker has confirmed these; how many of them nobody has taken since."""
        keys = [self.keys.outbox, self.keys.outbox_messages]
        keys += [given(letter.queue) for letter in letters]
        arguments = [each for letter in letters for each in (letter.task_id, letter.taken)]
        with redis_errors(self.client):
            return int(self.scripts.confirm(keys=keys, args=arguments))

    def set_aside(self, letter: Letter, reason: str) -> None:
        """Set aside what no broker can carry, and let go of it."""
        raw_message = letter.message.encode(errors="backslashreplace")
        SetAside(self.client, self.keys, self.scripts).keep(letter.queue, raw_message, reason)
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.zrem(self.keys.outbox, letter.task_id)
            pipeline.hdel(self.keys.outbox_messages, letter.task_id)
            pipeline.execute()

    def free_slots(self, pool: str, task_ids: Iterable[str]) -> None:
        """Take slots from tasks whose message has left the queue of their pool."""
        with redis_errors(self.client):
            for task_id in task_ids:
                held = [self.keys.pool(pool).in_flight, self.keys.task(task_id)]
                self.scripts.release(keys=held, args=[task_id, pool])
