"""The callback and the error callback of a task, and which of them was sent."""

from __future__ import annotations

import json
import time
from typing import Any

import redis
from celery import Celery

QUEUE = "follows"
"""Nobody serves it: whoever was called back is seen in it."""


def followed(app: Celery) -> dict[str, Any]:
    """The options of a task with a callback and an error callback."""
    return {
        "link": app.signature("then", queue=QUEUE),
        "link_error": app.signature("else", queue=QUEUE),
    }


def await_followers(
    client: redis.Redis, tasks: list[str], seconds: float
) -> dict[str, list[str]]:
    """Who was called back for each task, once each has somebody, or this time is over."""
    give_up = time.monotonic() + seconds
    while True:
        found: dict[str, list[str]] = {task: [] for task in tasks}
        for text in client.lrange(QUEUE, 0, -1):
            headers = json.loads(text)["headers"]
            found.get(headers["parent_id"], []).append(headers["task"])
        if all(found.values()) or time.monotonic() > give_up:
            return found
        time.sleep(0.1)
