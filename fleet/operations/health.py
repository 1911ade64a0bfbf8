"""The health of each part of a fleet, as `fleet status` shows it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from fleet.agent import installed_agents
from fleet.errors import FleetError, NotAllowed
from fleet.models.keys import ProviderKeys
from fleet.operations.broker import PROBE_SECONDS, ping
from fleet.redis.client import place, redis_errors
from fleet.redis.scripts import text
from fleet.routing.agents_store import AgentRecord
from fleet.routing.rules.health import MAINTENANCE
from fleet.routing.rules.pools import PoolCounts
from fleet.sandbox import DESCRIPTIONS, isolation_for
from fleet.scaling.administration import PoolSize
from fleet.settings import Settings
from fleet.settings.addresses import masked
from fleet.tasks.connection import Connection
from fleet.tasks.reaper import last_health

ALIVE = ("idle", "busy", "maintenance")
LATE_SECONDS = 60
"""A health summary older than this is late. Beat makes one every 15 seconds."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the fleet. `where` is an address without its password, or a count of agents."""

    name: str
    ok: bool
    where: str
    detail: str = ""


def broker_part(settings: Settings) -> Part:
    """The broker. It must answer a ping."""
    where = place(settings.broker_url)
    try:
        ping(settings)
    except FleetError as error:
        return Part("broker", False, where, str(error))
    return Part("broker", True, where)


def access_part(settings: Settings, problem: str = "") -> Part:
    """Who may do what. Open access is no fault, but it is said."""
    if settings.config.access.mode == "open":
        return Part("access", True, "open", "each process that reaches Redis may do everything")
    return Part("access", not problem, "tokens", problem)


def model_part(settings: Settings, keys: ProviderKeys) -> Part:
    """The language model: a server that must answer, or providers with a key (not tested)."""
    url, key = settings.environment.model_url, settings.environment.model_key
    if url:
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        problem = http_problem(f"{url.rstrip('/')}/models", headers)
        return Part("model", not problem, masked(url), problem)
    if keys.providers:
        return Part("model", True, ", ".join(keys.providers), "a key is set; not tested")
    return Part("model", False, "-", "neither FLEET_MODEL_URL nor a provider's key is set")


def sandbox_parts(settings: Settings) -> list[Part]:
    """The isolation of code on this machine. Empty if no configured agent runs code."""
    specs = installed_agents()
    if not any(specs[name].runs_code for name in settings.config.agent_types if name in specs):
        return []
    try:
        isolation = isolation_for(settings.config.agents.sandbox)
    except NotAllowed as error:
        return [Part("sandbox", False, "none", str(error))]
    return [Part("sandbox", True, isolation, f"on this machine: {DESCRIPTIONS[isolation]}")]


def flower_part(url: str) -> Part:
    """Flower. It must answer, if only by asking for the login, which this process may not know."""
    problem = http_problem(f"{url}/healthcheck", asks_for_login=True)
    return Part("flower", not problem, url, problem)


def ops_part(url: str) -> Part:
    """The ops endpoint. It must answer."""
    problem = http_problem(f"{url}/health")
    return Part("ops", not problem, url, problem)


def pool_parts(
    agents: Sequence[AgentRecord], counts: Mapping[str, PoolCounts], sizes: Iterable[PoolSize]
) -> list[Part]:
    """The pools, with the workers that each has and should have. Each needs a live agent, unless
    its size may be 0."""
    alive = [agent for agent in agents if agent.status in ALIVE]
    return [
        _pool_part(
            size, [a for a in alive if a.pool == size.pool], counts[size.pool].health_state
        )
        for size in sizes
    ]


def _pool_part(size: PoolSize, alive: Sequence[AgentRecord], standing: str) -> Part:
    name = size.pool
    in_maintenance = sum(agent.status == "maintenance" for agent in alive)
    running = sum(agent.running for agent in alive)
    slots = sum(agent.slots for agent in alive)
    where = f"{len(alive)} agent{'' if len(alive) == 1 else 's'}, {running} of {slots} slots busy"
    if in_maintenance:
        where += f", {in_maintenance} in maintenance"
    if size.desired is not None and size.desired != size.ready:
        where += f", {size.desired} wanted"
    if size.starting:
        where += f", {size.starting} starting"
    ok = bool(alive) or size.min == 0 or size.desired == 0
    detail = "" if ok else f"no live agent; start one: fleet service worker {name}"
    if ok and size.is_late:
        detail = size.reasons[0]
    if ok and standing == MAINTENANCE:
        detail = f"draining, gets no new tasks; undo: fleet pools resume {name}"
    return Part(f"pool {name}", ok, where, detail)


def beat_part(connection: Connection) -> Part:
    """Beat. One process must hold the lease to run jobs, which it renews every few seconds."""
    with redis_errors(connection.client):
        owner = connection.client.get(connection.keys.beat)
    if owner is None:
        return Part("beat", False, "-", "not running; start it: fleet service beat")
    health = last_health(connection)
    age = health.get("age_seconds")
    detail = "no health summary yet" if age is None else f"last health summary {age:.0f} s ago"
    late = age is not None and age > LATE_SECONDS
    if late:
        detail += "; its log shows why its jobs fail"
    return Part("beat", not late, text(owner), detail)


def on_hold_parts(count: int) -> list[Part]:
    """The tasks that wait for budget or for a retry, if any. This is not an error."""
    where = f"{count} task{'' if count == 1 else 's'}"
    detail = "on hold, waiting for budget or a retry: fleet tasks --state parked"
    return [Part("parked", True, where, detail)] if count else []


def malformed_parts(count: int, ever: int) -> list[Part]:
    """The malformed messages that are set aside, if any. They do not stop the fleet."""
    where = f"{count} message{'' if count == 1 else 's'}"
    detail = f"malformed and set aside, {ever} in total: fleet dead list"
    return [Part("malformed", True, where, detail)] if count else []


def http_problem(
    url: str, headers: Mapping[str, str] = MappingProxyType({}), *, asks_for_login: bool = False
) -> str:
    """The problem with an HTTP address. Empty if it answers 200, or asks for a login where it
    should."""
    try:
        request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310
        # The address is one of the fleet's own settings.
        with urllib.request.urlopen(  # noqa: S310  # nosec B310
            request, timeout=PROBE_SECONDS
        ) as answer:
            return "" if answer.status == 200 else f"answered {answer.status}"
    except urllib.error.HTTPError as error:
        return "" if asks_for_login and error.code == 401 else f"answered {error.code}"
    except (OSError, ValueError) as error:
        return f"does not answer ({getattr(error, 'reason', error)})"
