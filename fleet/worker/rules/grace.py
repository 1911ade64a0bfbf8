"""How a worker's grace, the time from SIGTERM to its exit, is divided."""

from __future__ import annotations

from dataclasses import dataclass

STOP_SECONDS = 5.0
"""Two seconds for a run to stop, the rest for Redis, the pool and the process to end."""
MARGIN_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Grace:
    """The grace of a worker, in seconds, at least 2. All times count from the order to stop, except
    `stop_seconds`, a duration."""

    seconds: float

    @property
    def stop_seconds(self) -> float:
        """How long the requeue of running tasks and the exit may take."""
        return min(STOP_SECONDS, self.seconds / 2)

    @property
    def drain_seconds(self) -> float:
        """When running tasks are requeued."""
        return self.seconds - self.stop_seconds

    @property
    def end_seconds(self) -> float:
        """When the process exits, even if tasks still run."""
        return self.seconds - self._margin_seconds

    @property
    def kill_seconds(self) -> float:
        """When the kernel kills the process, if it has not exited."""
        return self.seconds - self._margin_seconds / 4

    @property
    def _margin_seconds(self) -> float:
        return min(MARGIN_SECONDS, self.seconds / 10)
