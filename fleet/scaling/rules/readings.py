"""What Redis knows of a pool and its agents at one moment, and the load that follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor
from typing import NamedTuple

from fleet.scaling.rules.arrivals import LONG_TERM, RECENT, Interval
from fleet.scaling.rules.values import Arrivals, PoolLoad, ServiceTime, Sized
from fleet.scaling.rules.victims import Worker

START_SECONDS = 5.0
"""How long a worker takes to start, before any has."""
START_WEIGHT = 0.3
"""The weight of the newest start in the moving average."""
MIN_SHARE = 0.01
"""What is known of service times never loses more of its weight in one step."""


SLOT_SECONDS = 10.0
"""For each that passes without a refusal, a provider is taken to allow one call more."""
FORGOTTEN_SECONDS = 600.0
"""After so long without a refusal nothing is known of the provider."""


class Depth(NamedTuple):
    """Messages in a queue, and for how many seconds the oldest task has waited."""

    messages: int
    oldest_seconds: float


class Refused(NamedTuple):
    """What a provider allowed after its last refusal, in calls at once, and seconds since then."""

    slots: int
    seconds: float


class Occupied(NamedTuple):
    """Ended runs, the sum of their seconds, and of the squares of these."""

    ended: float = 0.0
    seconds: float = 0.0
    squares: float = 0.0

    def since(self, before: Occupied) -> Occupied:
        """What was counted since; all of it if the counters have begun anew."""
        if before.ended > self.ended:
            return self
        return Occupied(*(max(0.0, a - b) for a, b in zip(self, before, strict=True)))

    def faded(self, share: float) -> Occupied:
        """The same with a share of its weight."""
        return Occupied(*(each * share for each in self))

    def plus(self, more: Occupied) -> Occupied:
        """Both together."""
        return Occupied(*(a + b for a, b in zip(self, more, strict=True)))

    @property
    def service(self) -> ServiceTime:
        """The mean and the variance of the service times."""
        if self.ended <= 0:
            return ServiceTime(0.0, 0.0, 0)
        mean = self.seconds / self.ended
        return ServiceTime(
            mean, max(0.0, self.squares / self.ended - mean * mean), max(1, round(self.ended))
        )


NO_RUNS = Occupied()


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the last decision on a pool left for the next one.

    `at`, in seconds since 1970, is when it was made, None before the first; `known` is that time as
    it is stored. `counted` is how many tasks had arrived in all, `occupied` the counters of runs,
    `service` what they say, fading.
    """

    at: float | None = None
    known: str = ""
    desired: int | None = None
    policy: str = ""
    reasons: tuple[str, ...] = ()
    history: tuple[Sized, ...] = ()
    counted: int = 0
    occupied: Occupied = NO_RUNS
    service: Occupied = NO_RUNS
    start_seconds: float = START_SECONDS
    ordered: int | None = None


@dataclass(frozen=True, slots=True)
class PoolReading:
    """A pool at one moment. `without_room` is the sentence of a limit that is used up, else ''.

    `set_size` is the size that a person has set, if it holds. `set_policy` is the policy that a
    person has set for the pool, else for all, else ''. `reported` is how many workers supervisors
    say they are starting; `is_followed` says that there is a supervisor that starts them.
    """

    name: str
    maintenance: bool
    claimed: int
    occupied: Occupied
    refused: Refused | None
    in_flight: int
    own: Depth
    overflow: Depth
    without_room: str
    set_size: int | None
    set_policy: str
    remembered: Remembered
    arrivals: Mapping[str, int]
    reported: int
    is_followed: bool


@dataclass(frozen=True, slots=True)
class AgentReading:
    """An agent. `registered` in seconds since 1970, `heartbeat_age` in seconds. `leaving` is ''
    unless the scaler has drained it: then `drained`, and `ending` once it may end. A `supervised`
    one is ended by the process that has started it."""

    id: str
    pool: str
    status: str
    running: int
    heartbeat_age: float
    registered: float
    start_seconds: float | None
    leaving: str
    supervised: bool = False

    @property
    def takes_tasks(self) -> bool:
        return self.status in ("idle", "busy")


@dataclass(frozen=True, slots=True)
class Reading:
    """All pools and live agents at one moment, `now` in seconds since 1970 by Redis's clock."""

    now: float
    version: str
    on_hold: int
    pools: Mapping[str, PoolReading]
    agents: tuple[AgentReading, ...]

    def of(self, pool: str) -> list[AgentReading]:
        """The live agents of a pool."""
        return [agent for agent in self.agents if agent.pool == pool]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the configuration says about the size of a pool."""

    min: int
    max: int
    slots: int
    agent_type: str
    worker_usd_per_hour: float = 0.0
    idle_usd_per_hour: float | None = None


def shares(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Divide a number by weights, whole and without a rest: the largest remainders get the rest."""
    of_all = sum(weights.values())
    if not of_all:
        return dict.fromkeys(weights, 0)
    exact = {name: total * weight / of_all for name, weight in weights.items()}
    found = {name: floor(share) for name, share in exact.items()}
    rest = total - sum(found.values())
    ranked = sorted(exact, key=lambda name: (found[name] - exact[name], name))
    for name in ranked[:rest]:
        found[name] += 1
    return found


