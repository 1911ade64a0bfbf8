"""Runs work that holds the processor in a thread, and waits for it to end when cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import TypeVar

from fleet.agent import to_the_end

T = TypeVar("T")


async def in_thread(work: Callable[[Event], T]) -> T:
    """Run `work` in a thread. Cancelled, set its event and let it end before going on.

    A thread cannot be stopped from outside, and one left running would read files, and hold
    the scanner's lock, on behalf of a task that is over.
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
