"""Redis's clock, and the detection of steps in it.

A lease ends by Redis's clock. If that clock is set forward, or a replica with a fast clock takes
over, all leases would end at once: each task would run twice, and count a crash. So each process
compares it with its monotonic clock, twice a second. A process that sees the two disagree suspends
expiry for as long as a lease lasts: live workers renew meanwhile, and dead ones are found later.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis import Redis

from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts
from fleet.redis.store import Store

FRESH_SECONDS = 30.0
"""How long a reading of the clock is valid. The suspension after an older step is over by then."""

LEAST_STEP_SECONDS = 1.0
"""A smaller difference is no step: the call itself may take this long."""


class Look(NamedTuple):
    """A reading of the clock. `step_ms` is how far it was set since the last one; `is_held`: expiry
    is suspended."""

    step_ms: int
    is_held: bool


class ServerClock(Store):
    """Redis's clock as one process has read it; thread-safe."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        scripts: Scripts,
        pools: Sequence[str],
        lease_seconds: float,
        renew_seconds: float,
    ) -> None:
        super().__init__(client, keys, scripts)
        self.pools = pools
        self.hold_ms = int(lease_seconds * 1000)
        # A lease that is renewed in time outlives a smaller step.
        step = max(LEAST_STEP_SECONDS, (lease_seconds - renew_seconds) / 2)
        self.step_ms = int(step * 1000)
        #: Redis's time in ms, and this machine's monotonic time before that call.
        self._seen: tuple[int, float] | None = None

    def look(self) -> Look:
        """Read the clock, and suspend expiry if it was set. One call."""
        keys, asked_at = [self.keys.clock], time.monotonic()
        for pool in map(self.keys.pool, self.pools):
            keys += [pool.agents, pool.unacked_index]
        with redis_errors(self.client):
            found: Any = self.scripts.clock(keys=keys, args=self.evidence())
        now_ms, step_ms, is_held = map(int, found)
        self._seen = now_ms, asked_at
        return Look(step_ms, bool(is_held))

    def shorten(self, task_id: str) -> None:
        """Let a task's lease end no later than a lease that is granted now."""
        keys = [self.keys.task(task_id), self.keys.leases]
        with redis_errors(self.client):
            self.scripts.shorten(keys=keys, args=[task_id, self.hold_ms])

    def evidence(self) -> list[str | int]:
        """Arguments of scripts that end leases, in ms: the expected time ('' if unknown), by how
        much it may differ, and how long expiry is suspended; see `lua/parts/clock.lua`."""
        expected: str | int = ""
        if self._seen is not None:
            then_ms, asked_at = self._seen
            passed = time.monotonic() - asked_at
            if passed <= FRESH_SECONDS:
                expected = then_ms + int(passed * 1000)
        return [expected, self.step_ms, self.hold_ms]
