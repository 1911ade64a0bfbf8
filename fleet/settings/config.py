"""The whole of fleet.toml, and what holds between its tables.

Everything is checked when it is read, also one key against another, so that a fleet
with a bad configuration does not start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Self

from pydantic import Field, model_validator

from fleet.settings import defaults
from fleet.settings.budgets import Budgets, Rates
from fleet.settings.kubernetes import Kubernetes
from fleet.settings.limits import Access, Agents, Leases, Limits, Replication, Workers
from fleet.settings.messages import SIGNING_PATH, Messages
from fleet.settings.models import CatalogueModel, Models, TenantModels
from fleet.settings.names import (
    EVERY_TYPE,
    LOCAL,
    SILENT_COMPATIBILITY,
    Fraction,
    Name,
    Section,
    StrategyName,
    check_scope_name,
)
from fleet.settings.providers import Provider
from fleet.settings.retries import Retries
from fleet.settings.routing import AgentType, Health, Pool, RequestType, Routing
from fleet.settings.scaling import Scaling
from fleet.settings.secrets import SecretSettings

Prioritised = RequestType | TenantModels | Models


class FleetConfig(Section):
    """The whole file."""

    strategy: StrategyName = Field(
        "soonest",
        description="How pools are chosen: soonest, ai_optimized, expected_wait, power_of_two, "
        "least_loaded, least_connections, round_robin, weighted_round_robin, or one that a package "
        "brings. `fleet route strategies` lists them, `fleet route set` changes the strategy while "
        "the fleet runs.",
    )
    tenants: tuple[Name, ...] = Field(
        (), description="Tenants that may submit. Empty: any well-formed name."
    )
    agent_types: dict[Name, AgentType] = Field(default_factory=defaults.agent_types)
    pools: dict[Name, Pool] = Field(default_factory=defaults.pools)
    request_types: dict[Name, RequestType] = Field(default_factory=defaults.request_types)
    compatibility: dict[Name, dict[Name, Fraction]] = Field(
        default_factory=defaults.compatibility,
        description="How well an agent type suits a request type. 0.5 where the table is silent.",
    )
    models: Models = Models()
    providers: dict[Name, Provider] = Field(default_factory=defaults.providers)
    catalogue: dict[str, CatalogueModel] = Field(default_factory=defaults.catalogue)
    limits: Limits = Limits()
    retries: Retries = Retries()
    budgets: Budgets = Budgets()
    rates: Rates = Rates()
    leases: Leases = Leases()
    workers: Workers = Workers()
    messages: Messages = Messages()
    redis: Replication = Replication()
    agents: Agents = Agents()
    access: Access = Access()
    routing: Routing = Routing()
    health: Health = Health()
    scaling: Scaling = Scaling()
    kubernetes: Kubernetes = Kubernetes()
    secrets: SecretSettings = SecretSettings()

    @classmethod
    def tables(cls) -> frozenset[str]:
        """The keys that are tables."""
        return frozenset(cls.model_fields) - {"strategy", "tenants"}

    @property
    def message_bytes(self) -> int:
        """The bytes that the body of a message may have. Quotes and backslashes of a payload take
        two characters each."""
        return max(self.messages.max_bytes, 2 * self.limits.payload_bytes + 64 * 1024)

    @property
    def raw_message_bytes(self) -> int:
        """The bytes that a message may have in its queue: JSON within JSON, or base64."""
        return 4 * self.message_bytes

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
            for tenant in model.tenants if self.tenants else ():
                _known(f'catalogue."{name}".tenants', tenant, self.tenants)
        return self

    @model_validator(mode="after")
    def _priorities_leave_room(self) -> Self:
        """Whatever request type meets whatever tenant: see `fleet.models.priorities`."""
        for tenant in self.models.tenants if self.tenants else ():
            _known(f"models.tenants.{tenant}", tenant, self.tenants)
        requests: list[tuple[str, Prioritised]] = [
            (f"request_types.{name}", each) for name, each in self.request_types.items()
        ]
        tenants: list[tuple[str, Prioritised]] = [
            (f"models.tenants.{name}", each) for name, each in self.models.tenants.items()
        ]
        silent: tuple[str, Prioritised] = ("", TenantModels())
        for (request, first), (tenant, second) in product([*requests, silent], [*tenants, silent]):
            total = _priority_sum((first, second, self.models))
            if total > 1 + 1e-9:
                where = " and ".join(name for name in (request, tenant) if name)
                raise ValueError(
                    f"{where}: quality_priority + speed_priority is {total:g} with what is left "
                    "out there; together they may be at most 1: give both"
                )
        return self

    @property
    def scope_names(self) -> Mapping[str, Collection[str]]:
        """The names that a scope of each kind may have; any where there are none."""
        return {
            "tenant": self.tenants,
            "agent_type": self.agent_types,
            "model": self.catalogue if self.models.catalogue == "configured" else (),
        }

    @model_validator(mode="after")
    def _names_of_money_exist(self) -> Self:
        for section, scopes in (("budgets", self.budgets.scopes), ("rates", self.rates.scopes)):
            for scope in scopes:
                _known_scope(f'{section}.scopes."{scope}"', scope, self.scope_names)
        for number, rule in enumerate(self.budgets.rules):
            where = f"budgets.rules.{number}"
            if rule.request_type is not None:
                _known(f"{where}.request_type", rule.request_type, self.request_types)
            if rule.tenant is not None and self.tenants:
                _known(f"{where}.tenant", rule.tenant, self.tenants)
        if self.scope_names["model"]:
            for pair in self.budgets.downgrade.models.items():
                for model in pair:
                    _known("budgets.downgrade.models", model, self.catalogue)
        return self

    @model_validator(mode="after")
    def _some_model_may_serve(self) -> Self:
        if self.models.catalogue == "configured" and self.catalogue:
            for fault in _faults(self.models, self.request_types, self.catalogue):
                raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _old_messages_stay_valid(self) -> Self:
        """A key is not revoked while messages may wait that it has signed."""
        rotation, valid = self.secrets.rotation.get(SIGNING_PATH), self.messages.valid_seconds
        where = f'secrets.rotation."{SIGNING_PATH}"'
        if rotation is None:
            return self
        if rotation.revoke != "grace":
            raise ValueError(
                f'{where}.revoke: set it to "grace": messages that the previous key has signed may '
                "still wait when every process has the new one"
            )
        if (rotation.grace_seconds or 0) < valid:
            raise ValueError(
                f"{where}.grace_seconds: set it to at least messages.valid_seconds ({valid}), or "
                "messages that wait would be refused"
            )
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
    def _graces_outlast_tasks(self) -> Self:
        longest = self.limits.task_seconds
        for path, rotation in self.secrets.rotation.items():
            if rotation.grace_seconds is not None and rotation.grace_seconds < longest:
                raise ValueError(
                    f'secrets.rotation."{path}".grace_seconds ({rotation.grace_seconds:g}) is '
                    f"under limits.task_seconds ({longest:g}), so a task might outlive the version "
                    "that it uses; raise it"
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


def _faults(
    models: Models, requests: Mapping[str, RequestType], catalogue: Mapping[str, CatalogueModel]
) -> Iterator[str]:
    """What no model of the catalogue could ever satisfy."""
    best = max(model.quality for model in catalogue.values())
    if models.quality_floor > best:
        yield (
            f"models.quality_floor: {models.quality_floor:g} is over the quality of every model of "
            f"the catalogue, at most {best:g}; lower it"
        )
    regions = {model.region for model in catalogue.values() if model.region}
    for region in models.regions:
        if region not in regions:
            known = ", ".join(sorted(regions)) or "none: give models a region"
            yield f"models.regions: no model is in {region!r}; regions of the catalogue: {known}"
    for name, request in requests.items():
        if not any(set(request.needs) <= set(model.capabilities) for model in catalogue.values()):
            needs = " and ".join(request.needs)
            yield f"request_types.{name}.needs: no model of the catalogue is capable of {needs}"


def _priority_sum(levels: Sequence[Prioritised]) -> float:
    """The first quality priority that is given plus the first speed priority that is."""
    quality = (each.quality_priority for each in levels)
    speed = (each.speed_priority for each in levels)
    return sum(next(each for each in said if each is not None) for said in (quality, speed))


def _known_scope(key: str, scope: str, names: Mapping[str, Collection[str]]) -> None:
    try:
        check_scope_name(scope, names)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _known(key: str, name: str, allowed: Iterable[str]) -> None:
    known = sorted(allowed)
    if name not in known:
        raise ValueError(f"{key}: {name!r} is not known; use one of: {', '.join(known)}")
