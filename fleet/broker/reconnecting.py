"""How soon a worker is back at its broker: within seconds, however long the broker was away.

Celery's connections wait up to 30 s between two attempts, and give up after a hundred of them.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP
from kombu import Connection

FIRST_SECONDS, MORE_SECONDS, MOST_SECONDS = 1.0, 1.0, 3.0
"""Between two attempts to connect: at first, more after each, and at most."""


class SteadyConnection(Connection):
    """A connection that asks again every few seconds, unless it is told how often."""

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        if len(args) <= 2:
            options.setdefault("interval_start", FIRST_SECONDS)
            options.setdefault("interval_step", MORE_SECONDS)
            options.setdefault("interval_max", MOST_SECONDS)
        return super()._ensure_connection(*args, **options)


class SteadyAMQP(AMQP):
    """What an application makes its connections with."""

    Connection = SteadyConnection
