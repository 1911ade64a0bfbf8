"""Redis's clock, and whether somebody has set it.

A lease ends by Redis's clock. Where that is set forward, or a replica takes over whose clock is
ahead, all leases would end at once: each task would run twice, and count a crash. So each process
compares it with a clock that nobody sets, twice a second. Whoever sees the two disagree puts expiry
on hold for as long as a lease lasts: live workers renew meanwhile, the dead are found after it.
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
"""What a process has seen of the clock counts for so long: the hold of an older step is over."""

LEAST_STEP_SECONDS = 1.0
"""A call may take this long on its way, and be no step."""


class Look(NamedTuple):
    """What a look at the clock has shown. `step_ms` is how far it was set since the last one."""

    step_ms: int
    is_held: bool


class ServerClock(Store):
    """Redis's clock as one process knows it; safe among threads."""

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
        #: Redis's time, ms, and this machine's monotonic one, when it was asked for.
        self._seen: tuple[int, float] | None = None

    def look(self) -> Look:
        """Look at the clock, and put expiry on hold where it was set. One call."""
        keys, asked_at = [self.keys.clock], time.monotonic()
        for pool in map(self.keys.pool, self.pools):
            keys += [pool.agents, pool.unacked_index]
        with redis_errors(self.client):
            found: Any = self.scripts.clock(keys=keys, args=self.evidence())
        now_ms, step_ms, is_held = map(int, found)
        self._seen = now_ms, asked_at
        return Look(step_ms, bool(is_held))

    def shorten(self, task_id: str) -> None:
        """Let a task's lease last no longer than one that is given now."""
        keys = [self.keys.task(task_id), self.keys.leases]
        with redis_errors(self.client):
            self.scripts.shorten(keys=keys, args=[task_id, self.hold_ms])

    def evidence(self) -> list[str | int]:
        """What a script that ends leases has to know: the time that is expected, by how much it may
        differ, and how long expiry is held; see `lua/parts/clock.lua`."""
        expected: str | int = ""
        if self._seen is not None:
            then_ms, asked_at = self._seen
            passed = time.monotonic() - asked_at
            if passed <= FRESH_SECONDS:
                expected = then_ms + int(passed * 1000)
        return [expected, self.step_ms, self.hold_ms]
