"""The user's application on stock Celery: the side that says what is right."""

from __future__ import annotations

import os

from celery import Celery
from shop_tasks import add_tasks

app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BROKER"])
app.conf.update(
    task_default_queue="shop.default",
    task_track_started=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
)
add_tasks(app)
