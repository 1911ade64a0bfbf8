"""Stock Celery's side: a plain application, its address from CELERY_BROKER_URL.

Set up as Celery's documentation recommends for tasks that take long ("Optimizing",
"Prefetch Limits"): acknowledged late and one message a slot, so that nothing lies in a
worker that is busy; results ignored, since nobody reads them.
"""

from __future__ import annotations

import time

from celery import Celery

from sleeper.diary import note, seconds_here

app = Celery("stock")
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


@app.task(name="nap")
def nap(number: int, work: float) -> None:
    """Wait."""
    started = time.time()
    time.sleep(seconds_here(work))
    note(number, started)
