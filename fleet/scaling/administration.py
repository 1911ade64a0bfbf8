"""The part of `Fleet` that shows and changes the size of pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fleet.budgets.controls import Controls
from fleet.errors import InvalidRequest
from fleet.policy.actor import routine_actor
from fleet.policy.rules import SetSize
from fleet.policy.store import Policy
from fleet.scaling.actuators import NONE, PROCESSES, scaling_store
from fleet.scaling.policies import installed_policies
from fleet.scaling.rules.demand import first_wait
from fleet.scaling.rules.readings import PoolReading, Reading, overflow_shares, running
from fleet.scaling.rules.values import ScalingPolicy
from fleet.scaling.service import pool_bounds
from fleet.scaling.store import HistoryEntry
from fleet.settings import FleetConfig, Settings
from fleet.tasks.connection import Connection
from fleet.text import unknown

LATE_PERIODS = 3
"""A decision older than so many periods, and `LATE_SECONDS`, is late."""
LATE_SECONDS = 10.0


class PoolSize(NamedTuple):
    """The size of a pool: as decided, and as it is.

    `desired` is None before the first decision. The last one is `decided_seconds` ago; `is_late`
    says that there should have been another since. `ready` workers take tasks, `starting` ones were
    started, `draining` ones finish what they run and end. `queued` has the pool's share of the
    overflow queue. `reasons` are sentences.
    """

    pool: str
    desired: int | None
    ready: int
    starting: int
    draining: int
    min: int
    max: int
    queued: int
    running: int
    policy: str
    reasons: tuple[str, ...]
    decided_seconds: float | None
    start_seconds: float
    is_late: bool


class StartWait(NamedTuple):
    """How long a task waits for the first worker of a pool: about `seconds`. `starting` workers are
    on their way, and `queued` tasks wait with it."""

    pool: str
    seconds: float
    starting: int
    queued: int


class ScalingAdministration:
    """Each change is kept in the audit, with who made it (by default the user of the operating
    system) and why."""

    settings: Settings
    _connection: Connection

    def sizes(self) -> list[PoolSize]:
        """The size of every pool, as decided and as it is. One round trip or two."""
        return pool_sizes(self._connection)

    def start_wait(self, agent_type: str) -> StartWait | None:
        """How long a task of an agent type waits for the first worker, None if a worker is up or
        nobody starts one."""
        reading = _reading(self._connection)
        bounds = pool_bounds(self.settings.config)
        names = [name for name, each in bounds.items() if each.agent_type == agent_type]
        up = any(agent.takes_tasks and agent.pool in names for agent in reading.agents)
        if up or not names or self.settings.config.scaling.actuator == NONE:
            return None
        pool = min(
            (reading.pools[name] for name in names), key=lambda each: each.remembered.start_seconds
        )
        start_seconds = pool.remembered.start_seconds
        decision_seconds = self.settings.config.scaling.seconds
        queued = sum(reading.pools[name].own.messages for name in names)
        return StartWait(
            pool.name,
            first_wait(start_seconds, decision_seconds, bool(pool.reported)),
            sum(reading.pools[name].reported for name in names),
            queued + pool.overflow.messages,
        )

    def set_size(
        self, pool: str, workers: int, *, seconds: float | None = None, why: str = "", by: str = ""
    ) -> None:
        """Set how many workers a pool has, from 0 to its `max`, for some seconds or until
        `clear_size`. Raises `InvalidRequest`."""
        self._check_pool(pool)
        most = self.settings.config.pools[pool].max
        if not 0 <= workers <= most:
            raise InvalidRequest(
                f"pool {pool} may have 0 to {most} workers, not {workers}; raise max in "
                f"[pools.{pool}] of fleet.toml for more"
            )
        if seconds is not None and seconds <= 0:
            raise InvalidRequest(f"a size holds for more than 0 s, not for {seconds:g} s")
        store = self._connection.policy.store
        until = None if seconds is None else store.now_us() // 1000 + round(seconds * 1000)
        store.set_size(pool, SetSize(workers, until), routine_actor(by, why))

    def clear_size(self, pool: str, *, why: str = "", by: str = "") -> bool:
        """Let the scaling policy decide again. Returns whether a size was set. Raises
        `InvalidRequest`."""
        self._check_pool(pool)
        return bool(self._connection.policy.store.clear_size(pool, routine_actor(by, why)))

    def scaling_policies(self) -> Mapping[str, ScalingPolicy]:
        """The installed scaling policies by name."""
        return installed_policies()

    def scaling_policy_of(self) -> dict[str, str]:
        """The scaling policy of each pool: set by a person for it or for all, else configured."""
        config, changed = self.settings.config, self._connection.policy.store.read().scaling
        return {
            name: changed.get(name)
            or changed.get("")
            or pool.scaling_policy
            or config.scaling.policy
            for name, pool in config.pools.items()
        }

    def set_scaling_policy(
        self, policy: str, *, pool: str = "", why: str = "", by: str = ""
    ) -> None:
        """Let another policy decide the size of a pool, or of all. With an empty policy the
        configuration holds again. Raises `InvalidRequest`."""
        if pool:
            self._check_pool(pool)
        installed = installed_policies()
        if policy and policy not in installed:
            raise InvalidRequest(unknown("scaling policy", policy, installed))
        self._connection.policy.store.set_scaling(pool, policy, routine_actor(by, why))

    def scaling_history(self, limit: int = 50, pool: str = "") -> list[HistoryEntry]:
        """Decisions that changed the size of a pool, newest first."""
        if pool:
            self._check_pool(pool)
        return scaling_store(self._connection).history(limit, pool)

    def _check_pool(self, name: str) -> None:
        if name not in self.settings.config.pools:
            raise InvalidRequest(unknown("pool", name, self.settings.config.pools))


def pool_sizes(connection: Connection) -> list[PoolSize]:
    """The size of every pool, as decided and as it is. One round trip or two."""
    reading, config = _reading(connection), connection.settings.config
    queued = overflow_shares(reading, pool_bounds(config))
    return [
        _size(config, reading, pool, pool.own.messages + queued[name])
        for name, pool in reading.pools.items()
    ]


def _reading(connection: Connection) -> Reading:
    # What limits say was noted with the last decision.
    controls = Controls(connection.settings.config, Policy())
    return scaling_store(connection).read(controls)


def _size(config: FleetConfig, reading: Reading, pool: PoolReading, queued: int) -> PoolSize:
    agents, kept = reading.of(pool.name), pool.remembered
    bounds = config.pools[pool.name]
    age = None if kept.at is None else max(0.0, reading.now - kept.at)
    ready = sum(agent.takes_tasks for agent in agents)
    late = _late(age, LATE_PERIODS * config.scaling.seconds + LATE_SECONDS)
    return PoolSize(
        pool=pool.name,
        desired=kept.desired,
        ready=ready,
        starting=pool.reported,
        draining=sum(bool(agent.leaving) for agent in agents),
        min=bounds.min,
        max=bounds.max,
        queued=queued,
        running=running(pool, agents),
        policy=kept.policy,
        reasons=(*late, *_alone(config, pool, ready), *kept.reasons),
        decided_seconds=age,
        start_seconds=kept.start_seconds,
        is_late=bool(late),
    )


def _alone(config: FleetConfig, pool: PoolReading, ready: int) -> tuple[str, ...]:
    """A sentence if nobody acts on a decision."""
    is_done = pool.remembered.desired in (None, ready)
    if is_done or pool.is_followed or config.scaling.actuator != PROCESSES:
        return ()
    return ("no `fleet up` is running that would start or end workers",)


def _late(age: float | None, most: float) -> tuple[str, ...]:
    """A sentence if nothing decides."""
    if age is None:
        return ("no decision yet; beat decides, see `fleet status`",)
    if age <= most:
        return ()
    return (f"nothing was decided for {age:.0f} s: the last size holds; see `fleet status`",)
