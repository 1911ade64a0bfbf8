"""The snapshot of the pools that this process keeps without round trips of its own.

Every answer of the atomic step carries the counts of the pools it considered. Once a second they
become the new snapshot, so the slow terms of the score stay fresh at no extra cost. Only a process
that has submitted nothing for a while reads a snapshot first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from fleet.routing.pools_store import NO_COUNTS, Pools, parse_counts
from fleet.routing.rules.health import OWN_WORK
from fleet.routing.rules.pools import PoolCounts, PoolFacts, PoolTable
from fleet.routing.rules.statistics import blended, expected
from fleet.settings import Settings

REFRESH_SECONDS = 1.0
STALE_SECONDS = 30.0


class Snapshot:
    """The facts about the pools, and the table for decisions."""

    def __init__(self, settings: Settings, pools: Pools) -> None:
        self.settings = settings
        self.config = settings.config
        self.pools = pools
        self.request_types = tuple(settings.config.request_types)
        self.half_life = settings.config.routing.half_life_seconds
        self.spillover = {name: self.config.helped_by(name) for name in self.config.pools}
        self.counts = dict.fromkeys(self.config.pools, NO_COUNTS)
        self.facts = {name: self._facts(name) for name in self.config.pools}
        self.table = PoolTable.of(self.facts.values())
        self._read_at: dict[str, float] = {}

    def is_stale(self, request_type: str) -> bool:
        """Whether the snapshot must be read again before it decides about such a request."""
        return self._age(request_type) > STALE_SECONDS

    def refresh(self) -> None:
        """Read the counts of all pools, in one round trip."""
        self._take(self.pools.counts(list(self.config.pools), self.request_types))
        self._read_at = dict.fromkeys(self.request_types, time.monotonic())

    def learn(self, request_type: str, pools: Sequence[str], packed: str) -> bool:
        """Take the counts that a submission returned, if the last ones are over a second old.

        `pools` must be all pools that serve the request type: otherwise the missing ones would
        seem fresh. A pool with its own tasks waiting is closed for spillover alone, so its counts
        here do not apply to its own tasks. Returns whether there is a new table.
        """
        if self._age(request_type) <= REFRESH_SECONDS:
            return False
        pairs = zip(pools, parse_counts(packed, (request_type,)), strict=True)
        self._take({name: counts for name, counts in pairs if counts.health_state != OWN_WORK})
        self._read_at[request_type] = time.monotonic()
        return True

    def _take(self, counts: Mapping[str, PoolCounts]) -> None:
        for name, new in counts.items():
            known = self.counts[name].by_request
            self.counts[name] = new._replace(by_request={**known, **new.by_request})
            self.facts[name] = self._facts(name)
        self.table = PoolTable.of(self.facts.values())

    def _age(self, request_type: str) -> float:
        return time.monotonic() - self._read_at.get(request_type, float("-inf"))

    def _facts(self, name: str) -> PoolFacts:
        pool, counts = self.config.pools[name], self.counts[name]
        overall = expected(counts.overall, self.half_life)
        return PoolFacts(
            name=name,
            agent_type=pool.agent_type,
            queue=self.settings.queue(name),
            weight=pool.weight,
            spillover=self.spillover[name],
            live_agents=counts.live_agents,
            capacity=counts.capacity,
            in_flight=counts.in_flight,
            success_rate=overall.success,
            response_seconds=overall.response_seconds,
            typical_seconds=overall.typical_seconds,
            likely_success=overall.likely_success,
            health_state=counts.health_state,
            reason=counts.reason,
            open_slots=counts.open_slots,
            by_request={
                request_type: blended(statistic, overall, self.half_life)
                for request_type, statistic in counts.by_request.items()
            },
        )
