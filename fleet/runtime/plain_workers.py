"""A worker that is no agent, such as one of a user's own tasks alone.

The application knows the queues of all pools, since it publishes to them. A worker that is not told
what to serve would serve them all, and throw tasks away that are for agents.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps


def add_plain_queues(app: Celery, queue: str) -> None:
    """Let the application's workers serve `queue` alone, where `-Q` names nothing."""

    class PlainQueues(bootsteps.Step):
        """Made once the worker knows its queues, and before it serves them."""

        def __init__(self, worker: Any, **options: Any) -> None:
            super().__init__(worker, **options)
            queues = worker.app.amqp.queues
            if set(queues.consume_from) == set(queues):
                queues.select([queue])

    app.steps["worker"].add(PlainQueues)
