"""Background loops that survive every error: lease renewal, heartbeats, the schedule, beat's jobs.

A process whose loop has ended looks alive and does no work. So a loop catches every error: it logs
the first one of a streak, waits longer after each further one up to a bound, and continues. It logs
the end of the streak too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from fleet.errors import FleetError
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)


class FailureStreak:
    """Counts consecutive failures of one loop, and logs the first."""

    def __init__(self, loop: str) -> None:
        self.loop = loop
        self.in_a_row = 0

    def failed(self, error: Exception) -> None:
        """Record a failure."""
        self.in_a_row += 1
        if self.in_a_row > 1:
            return
        known = isinstance(error, FleetError)
        detail = {"error": str(error)} if known else {"exc_info": error}
        log.warning("failed, continuing", loop=self.loop, **detail)

    def succeeded(self) -> None:
        """Record a success."""
        if self.in_a_row:
            log.info("works again", loop=self.loop, failures=self.in_a_row)
        self.in_a_row = 0

    def seconds(self, usual: float, most: float) -> float:
        """Seconds until the next try: `usual`, doubled by each failure after the first, at most
        `most`."""
        doublings = min(max(self.in_a_row - 1, 0), 16)
        return min(usual * 2.0**doublings, max(usual, most))


def repeat(
    name: str,
    do: Callable[[], object],
    seconds: float,
    max_seconds: float,
    ended: threading.Event | None = None,
) -> threading.Thread:
    """A daemon thread, not yet started, that calls `do` every `seconds` until `ended` is set. After
    consecutive failures it waits up to `max_seconds`."""
    ended, streak = ended or threading.Event(), FailureStreak(name)

    def run() -> None:
        while not ended.wait(streak.seconds(seconds, max_seconds)):
            try:
                do()
            except Exception as error:
                streak.failed(error)
            else:
                streak.succeeded()

    return threading.Thread(target=run, name=name, daemon=True)
