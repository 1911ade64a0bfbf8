"""What this process knows of its models, without asking for it.

What the fleet has learned, and which models are cooling down, comes along with the answer to a
submission, at most once a second: see `fleet.routing.snapshot` for the same about pools.
"""

from __future__ import annotations

import time

from fleet.models.rules.learning import NOTHING_LEARNED, ModelFacts

REFRESH_SECONDS = 1.0


class KnownModels:
    """The models' facts, and Redis's clock as this process can tell it."""

    def __init__(self) -> None:
        self.facts = NOTHING_LEARNED
        self._clock = 0.0
        self._read_at = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether the next submission shall bring the facts along."""
        return time.monotonic() - self._read_at > REFRESH_SECONDS

    @property
    def now(self) -> float:
        """Seconds since 1970 by Redis's clock; 0 before it told any."""
        return self._clock + (time.monotonic() - self._read_at) if self._clock else 0.0

    def take(self, now: float, facts: ModelFacts) -> bool:
        """Take facts that were read at `now`, by Redis's clock. Whether they say anything new."""
        known, self.facts = self.facts, facts
        self._clock, self._read_at = now, time.monotonic()
        return facts != known
