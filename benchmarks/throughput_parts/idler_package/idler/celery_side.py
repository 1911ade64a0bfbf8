"""Stock Celery's side: its Redis transport, acknowledged late, so that a crash loses little.

Everything else is its default. With IDLER_RESULTS set each result is kept, as Fleet keeps it.
"""

from __future__ import annotations

import os
import time

from celery import Celery

from idler.tally import mark

url = os.environ["IDLER_BROKER_URL"]
results = bool(os.environ.get("IDLER_RESULTS"))
app = Celery("idler", broker=url, backend=url if results else None)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=not results,
    broker_connection_retry_on_startup=True,
)


@app.task(name="idle")
def idle(seconds: float) -> dict[str, float]:
    """Wait, or do nothing."""
    if seconds:
        time.sleep(seconds)
    mark()
    return {"seconds": seconds}
