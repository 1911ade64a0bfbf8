"""What this process knows of the pools, without asking for it.

Every answer of the atomic step carries the counts of the pools that it looked at. Once a
second they become the new snapshot, so the slow terms of the score stay fresh without a
round trip of their own. Only a process that has sent nothing for a while reads one first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from fleet.routing.pools_store import NO_COUNTS, PoolCounts, Pools, parse_counts
from fleet.routing.rules.health import OWN_WORK
from fleet.routing.rules.pools import PoolFacts, PoolTable
from fleet.routing.rules.statistics import blended, expected
from fleet.settings import Settings

REFRESH_SECONDS = 1.0
STALE_SECONDS = 30.0


class Snapshot:
    """The pools' facts, and the table that decisions are made from."""

    def __init__(self, settings: Settings, pools: Pools) -> None:
        self.settings = settings
        self.config = settings.config
        self.pools = pools
        self.request_types = tuple(settings.config.request_types)
        self.half_life = settings.config.routing.half_life_seconds
        self.helps = {name: self.config.helped_by(name) for name in self.config.pools}
        self.counts = dict.fromkeys(self.config.pools, NO_COUNTS)
        self.facts = {name: self._facts(name) for name in self.config.pools}
        self.table = PoolTable.of(self.facts.values())
        self._read_at: dict[str, float] = {}

    def is_stale(self, request_type: str) -> bool:
        """Whether it has to be read before a decision on such a request is made from it."""
        return self._age(request_type) > STALE_SECONDS

    def refresh(self) -> None:
        """Read the counts of all pools, in one round trip."""
        self._take(self.pools.counts(list(self.config.pools), self.request_types))
        self._read_at = dict.fromkeys(self.request_types, time.monotonic())

    def learn(self, request_type: str, pools: Sequence[str], packed: str) -> bool:
        """Take the counts that came back with a submission, where the last are a second old.

        They have to be those of all pools that serve it: else the others would seem fresh. A
        helper that has work of its own is closed to others only, so its row says nothing to
        its own tasks. Whether there is a new table now.
        """
        if self._age(request_type) <= REFRESH_SECONDS:
            return False
        rows = zip(pools, parse_counts(packed, (request_type,)), strict=True)
        self._take({name: row for name, row in rows if row.standing != OWN_WORK})
        self._read_at[request_type] = time.monotonic()
        return True

    def _take(self, counts: Mapping[str, PoolCounts]) -> None:
        for name, row in counts.items():
            known = self.counts[name].by_request
            self.counts[name] = row._replace(by_request={**known, **row.by_request})
            self.facts[name] = self._facts(name)
        self.table = PoolTable.of(self.facts.values())

    def _age(self, request_type: str) -> float:
        return time.monotonic() - self._read_at.get(request_type, float("-inf"))

    def _facts(self, name: str) -> PoolFacts:
        pool, row = self.config.pools[name], self.counts[name]
        overall = expected(row.overall, self.half_life)
        return PoolFacts(
            name=name,
            agent_type=pool.agent_type,
            queue=self.settings.queue(name),
            weight=pool.weight,
            helps=self.helps[name],
            live_agents=row.live_agents,
            capacity=row.capacity,
            in_flight=row.in_flight,
            success_rate=overall.success,
            response_seconds=overall.response_seconds,
            typical_seconds=overall.typical_seconds,
            likely_success=overall.likely_success,
            standing=row.standing,
            because=row.because,
            open_slots=row.open_slots,
            by_request={
                request_type: blended(statistic, overall, self.half_life)
                for request_type, statistic in row.by_request.items()
            },
        )
