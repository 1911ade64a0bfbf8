"""The slots of one process: no more tasks run in it at once.

Agents ask for theirs in the event loop, plain tasks in threads. Who has asked first gets the next
slot, so neither kind starves the other, and none waits for the loop where an agent blocks it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future


class TaskSlots:
    """So many slots; safe among threads and event loops."""

    def __init__(self, count: int) -> None:
        self._count = self._free = count
        self._guard = threading.Lock()
        self._asking: deque[Future[None]] = deque()

    def limit_to(self, most: int) -> None:
        """Have no more slots than this; to be said before one is taken."""
        with self._guard:
            spare = max(0, self._count - most)
            self._count -= spare
            self._free -= spare

    def ask(self) -> Future[None]:
        """A slot, once the future is done. Whoever gets it has to `give_back`; who cancels the
        future before that wants none any more."""
        slot: Future[None] = Future()
        with self._guard:
            if self._free > 0:
                self._free -= 1
                slot.set_result(None)
            else:
                self._asking.append(slot)
        return slot

    async def take(self, patience_seconds: float) -> None:
        """Wait for a slot in an event loop. Raises `TimeoutError` where none comes free in time."""
        if self._take_free():
            return
        slot = self.ask()
        try:
            async with asyncio.timeout(patience_seconds):
                await _in_this_loop(slot)
        except BaseException:
            if not slot.cancel():
                # It has been given just now.
                self.give_back()
            raise

    def _take_free(self) -> bool:
        """Take a slot that nobody waits for: as a rule there is one, and no need of a future."""
        with self._guard:
            is_free = self._free > 0
            self._free -= is_free
        return is_free

    def give_back(self) -> None:
        """Hand a slot on to whoever has asked first."""
        with self._guard:
            while self._asking:
                slot = self._asking.popleft()
                if slot.set_running_or_notify_cancel():
                    break
            else:
                self._free += 1
                return
        slot.set_result(None)


def _in_this_loop(slot: Future[None]) -> asyncio.Future[None]:
    """The same to await. As a rule a slot is given back in the loop too: then, other than with
    `asyncio.wrap_future`, whoever waits goes on in the loop's next turn, not in the one after."""
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    given: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not given.done():
            given.set_result(None)

    def pass_on(_: Future[None]) -> None:
        if threading.get_ident() == here:
            tell()
        else:
            loop.call_soon_threadsafe(tell)

    slot.add_done_callback(pass_on)
    return given
