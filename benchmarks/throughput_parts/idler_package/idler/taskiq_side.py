"""Taskiq's side: the broker over Redis streams, the one that acknowledges. No results."""

from __future__ import annotations

import asyncio
import os

from taskiq_redis import RedisStreamBroker

from idler.tally import mark

broker = RedisStreamBroker(url=os.environ["IDLER_BROKER_URL"])


@broker.task
async def idle(seconds: float) -> None:
    """Wait, or do nothing."""
    if seconds:
        await asyncio.sleep(seconds)
    mark()
