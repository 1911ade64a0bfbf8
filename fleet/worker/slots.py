"""Slots that are free when an agent ends, and taken again at once.

A slot is for an agent that runs. What comes after it, writing the end and telling Celery of it,
takes a round trip and some turns of the interpreter; meanwhile the next task is fetched. So a
worker of threads has a few more of them than slots. No more agents run than there are slots, and
where ends cannot be written, the spare threads are soon taken and nothing more is fetched.

Under load a few tasks are fetched ahead of their slots, see `fleet.broker.rules.prefetch`. They are
claimed, and wait in the agents' loop, which starts one in the moment in which another ends. One
that gets no slot soon is given back, for another worker to run. While a task has the process to
itself, or waits for that, nothing is fetched.

Plain tasks have no end before they are written, and nobody could give one back. So none is fetched
ahead. One that comes while all slots are taken, as when its time has come, waits for the next.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from celery import Celery, bootsteps
from celery.concurrency.thread import TaskPool

from fleet.broker.rules.prefetch import Pace
from fleet.tasks.leases.slots import TaskSlots
from fleet.worker.slot_threads import SlotThreads

SLOTS_FOR_A_SPARE = 2


def spares(slots: int) -> int:
    """How many tasks of so many slots may be past their agent's end and not yet written, and how
    many may be fetched ahead."""
    return max(1, slots // SLOTS_FOR_A_SPARE)


class Slots:
    """The slots of a worker's process, and what its agents tell of their ends to the consumer that
    fetches for them."""

    def __init__(self, count: int = 1) -> None:
        self.tasks = TaskSlots(count)
        self._hub: Any = None
        self._qos: Any = None
        self._alone: set[str] = set()

    def serve(self, hub: Any, qos: Any, slots: int) -> None:
        """Tell this consumer from now on. Celery's own bound to what it takes, which knows nothing
        of ends that are being written, gives way to the transport's."""
        vars(qos).pop("can_consume", None)
        qos.max_ended = spares(slots)
        qos.pace = Pace(spares(slots))
        qos.is_closed = lambda: bool(self._alone)
        self._hub, self._qos = hub, qos

    def leave(self) -> None:
        """Tell nobody."""
        self._hub = self._qos = None

    def close(self, delivery_tag: str) -> None:
        """A delivery wants the process to itself, until its agent has ended; from any thread."""
        self._alone.add(delivery_tag)

    def free(self, delivery_tag: str) -> None:
        """The agent of a delivery has ended; from any thread."""
        self._alone.discard(delivery_tag)
        hub, qos = self._hub, self._qos
        if hub is not None and delivery_tag:
            hub.call_soon(qos.end, delivery_tag)


def add_spare_threads(app: Celery, slots: Slots, agent_tasks: Collection[str]) -> None:
    """Give the application's workers of threads the spare ones, of which no more run than there are
    slots."""

    class SpareThreads(bootsteps.StartStopStep):
        """Widens the pool before it takes its first task. Its size, which Celery shows and reckons
        with, stays the number of slots."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            pool = worker.pool
            if isinstance(pool, TaskPool):
                slots.tasks.limit_to(pool.limit)
                threads = pool.limit + 2 * spares(pool.limit)
                pool.executor = SlotThreads(threads, slots.tasks, agent_tasks)

        def stop(self, worker: Any) -> None:
            """The pool's own stop ends its threads."""

        terminate = stop

    app.steps["worker"].add(SpareThreads)
