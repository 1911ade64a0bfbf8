"""The health of a simulated pool: what `redis/lua/parts/health.lua` and `eject.lua` do, in Python.

The circle is drawn in `fleet.routing.rules.health`, whose `judge` says who is taken out. A test
holds what is here to the Lua.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from fleet.routing.rules.health import EJECTED, PROBATION, RETURNING, HealthPolicy
from fleet.routing.rules.pools import IN
from fleet.routing.rules.statistics import OutcomeWindow

REMEMBERED = 10
"""A pool that fails again within so many times the first ejection is out for longer."""


class Health(NamedTuple):
    """Where a pool is in the circle.

    `since` is when an ejection ends, or when a return began, in seconds; `ejections` are those in
    a row, `good` the good probes since the last one.
    """

    state: str = IN
    since: float = 0.0
    ejections: int = 0
    good: int = 0

    def standing(self, now: float, policy: HealthPolicy) -> str:
        """The state as others see it now."""
        if self.state == EJECTED:
            return EJECTED if now < self.since else PROBATION
        if self.state == RETURNING and now - self.since < policy.ramp_seconds:
            return RETURNING
        return IN

    def open_slots(self, slots: int, now: float, policy: HealthPolicy) -> int:
        """How many of its slots may be taken now."""
        match self.standing(now, policy):
            case "ejected":
                return 0
            case "probation":
                return min(slots, policy.probes)
            case "returning":
                share = (now - self.since) / policy.ramp_seconds
                return min(slots, max(policy.probes, ceil(slots * share)))
        return slots

    def ejected(self, now: float, policy: HealthPolicy) -> Health:
        """Taken out, or out for longer than it was before if it has failed of late."""
        memory = policy.ramp_seconds + REMEMBERED * policy.eject_seconds
        forgotten = self.state == RETURNING and now >= self.since + memory
        ejections = 1 if forgotten else self.ejections + 1
        seconds = policy.eject_seconds * 2.0 ** (ejections - 1)
        return Health(EJECTED, now + min(seconds, policy.most_eject_seconds), ejections)

    def after(self, good: bool, now: float, policy: HealthPolicy) -> Health:
        """After the end of a run: on probation a good one counts, a bad one ejects again."""
        if self.standing(now, policy) != PROBATION:
            return self
        if not good:
            return self.ejected(now, policy)
        if self.good + 1 < policy.good_probes:
            return self._replace(good=self.good + 1)
        return Health(RETURNING, now, self.ejections, self.good + 1)


WELL = Health()


def forgiven(window: OutcomeWindow, probes: int, now: float) -> OutcomeWindow:
    """The outcomes of a pool that begins to return: its good probes, or it would be out again."""
    times = (window.response_seconds, 0, window.typical_seconds)
    return OutcomeWindow(now, probes, (1 << probes) - 1, *times)
