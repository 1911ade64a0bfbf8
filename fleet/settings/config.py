"""What fleet.toml may say: agent types, pools, request types, models, limits.

Everything is checked when it is read, also one key against another, so that a fleet
with a bad configuration does not start. Units: seconds, bytes, US dollars.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_\-]{0,62}$")]
# Kombu keeps a priority's messages under queue + separator + priority: a queue name
# with a control character in it would deliver into a list that nobody reads.
QueueName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:{}\-]{1,120}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
Strategy = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name; whether there is such a strategy is checked where the installed ones are known."""
TenantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]

SILENT_COMPATIBILITY = 0.5
"""How well an agent type suits a request type where the table is silent."""

EVERY_TYPE = "*"

LOCAL = "local"
"""The provider of the models that Fleet serves itself."""


class Section(BaseModel):
    """A table of the file: an unknown key is an error, not a surprise later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AgentType(Section):
    """What a worker can do. Its code is the entry point of this name in `fleet.agents`."""


class Pool(Section):
    """The workers of one agent type that share one queue."""

    agent_type: Name
    queue: QueueName | None = None
    weight: Annotated[int, Field(ge=1, le=10)] = 5
    slots: Annotated[int, Field(ge=1, le=1000)] = 10
    execution: Literal["threads", "prefork"] = "threads"
    min: Annotated[int, Field(ge=0, le=1000)] = 1
    max: Annotated[int, Field(ge=1, le=1000)] = 4
    helps: tuple[Name | Literal["*"], ...] = ()

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is over max ({self.max}); lower min or raise max")
        if self.agent_type in self.helps:
            raise ValueError(f"helps names the pool's own agent type {self.agent_type}; remove it")
        return self


class RequestType(Section):
    """What an application asks for, and the agent type that answers it."""

    agent_type: Name
    model_task: Literal[
        "code_generation", "security_analysis", "performance_testing", "general"
    ] | None = None


class Models(Section):
    """Which catalogue to choose from, and what matters when choosing."""

    catalogue: Literal["configured", "reference"] = "configured"
    quality_priority: Fraction = 0.7
    speed_priority: Fraction = 0.3

    @model_validator(mode="after")
    def _priorities(self) -> Self:
        total = self.quality_priority + self.speed_priority
        if total > 1 + 1e-9:
            raise ValueError(
                f"quality_priority + speed_priority is {total:g}; together they may be at most 1, "
                "the rest is the weight of a low cost"
            )
        return self


class Provider(Section):
    """An endpoint that speaks the OpenAI protocol."""

    base_url: str = Field(pattern=r"^https?://")
    key_variable: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")


class CatalogueModel(Section):
    """One model: who serves it, how good and quick it is (0 to 1), what it costs."""

    provider: Name
    quality: Fraction
    speed: Fraction
    efficiency: Annotated[float, Field(gt=0, le=10)] = 1.0
    input_price: Annotated[float, Field(ge=0)] | None = None
    output_price: Annotated[float, Field(ge=0)] | None = None
    free: bool = False

    @model_validator(mode="after")
    def _prices_come_in_pairs(self) -> Self:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("give both input_price and output_price, or neither")
        return self


class Limits(Section):
    payload_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    task_seconds: Seconds = 600
    model_call_seconds: Seconds = 300
    result_ttl_seconds: Annotated[int, Field(ge=60)] = 86400


class Leases(Section):
    lease_seconds: Seconds = 30
    renew_seconds: Seconds = 10
    heartbeat_seconds: Seconds = 10
    dead_after_seconds: Seconds = 60
    reap_seconds: Seconds = 30

    @model_validator(mode="after")
    def _a_missed_beat_is_not_a_death(self) -> Self:
        for life, beat in (
            ("lease_seconds", "renew_seconds"),
            ("dead_after_seconds", "heartbeat_seconds"),
        ):
            if getattr(self, life) < 2 * getattr(self, beat):
                raise ValueError(
                    f"{life} ({getattr(self, life):g}) must be at least twice {beat} "
                    f"({getattr(self, beat):g}), or one late sign of life counts as a death"
                )
        return self


class Agents(Section):
    read_roots: tuple[str, ...] = (".",)
    sandbox: Literal["auto", "bubblewrap", "rlimits"] = "auto"


class Weights(Section):
    """What each term of `ai_optimized` counts for."""

    success: Fraction = 0.30
    response: Fraction = 0.25
    load: Fraction = 0.20
    compatibility: Fraction = 0.15
    complexity_fit: Fraction = 0.10


class RouteRule(Section):
    """How the tasks of a request type, a tenant, or both are routed."""

    request_type: Name | None = None
    tenant: TenantName | None = None
    strategy: Strategy
    weights: Weights | None = None

    @model_validator(mode="after")
    def _has_a_scope(self) -> Self:
        if self.request_type is None and self.tenant is None:
            raise ValueError("name a request_type, a tenant or both; for all there is `strategy`")
        return self


class Routing(Section):
    """How pools are chosen, beside the strategy."""

    helper_floor: Fraction = 0.3
    half_life_seconds: Seconds = 600
    weights: Weights = Weights()
    rules: tuple[RouteRule, ...] = ()


class Health(Section):
    """When a pool is taken out of the rotation; see `fleet.core.health.HealthPolicy`."""

    failures_in_row: Annotated[int, Field(ge=1)] = 5
    least_success: Fraction = 0.6
    worse_by: Fraction = 0.2
    slow_factor: Annotated[float, Field(gt=1)] = 10.0
    least_outcomes: Annotated[int, Field(ge=1, le=100)] = 20
    most_ejected: Fraction = 0.5
    eject_seconds: Seconds = 30
    most_eject_seconds: Seconds = 300
    probes: Annotated[int, Field(ge=1)] = 1
    good_probes: Annotated[int, Field(ge=1, le=100)] = 3
    ramp_seconds: Seconds = 60
    look_seconds: Seconds = 10

    @model_validator(mode="after")
    def _times(self) -> Self:
        if self.most_eject_seconds < self.eject_seconds:
            raise ValueError(
                f"most_eject_seconds ({self.most_eject_seconds:g}) is under eject_seconds "
                f"({self.eject_seconds:g}); raise it"
            )
        return self


class FleetConfig(Section):
    """The whole file."""

    strategy: Strategy = "soonest"
    tenants: tuple[Name, ...] = ()
    agent_types: dict[Name, AgentType]
    pools: dict[Name, Pool]
    request_types: dict[Name, RequestType]
    compatibility: dict[Name, dict[Name, Fraction]]
    models: Models = Models()
    providers: dict[Name, Provider]
    catalogue: dict[str, CatalogueModel]
    limits: Limits = Limits()
    leases: Leases = Leases()
    agents: Agents = Agents()
    routing: Routing = Routing()
    health: Health = Health()

    def suits(self, request_type: str, agent_type: str) -> float:
        """How well an agent type suits a request type, 0 to 1."""
        return self.compatibility.get(request_type, {}).get(agent_type, SILENT_COMPATIBILITY)

    def helped_by(self, pool: str) -> frozenset[str]:
        """The other agent types whose tasks a pool may take while it has none of its own.

        Those that it names; with `*` all that it suits well enough for each of their requests.
        """
        found = self.pools[pool]
        if EVERY_TYPE not in found.helps:
            return frozenset(found.helps)
        others = {r.agent_type for r in self.request_types.values()} - {found.agent_type}
        return frozenset(
            other for other in others if self._fit(other, found) >= self.routing.helper_floor
        )

    def _fit(self, agent_type: str, pool: Pool) -> float:
        """How well a pool suits the request of an agent type that it suits worst."""
        answered = [n for n, r in self.request_types.items() if r.agent_type == agent_type]
        return min((self.suits(name, pool.agent_type) for name in answered), default=1.0)

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, pool in self.pools.items():
            _known(f"pools.{name}.agent_type", pool.agent_type, self.agent_types)
            for helped in pool.helps:
                _known(f"pools.{name}.helps", helped, [*self.agent_types, EVERY_TYPE])
        for name, request in self.request_types.items():
            _known(f"request_types.{name}.agent_type", request.agent_type, self.agent_types)
        for request_name, row in self.compatibility.items():
            _known(f"compatibility.{request_name}", request_name, self.request_types)
            for agent_type in row:
                _known(f"compatibility.{request_name}.{agent_type}", agent_type, self.agent_types)
        for number, rule in enumerate(self.routing.rules):
            if rule.request_type is not None:
                where = f"routing.rules.{number}.request_type"
                _known(where, rule.request_type, self.request_types)
        for name, model in self.catalogue.items():
            _known(f'catalogue."{name}".provider', model.provider, [*self.providers, LOCAL])
        return self

    @model_validator(mode="after")
    def _helpers_are_fit(self) -> Self:
        floor = self.routing.helper_floor
        for name, pool in self.pools.items():
            for helped in pool.helps:
                fit = 1.0 if helped == EVERY_TYPE else self._fit(helped, pool)
                if fit < floor:
                    raise ValueError(
                        f"pools.{name}.helps: {pool.agent_type} suits the requests for {helped} "
                        f"with {fit:g} only, under routing.helper_floor ({floor:g}); remove it, or "
                        "lower the floor"
                    )
        return self

    @model_validator(mode="after")
    def _queues_are_not_shared(self) -> Self:
        owners: dict[str, str] = {}
        for name, pool in self.pools.items():
            if pool.queue and pool.queue in owners:
                raise ValueError(
                    f"pools.{name}.queue: {pool.queue} is the queue of pool "
                    f"{owners[pool.queue]} already; give each pool a queue of its own"
                )
            owners[pool.queue or name] = name
        return self


def _known(key: str, name: str, allowed: Iterable[str]) -> None:
    known = sorted(allowed)
    if name not in known:
        raise ValueError(f"{key}: {name!r} is not known; use one of: {', '.join(known)}")
