"""A slot comes free when its agent ends, and the next task takes it at once.

Only a running agent needs a slot. Afterwards the outcome is written and Celery is notified, which
takes a round trip and some turns of the interpreter; meanwhile the next task is fetched. So a
worker of threads has a few more threads than slots. No more agents run than there are slots. If
outcomes cannot be written, the spare threads are soon taken, and no more tasks are fetched.

Under load a few tasks are fetched ahead of their slots, see `fleet.broker.rules.prefetch`. They are
claimed, and wait in the agents' loop, which starts one as soon as another ends. A task that gets no
slot soon is requeued for another worker. While a task has the process to itself, or waits for that,
no tasks are fetched.

A plain task keeps its slot until its result is stored, and it cannot be requeued safely. So none
is fetched ahead. A plain task that arrives while all slots are taken, as a due one may, waits for
the next free slot.
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
    """How many tasks may wait for their outcome to be written after their agent's end, and how many
    may be fetched ahead, for a number of slots."""
    return max(1, slots // SLOTS_FOR_A_SPARE)


class Slots:
    """The slots of a worker's process. It reports the ends of agents to the consumer that fetches
    tasks for them."""

    def __init__(self, count: int = 1) -> None:
        self.tasks = TaskSlots(count)
        self._hub: Any = None
        self._qos: Any = None
        self._alone: set[str] = set()

    def serve(self, hub: Any, qos: Any, slots: int) -> None:
        """Report to this consumer from now on. The transport's limit replaces Celery's own one,
        which does not know of outcomes that are being written."""
        vars(qos).pop("can_consume", None)
        qos.max_ended = spares(slots)
        qos.pace = Pace(spares(slots))
        qos.is_closed = lambda: bool(self._alone)
        self._hub, self._qos = hub, qos

    def leave(self) -> None:
        """Stop reporting."""
        self._hub = self._qos = None

    def close(self, delivery_tag: str) -> None:
        """Reserve the process for a delivery until its agent has ended; from any thread."""
        self._alone.add(delivery_tag)

    def free(self, delivery_tag: str) -> None:
        """Free the slot of a delivery whose agent has ended; from any thread."""
        self._alone.discard(delivery_tag)
        hub, qos = self._hub, self._qos
        if hub is not None and delivery_tag:
            hub.call_soon(qos.end, delivery_tag)


def add_spare_threads(app: Celery, slots: Slots, agent_tasks: Collection[str]) -> None:
    """Give the application's workers of threads their spare threads. No more tasks run than there
    are slots."""

    class SpareThreads(bootsteps.StartStopStep):
        """Replaces the pool's executor before its first task. The pool's size, which Celery shows
        and calculates with, stays the number of slots."""

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
