"""Runs CPU-bound work in a thread, and waits for its end when cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import TypeVar

from fleet.agent import to_the_end

T = TypeVar("T")


async def in_thread(work: Callable[[Event], T]) -> T:
    """Run `work` in a thread. On cancellation, set its event and wait for its end.

    A thread cannot be stopped from outside. A thread left running would read files and keep the
    scanner's lock for a task that is over.
    """
    stop = Event()
    job = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        stop.set()
        with suppress(Exception):
            await to_the_end(job)
        raise
