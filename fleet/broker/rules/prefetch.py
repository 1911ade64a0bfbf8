"""How many tasks a worker may fetch before their slots are free: as many as are about to be.

Fetching a task, claiming it and handing it over takes some milliseconds. Where tasks take hours
that is nothing; where they take 50 ms, a slot that stood empty meanwhile would lose a tenth of its
time. So a worker fetches ahead by what has ended lately, for the next few milliseconds bring as
many ends again: the faster its tasks, the more; for tasks of seconds, none.
"""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 0.1
AHEAD_SECONDS = 0.025
"""How long a task that was fetched ahead waits for its slot, where the pace stays as it was."""


class Pace:
    """Counts ends, and says how many tasks to fetch ahead, `most` at most. `now` in seconds."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._ends: deque[float] = deque()

    def end(self, now: float) -> None:
        """A task has ended."""
        self._ends.append(now)

    def ahead(self, now: float) -> int:
        """How many are about to end."""
        while self._ends and self._ends[0] <= now - WINDOW_SECONDS:
            self._ends.popleft()
        return min(self.most, int(len(self._ends) * AHEAD_SECONDS / WINDOW_SECONDS))
