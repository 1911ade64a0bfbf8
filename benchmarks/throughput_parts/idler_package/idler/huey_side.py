"""Huey's side: Redis, no results. It acknowledges nothing: what a dead worker held is lost."""

from __future__ import annotations

import os
import time

from huey import RedisHuey

from idler.tally import mark

huey = RedisHuey("idler", url=os.environ["IDLER_BROKER_URL"], results=False)


@huey.task()
def idle(seconds: float) -> None:
    """Wait, or do nothing."""
    if seconds:
        time.sleep(seconds)
    mark()