def overflow_shares(reading: Reading, bounds: Mapping[str, Bounds]) -> dict[str, int]:
    """The share of each pool in the overflow queue of its agent type, by the slots that it may
    have. A pool in maintenance has none."""
    found: dict[str, int] = {}
    for agent_type in {each.agent_type for each in bounds.values()}:
        names = [name for name, each in bounds.items() if each.agent_type == agent_type]
        weights = {
            name: 0 if reading.pools[name].maintenance else bounds[name].max * bounds[name].slots
            for name in names
        }
        found |= shares(reading.pools[names[0]].overflow.messages, weights)
    return found


def arrived(pool: PoolReading, queued: int) -> int:
    """How many tasks have come to a pool in all: those that a worker took, and those that wait."""
    return pool.claimed + queued


def faded_service(pool: PoolReading, now: float, half_life: float) -> Occupied:
    """The service times as they are known now. Old ones lose half their weight in `half_life`
    seconds, once there are new ones."""
    before = pool.remembered
    new = pool.occupied.since(before.occupied)
    if before.at is None or not new.ended:
        return before.service.plus(new)
    share = 0.5 ** ((now - before.at) / half_life)
    return before.service.faded(max(MIN_SHARE, share)).plus(new)


def measured_start(reading: Reading, pool: PoolReading) -> float:
    """How long a worker takes to start: a moving average over those that started since."""
    since = pool.remembered.at
    average = pool.remembered.start_seconds
    for agent in sorted(reading.of(pool.name), key=lambda each: each.registered):
        if agent.start_seconds is not None and (since is None or agent.registered > since):
            average += START_WEIGHT * (agent.start_seconds - average)
    return average


def pool_load(
    reading: Reading,
    pool: PoolReading,
    bounds: Bounds,
    queued: int,
    service: Occupied,
    start_seconds: float,
    starting: int,
) -> PoolLoad:
    """What a policy may know about a pool. `queued` has the pool's share of the overflow queue."""
    agents = reading.of(pool.name)
    ready = [agent for agent in agents if agent.takes_tasks]
    size = pool.remembered.desired
    oldest = max(pool.own.oldest_seconds, pool.overflow.oldest_seconds if queued else 0.0)
    return PoolLoad(
        pool=pool.name,
        now=reading.now,
        age=min((agent.heartbeat_age for agent in ready), default=0.0),
        min=bounds.min,
        max=bounds.max,
        slots=bounds.slots,
        desired=len(ready) + starting if size is None else size,
        history=pool.remembered.history,
        ready=len(ready),
        starting=starting,
        draining=sum(bool(agent.leaving) for agent in agents),
        running=running(pool, agents),
        queued=queued,
        oldest_seconds=oldest,
        on_hold=reading.on_hold,
        recent=_counts(pool, reading.now, RECENT),
        long_term=_counts(pool, reading.now, LONG_TERM),
        service=service.service,
        start_seconds=start_seconds,
        out_of_money=pool.without_room,
        provider_slots=provider_slots(pool.refused),
        worker_usd_per_hour=bounds.worker_usd_per_hour,
        idle_usd_per_hour=bounds.idle_usd_per_hour,
    )


def provider_slots(refused: Refused | None) -> int | None:
    """How many calls at once the providers of a pool allow now, learned from its refusals: see
    `lua/parts/provider.lua`. None if none refused lately."""
    if refused is None or refused.seconds > FORGOTTEN_SECONDS:
        return None
    return refused.slots + int(refused.seconds / SLOT_SECONDS)


def running(pool: PoolReading, agents: Iterable[AgentReading]) -> int:
    """How many slots are occupied: by agents' tasks now, by plain tasks as last reported."""
    return max(0, pool.in_flight - pool.own.messages, sum(agent.running for agent in agents))


def workers_of(agents: Iterable[AgentReading], mean_seconds: float) -> list[Worker]:
    """The agents as the choice of victims sees them: those that take tasks, and those that the
    scaler has drained and that may be taken back. The seconds left are guessed: the mean service
    time for each task that runs."""
    return [
        Worker(
            agent.id,
            agent.registered,
            agent.running,
            agent.running * mean_seconds,
            agent.leaving == "drained",
        )
        for agent in agents
        if agent.takes_tasks or agent.leaving == "drained"
    ]


def _counts(pool: PoolReading, now: float, interval: Interval) -> Arrivals:
    return interval.arrivals(pool.arrivals, now)
