"""The slots of one process: no more tasks run in it at once.

Agents ask for theirs in the event loop, plain tasks in threads. Who has asked first gets the next
slot, so neither kind starves the other, and none waits for the loop where an agent blocks it. A
task that asks for all of them waits until every other one has ended, and nobody who asks after it
begins before it has ended too: so it has the process to itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """Who waits for so many slots. `tell` is called, from any thread, when they are its own."""

    wanted: int
    tell: Callable[[], None]


class TaskSlots:
    """So many slots; safe among threads and event loops."""

    def __init__(self, count: int) -> None:
        self._count = self._free = count
        self._guard = threading.Lock()
        self._asking: deque[Asking] = deque()

    @property
    def count(self) -> int:
        """How many there are."""
        return self._count

    def limit_to(self, most: int) -> None:
        """Have no more slots than this; to be said before one is taken."""
        with self._guard:
            spare = max(0, self._count - most)
            self._count -= spare
            self._free -= spare

    def ask(self, tell: Callable[[], None], wanted: int = 1) -> Asking:
        """Have `tell` called once so many slots are the caller's, at once where they are free. Who
        was told has to `give_back`, who does not want them any more to `withdraw`."""
        asking = Asking(wanted, tell)
        with self._guard:
            self._asking.append(asking)
            served = self._served()
        _tell(served)
        return asking

    def withdraw(self, asking: Asking) -> None:
        """Want no slots any more; those that were given by now go to others."""
        with self._guard:
            if asking in self._asking:
                self._asking.remove(asking)
            else:
                self._free += asking.wanted
            served = self._served()
        _tell(served)

    def give_back(self, count: int = 1) -> None:
        """Hand slots on to whoever has asked first."""
        with self._guard:
            self._free += count
            served = self._served()
        _tell(served)

    async def take(self, wanted: int = 1, patience_seconds: float | None = None) -> None:
        """Wait for slots in an event loop. Raises `TimeoutError` where none come free in time."""
        if self._take_free(wanted):
            return
        loop = asyncio.get_running_loop()
        given = loop.create_future()
        asking = self.ask(partial(_settle_in, loop, given), wanted)
        try:
            async with asyncio.timeout(patience_seconds):
                await given
        except BaseException:
            self.withdraw(asking)
            raise

    def _take_free(self, wanted: int) -> bool:
        """Take slots that nobody waits for: as a rule there are some, and no need of a future."""
        with self._guard:
            are_free = not self._asking and self._free >= wanted
            self._free -= wanted * are_free
        return are_free

    def _served(self) -> list[Asking]:
        """Those in front whose slots are free now; to be told without the guard."""
        served = []
        while self._asking and self._asking[0].wanted <= self._free:
            served.append(self._asking.popleft())
            self._free -= served[-1].wanted
        return served


def _tell(served: list[Asking]) -> None:
    for each in served:
        each.tell()


def _settle_in(loop: asyncio.AbstractEventLoop, given: asyncio.Future[None]) -> None:
    """Tell a task of a loop, from it or from any thread."""
    if asyncio._get_running_loop() is loop:
        _settle(given)
    else:
        loop.call_soon_threadsafe(_settle, given)


def _settle(given: asyncio.Future[None]) -> None:
    if not given.done():
        given.set_result(None)
