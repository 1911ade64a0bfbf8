"""Taskiq's side: the broker over Redis streams, the one that acknowledges. No results."""

from __future__ import annotations

import asyncio
import os

from taskiq_redis import RedisStreamBroker

from idler.tally import mark

# A worker that stands still while a queue is filled must not take the server for dead: its listener
# would end, and with redis-py's five seconds it does on a busy machine.
broker = RedisStreamBroker(url=os.environ["IDLER_BROKER_URL"], socket_timeout=60)


@broker.task
async def idle(seconds: float) -> None:
    """Wait, or do nothing."""
    if seconds:
        await asyncio.sleep(seconds)
    mark()
