"""When to come again where as many tasks wait as may."""

from __future__ import annotations

from typing import NamedTuple, Self

QUEUE = "queue"
"""The scope of a bound on what waits for a slot in one queue; any other is of a tenant."""

SHARE = 0.1
"""Whoever is refused comes back when about so much of the queue has been taken: sooner, most would
be refused again."""
LEAST_SECONDS = 1.0
MAX_SECONDS = 300.0


class Full(NamedTuple):
    """A bound on waiting tasks that has no room: of whom, how many wait, how many may."""

    scope: str
    waiting: int
    most: int

    @classmethod
    def parse(cls, packed: str) -> Self:
        """From what `submit.lua` answered, such as `tenant:acme|1000|1000`."""
        scope, waiting, most = packed.rsplit("|", 2)
        return cls(scope, int(waiting), int(most))


def retry_after(waiting: int, slots: int, response_seconds: float) -> float:
    """Seconds in which so many slots take a tenth of what waits, 1 to 300.

    `response_seconds` is how long a run takes. Without a slot nothing is taken: 300.
    """
    if slots <= 0:
        return MAX_SECONDS
    seconds = SHARE * waiting * response_seconds / slots
    return min(MAX_SECONDS, max(LEAST_SECONDS, seconds))
