"""The slots of one process: they bound its concurrent tasks.

Agents request slots in the event loop, plain tasks in threads. Requests are served in order, so
neither kind starves the other, and plain tasks do not wait for an event loop that an agent blocks.
A task that requests all slots waits until all others have ended, and later requests wait for it: so
it runs alone in the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True, slots=True, eq=False)
class SlotRequest:
    """A request for `wanted` slots. `granted` is called, from any thread, when they are
    assigned."""

    wanted: int
    granted: Callable[[], None]


class TaskSlots:
    """A number of slots; safe for threads and event loops."""

    def __init__(self, count: int) -> None:
        self._count = self._free = count
        self._guard = threading.Lock()
        self._requests: deque[SlotRequest] = deque()

    @property
    def count(self) -> int:
        """The number of slots."""
        return self._count

    def limit_to(self, most: int) -> None:
        """Reduce the slots to at most `most`. Call it before any slot is taken."""
        with self._guard:
            spare = max(0, self._count - most)
            self._count -= spare
            self._free -= spare

    def request(self, granted: Callable[[], None], wanted: int = 1) -> SlotRequest:
        """Request slots; `granted` is called once they are assigned, at once if they are free.

        The caller has to `release` assigned slots, or to `withdraw` the request.
        """
        request = SlotRequest(wanted, granted)
        with self._guard:
            self._requests.append(request)
            served = self._served()
        _notify(served)
        return request

    def withdraw(self, request: SlotRequest) -> None:
        """Withdraw a request; slots already assigned go to the next requests."""
        with self._guard:
            if request in self._requests:
                self._requests.remove(request)
            else:
                self._free += request.wanted
            served = self._served()
        _notify(served)

    def release(self, count: int = 1) -> None:
        """Free slots; the earliest request gets them."""
        with self._guard:
            self._free += count
            served = self._served()
        _notify(served)

    async def take(self, wanted: int = 1, timeout_seconds: float | None = None) -> None:
        """Wait for slots in an event loop. Raises `TimeoutError` if they do not come free in
        time."""
        if self._take_free(wanted):
            return
        loop = asyncio.get_running_loop()
        granted = loop.create_future()
        request = self.request(partial(_settle_in, loop, granted), wanted)
        try:
            async with asyncio.timeout(timeout_seconds):
                await granted
        except BaseException:
            self.withdraw(request)
            raise

    def _take_free(self, wanted: int) -> bool:
        """Take free slots if no request waits: the usual case, which needs no future."""
        with self._guard:
            are_free = not self._requests and self._free >= wanted
            self._free -= wanted * are_free
        return are_free

    def _served(self) -> list[SlotRequest]:
        """Assign free slots to the earliest requests; notify these without holding the guard."""
        served = []
        while self._requests and self._requests[0].wanted <= self._free:
            served.append(self._requests.popleft())
            self._free -= served[-1].wanted
        return served


def _notify(served: list[SlotRequest]) -> None:
    for each in served:
        each.granted()


def _settle_in(loop: asyncio.AbstractEventLoop, granted: asyncio.Future[None]) -> None:
    """Settle a future of a loop, from that loop or from any thread."""
    if asyncio._get_running_loop() is loop:
        _settle(granted)
    else:
        loop.call_soon_threadsafe(_settle, granted)


def _settle(granted: asyncio.Future[None]) -> None:
    if not granted.done():
        granted.set_result(None)
