"""How many tasks a worker may fetch ahead: as many as slots will come free in the next moment.

Fetching a task, claiming it and handing it over takes some milliseconds. That is nothing for tasks
of hours. For tasks of 50 ms, an empty slot meanwhile would lose a tenth of its time. So a worker
fetches ahead in proportion to the ends of the last moment: the faster its tasks, the more; for
tasks of seconds, none.
"""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 0.1
AHEAD_SECONDS = 0.025
"""How long a task that was fetched ahead waits for its slot at a steady pace."""


class Pace:
    """Counts ends of tasks, and computes how many to fetch ahead: from 0 to `most`. `now` is a
    monotonic time in seconds."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._ends: deque[float] = deque()

    def end(self, now: float) -> None:
        """Count the end of a task."""
        self._ends.append(now)

    def ahead(self, now: float) -> int:
        """How many tasks to fetch ahead."""
        while self._ends and self._ends[0] <= now - WINDOW_SECONDS:
            self._ends.popleft()
        return min(self.most, int(len(self._ends) * AHEAD_SECONDS / WINDOW_SECONDS))
