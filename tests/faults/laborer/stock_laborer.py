"""The same work as a plain task of stock Celery, set up as careful users do it.

Acknowledged late, given back where a pool's child is lost, one message a slot. The visibility
timeout is the test's, from LABOR_VISIBILITY; all else is as Celery ships it.
"""

from __future__ import annotations

import os
import time
from typing import Any
from uuid import uuid4

from celery import Celery
from labor_diary import note

app = Celery("stock")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": float(os.environ.get("LABOR_VISIBILITY", 6))},
)


@app.task(name="labor", bind=True)
def labor(self: Any, seconds: float) -> None:
    """Wait, and write it down."""
    run = uuid4().hex
    note("begun", self.request.id, run)
    time.sleep(seconds)
    note("done", self.request.id, run)
