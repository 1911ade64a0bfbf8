"""Decides how many workers each pool has: reads, asks the policy, writes, and tells the actuator.

Beat runs it every `scaling.seconds`. It may be killed anywhere, and two may run at once: of two
decisions by the same facts one is written. If Redis is away, nothing is decided and the last sizes
hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from fleet.budgets.cached_policy import CachedPolicy
from fleet.errors import FleetError
from fleet.scaling.actuator import Actuator
from fleet.scaling.actuators import NONE, POOL, PROCESSES, actuator_of, scaling_store
from fleet.scaling.policies import check_policies, installed_policies
from fleet.scaling.rules.arrivals import LONG_TERM, RECENT, added, new_arrivals
from fleet.scaling.rules.policies import decide
from fleet.scaling.rules.readings import (
    Bounds,
    PoolReading,
    Reading,
    Remembered,
    arrived,
    faded_service,
    measured_start,
    overflow_shares,
    pool_load,
    workers_of,
)
from fleet.scaling.rules.values import (
    MAX_HOLD_SECONDS,
    PoolLoad,
    ScaleDecision,
    ScalingPolicy,
    Sized,
)
from fleet.scaling.rules.victims import change
from fleet.scaling.store import HistoryEntry, Note, history_fields, remembered_fields
from fleet.settings import FleetConfig
from fleet.tasks.connection import Connection
from fleet.telemetry.logger import get_logger

BY_HAND = "by hand"
"""The policy of a size that a person has set."""
VOUCHED_SECONDS = 60.0
"""For so long after a decision an empty pool takes tasks, because a worker will be started."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool now: its load, and the decision that its load calls for. `arrivals` are those since
    the last decision, by the fields that count them."""

    reading: PoolReading
    load: PoolLoad
    decision: ScaleDecision
    remembered: Remembered
    arrivals: Mapping[str, int]


class Scaler:
    """Scales the pools of one fleet. Keeps what it would otherwise read again each time."""

    def __init__(self, connection: Connection) -> None:
        """Raises `InvalidConfig` if the configuration names an unknown policy or actuator."""
        self.settings = connection.settings
        self.store = scaling_store(connection)
        self.policies = installed_policies()
        self.actuator: Actuator = actuator_of(connection)
        self.limits = CachedPolicy(self.settings.config, connection.policy.store)
        self.bounds = pool_bounds(self.settings.config)
        check_policies(self.settings, self.policies)

    def look(self) -> list[PoolState]:
        """Every pool with the decision that it calls for now. Writes nothing."""
        return list(self._states(self._read()).values())

    def scale(self) -> dict[str, int]:
        """Decide for every pool, and have the actuator act. Returns the pools that changed, with
        their new size."""
        reading = self._read()
        states = self._states(reading)
        written = self.store.write(self._note(reading, state) for state in states.values())
        self._act("marking agents", lambda: self.actuator.note_agents(reading.agents))
        changed = {}
        for name, may_end in written.items():
            if may_end is None:
                continue
            state = states[name]
            if state.decision.workers != state.load.desired:
                changed[name] = state.decision.workers
                _log_change(state)
            order = partial(self.actuator.apply, name, state.decision.workers, may_end)
            self._act(f"pool {name}", order)
        return changed

    def _states(self, reading: Reading) -> dict[str, PoolState]:
        queued = overflow_shares(reading, self.bounds)
        return {
            name: self._state(reading, pool, pool.own.messages + queued[name])
            for name, pool in reading.pools.items()
        }

    def _read(self) -> Reading:
        """Read the pools under the limits in force: one round trip, or more after a new policy."""
        for version, controls in self.limits.versions():
            reading = self.store.read(controls)
            if reading.version == version:
                break
        return reading

    def _state(self, reading: Reading, pool: PoolReading, queued: int) -> PoolState:
        half_life = self.settings.config.routing.half_life_seconds
        service = faded_service(pool, reading.now, half_life)
        start_seconds = measured_start(reading, pool)
        before, counted = pool.remembered, arrived(pool, queued)
        new = new_arrivals(counted, before.counted, before.at, reading.now)
        load = pool_load(
            reading,
            replace(pool, arrivals=added(pool.arrivals, new)),
            self.bounds[pool.name],
            queued,
            service,
            start_seconds,
            self._starting(reading, pool),
        )
        decision = self._decide(pool, load)
        history = [each for each in pool.remembered.history if _still_matters(each, reading.now)]
        if history and history[-1].workers == decision.wanted:
            history.pop()
        kept = replace(
            pool.remembered,
            desired=decision.workers,
            policy=decision.policy,
            reasons=decision.reasons,
            history=(*history, Sized(round(reading.now, 3), decision.wanted)),
            counted=counted,
            occupied=pool.occupied,
            service=service,
            start_seconds=start_seconds,
        )
        return PoolState(pool, load, decision, kept, new)

    def _starting(self, reading: Reading, pool: PoolReading) -> int:
        """Workers that were started and are not ready: as supervisors report, else those that are
        missing of the last size."""
        if self.actuator.name == PROCESSES:
            return pool.reported
        ready = sum(agent.takes_tasks for agent in reading.of(pool.name))
        return max(0, (pool.remembered.desired or 0) - ready)

    def _decide(self, pool: PoolReading, load: PoolLoad) -> ScaleDecision:
        if pool.set_size is not None:
            reason = (
                f"set to {pool.set_size} by a person; `fleet scale auto {pool.name}` ends this"
            )
            return ScaleDecision(pool.name, pool.set_size, BY_HAND, (reason,), pool.set_size)
        return decide(load, self._policy(pool))

    def _policy(self, pool: PoolReading) -> ScalingPolicy:
        """The policy that a person has set, else the configured one."""
        config = self.settings.config
        usual = config.pools[pool.name].scaling_policy or config.scaling.policy
        return self.policies.get(pool.set_policy) or self.policies[usual]

    def _note(self, reading: Reading, state: PoolState) -> Note:
        pool, load, decision = state.reading, state.load, state.decision
        intervals = (RECENT, LONG_TERM)
        entry: Mapping[str, str] = {}
        if decision.workers != pool.remembered.desired:
            entry = history_fields(_entry(reading.now, state))
        return Note(
            pool=pool.name,
            known=pool.remembered.known,
            fields=remembered_fields(state.remembered),
            counts=state.arrivals,
            drops=[
                field for each in intervals for field in each.outdated(pool.arrivals, reading.now)
            ],
            entry=entry,
            agents=self._changes(reading, state),
            vouched_seconds=self._vouched(load, decision, pool),
        )

    def _vouched(self, load: PoolLoad, decision: ScaleDecision, pool: PoolReading) -> float:
        """For how long the pool takes tasks without a worker: not where nobody starts one."""
        nobody = self.actuator.name == PROCESSES and not pool.is_followed
        if nobody or self.actuator.name == NONE or load.min > 0 or pool.set_size == 0:
            return 0.0
        return max(VOUCHED_SECONDS, 3 * self.settings.config.scaling.seconds)

    def _changes(self, reading: Reading, state: PoolState) -> list[tuple[str, str]]:
        """Which agents are drained, taken back, or end if they run nothing."""
        agents = reading.of(state.reading.name)
        if not self.actuator.ends_drained:
            # Another actuator may have drained them.
            return [(agent.id, "resume") for agent in agents if agent.leaving]
        # Local workers that nobody would end stay.
        some_stay = self.actuator.name in (PROCESSES, POOL)
        may_leave = [agent for agent in agents if agent.supervised or not some_stay]
        stay = sum(agent.takes_tasks for agent in agents) - sum(a.takes_tasks for a in may_leave)
        workers = workers_of(may_leave, state.load.service.mean)
        size = max(0, state.decision.workers - stay)
        wanted = change(workers, state.load.starting, size)
        back = set(wanted.take_back)
        leaving = [agent.id for agent in agents if agent.leaving and agent.id not in back]
        return [
            *((agent, "drain") for agent in wanted.drain),
            *((agent, "resume") for agent in wanted.take_back),
            *((agent, "end") for agent in leaving),
        ]

    def _act(self, what: str, act: Callable[[], None]) -> None:
        """Have the actuator act. What one pool cannot get now does not keep the others from it."""
        try:
            act()
        except FleetError as error:
            log.warning("scaling failed, trying again", what=what, error=str(error))


def pool_bounds(config: FleetConfig) -> dict[str, Bounds]:
    """The bounds of each configured pool."""
    return {
        name: Bounds(
            pool.min,
            pool.max,
            pool.slots,
            pool.agent_type,
            pool.worker_usd_per_hour,
            config.scaling.idle_usd_per_hour,
        )
        for name, pool in config.pools.items()
    }


def _still_matters(sized: Sized, now: float) -> bool:
    return now - sized.at <= MAX_HOLD_SECONDS


def _entry(now: float, state: PoolState) -> HistoryEntry:
    load, decision = state.load, state.decision
    return HistoryEntry(
        at=now,
        pool=load.pool,
        before=load.desired,
        workers=decision.workers,
        policy=decision.policy,
        reasons=decision.reasons,
        queued=load.queued,
        running=load.running,
        ready=load.ready,
    )


def _log_change(state: PoolState) -> None:
    load, decision = state.load, state.decision
    log.info(
        "pool scaled",
        pool=load.pool,
        workers=decision.workers,
        before=load.desired,
        policy=decision.policy,
        reasons="; ".join(decision.reasons),
    )
