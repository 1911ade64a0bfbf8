"""The facts about models that this process keeps without round trips of its own.

The answer to a submission carries what the fleet has learned and which models are cooling down, at
most once a second. `fleet.routing.snapshot` does the same for pools.
"""

from __future__ import annotations

import time

from fleet.models.rules.learning import NOTHING_LEARNED, ModelFacts

REFRESH_SECONDS = 1.0


class KnownModels:
    """The models' facts, and this process's estimate of Redis's clock."""

    def __init__(self) -> None:
        self.facts = NOTHING_LEARNED
        self._clock = 0.0
        self._read_at = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether the next submission must return the facts."""
        return time.monotonic() - self._read_at > REFRESH_SECONDS

    @property
    def now(self) -> float:
        """Seconds since 1970 by Redis's clock; 0 before the first answer."""
        return self._clock + (time.monotonic() - self._read_at) if self._clock else 0.0

    def take(self, now: float, facts: ModelFacts) -> bool:
        """Take facts read at `now`, by Redis's clock. Returns whether they differ from before."""
        known, self.facts = self.facts, facts
        self._clock, self._read_at = now, time.monotonic()
        return facts != known
