"""How the time between an order to stop and the end of a worker is shared out."""

from __future__ import annotations

from dataclasses import dataclass

STOP_SECONDS = 5.0
"""Two for a run to stop, and the rest for Redis, the pool and the process to end."""
MARGIN_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Grace:
    """The grace of a worker, in seconds, at least 2."""

    seconds: float

    @property
    def stop_seconds(self) -> float:
        """How long what is given back may take until the process has ended."""
        return min(STOP_SECONDS, self.seconds / 2)

    @property
    def drain_seconds(self) -> float:
        """When what still runs is given back."""
        return self.seconds - self.stop_seconds

    @property
    def end_seconds(self) -> float:
        """When the process ends, whatever still runs."""
        return self.seconds - self._margin_seconds

    @property
    def kill_seconds(self) -> float:
        """When the kernel ends the process, should it not do so itself."""
        return self.seconds - self._margin_seconds / 4

    @property
    def _margin_seconds(self) -> float:
        return min(MARGIN_SECONDS, self.seconds / 10)
