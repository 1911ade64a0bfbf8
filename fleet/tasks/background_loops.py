"""Loops that outlive every error: they keep leases, beat, look into the schedule, send jobs.

A process without one of them seems to live and does not work. So no such loop asks of which class
an error is. It logs the first error in a row, waits longer after each further one up to a bound,
and goes on. It also logs that the row has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from fleet.errors import FleetError

log = structlog.get_logger(__name__)


class FailureStreak:
    """Counts the failures in a row of one loop, and logs the first of them."""

    def __init__(self, loop: str) -> None:
        self.loop = loop
        self.in_a_row = 0

    def failed(self, error: Exception) -> None:
        """Note a failure."""
        self.in_a_row += 1
        if self.in_a_row > 1:
            return
        known = isinstance(error, FleetError)
        told = {"error": str(error)} if known else {"exc_info": error}
        log.warning("failed, continuing", loop=self.loop, **told)

    def passed(self) -> None:
        """Note that it went well."""
        if self.in_a_row:
            log.info("works again", loop=self.loop, failures=self.in_a_row)
        self.in_a_row = 0

    def seconds(self, usual: float, most: float) -> float:
        """How long to wait before the next try: `usual`, doubled by each failure after the first,
        and no more than `most`."""
        doublings = min(max(self.in_a_row - 1, 0), 16)
        return min(usual * 2.0**doublings, max(usual, most))


def repeat(
    name: str,
    do: Callable[[], object],
    seconds: float,
    max_seconds: float,
    ended: threading.Event | None = None,
) -> threading.Thread:
    """A daemon thread, not started yet, that does something every `seconds` until `ended` is set;
    after failures in a row it waits up to `most_seconds`."""
    ended, troubles = ended or threading.Event(), FailureStreak(name)

    def run() -> None:
        while not ended.wait(troubles.seconds(seconds, max_seconds)):
            try:
                do()
            except Exception as error:
                troubles.failed(error)
            else:
                troubles.passed()

    return threading.Thread(target=run, name=name, daemon=True)
