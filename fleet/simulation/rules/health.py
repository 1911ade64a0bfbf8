"""The health of a simulated pool: `redis/lua/parts/health.lua` and `eject.lua` in Python.

`fleet.routing.rules.health` shows the states; its `judge` chooses the pools to eject. A test
compares this module with the Lua scripts.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from fleet.routing.rules.health import EJECTED, PROBATION, RETURNING, HealthPolicy
from fleet.routing.rules.pools import IN
from fleet.routing.rules.statistics import OutcomeWindow

REMEMBERED = 10
"""A pool that fails again within this many times the first ejection is ejected for longer."""


class SimulatedHealth(NamedTuple):
    """The health state of a pool.

    `since` is the end of an ejection or the start of a return, in seconds. `ejections` counts the
    ejections in a row, `good` the good probes since the last one.
    """

    state: str = IN
    since: float = 0.0
    ejections: int = 0
    good: int = 0

    def standing(self, now: float, policy: HealthPolicy) -> str:
        """The health state at a time."""
        if self.state == EJECTED:
            return EJECTED if now < self.since else PROBATION
        if self.state == RETURNING and now - self.since < policy.ramp_seconds:
            return RETURNING
        return IN

    def open_slots(self, slots: int, now: float, policy: HealthPolicy) -> int:
        """The number of slots that may be taken now."""
        match self.standing(now, policy):
            case "ejected":
                return 0
            case "probation":
                return min(slots, policy.probes)
            case "returning":
                share = (now - self.since) / policy.ramp_seconds
                return min(slots, max(policy.probes, ceil(slots * share)))
        return slots

    def ejected(self, now: float, policy: HealthPolicy) -> SimulatedHealth:
        """The state after an ejection, which is longer if the pool failed recently."""
        memory = policy.ramp_seconds + REMEMBERED * policy.eject_seconds
        forgotten = self.state == RETURNING and now >= self.since + memory
        ejections = 1 if forgotten else self.ejections + 1
        seconds = policy.eject_seconds * 2.0 ** (ejections - 1)
        return SimulatedHealth(EJECTED, now + min(seconds, policy.most_eject_seconds), ejections)

    def after(self, good: bool, now: float, policy: HealthPolicy) -> SimulatedHealth:
        """The state after a run. On probation a good run counts, and a bad one ejects the pool."""
        if self.standing(now, policy) != PROBATION:
            return self
        if not good:
            return self.ejected(now, policy)
        if self.good + 1 < policy.good_probes:
            return self._replace(good=self.good + 1)
        return SimulatedHealth(RETURNING, now, self.ejections, self.good + 1)


WELL = SimulatedHealth()


def forgiven(window: OutcomeWindow, probes: int, now: float) -> OutcomeWindow:
    """The outcomes of a returning pool: only its good probes. Older ones would eject it again."""
    times = (window.response_seconds, 0, window.typical_seconds)
    return OutcomeWindow(now, probes, (1 << probes) - 1, *times)
