"""Dramatiq's side: its Redis broker with the middleware that it comes with. No results."""

from __future__ import annotations

import os
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from idler.tally import mark

dramatiq.set_broker(RedisBroker(url=os.environ["IDLER_BROKER_URL"]))


@dramatiq.actor
def idle(seconds: float) -> None:
    """Wait, or do nothing."""
    if seconds:
        time.sleep(seconds)
    mark()
