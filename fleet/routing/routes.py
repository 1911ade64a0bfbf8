"""The strategy and the weights that route a task.

The narrowest matching scope wins: request type and tenant, then the tenant, then the request type,
then all. Within a scope, a route that was set while the fleet runs wins over the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fleet.errors import InvalidConfig, InvalidRequest
from fleet.policy.rules import check_tenant
from fleet.policy.store import UNKNOWN_ACTOR, AuditActor, PolicyStore, Scope
from fleet.routing.rules.scoring import ScoreWeights
from fleet.routing.rules.strategies import Strategy
from fleet.settings import Settings
from fleet.settings.config import FleetConfig
from fleet.text import unknown

EVERYTHING = Scope()


class Route(NamedTuple):
    """How a task is routed. `origin` is `set` or `configured`."""

    strategy: str
    weights: ScoreWeights
    origin: str


class Routes:
    """All routes in force under one version of the policy."""

    def __init__(self, config: FleetConfig, changed: Mapping[Scope, Mapping[str, Any]]) -> None:
        self.by_scope = {**configured(config), **_changed(changed)}
        self.tenants = frozenset(scope.tenant for scope in self.by_scope if scope.tenant)
        """The tenants with a route of their own."""

    def of(self, request_type: str, tenant: str) -> Route:
        """The route of a task."""
        scopes = (
            Scope(request_type, tenant),
            Scope("", tenant),
            Scope(request_type, ""),
            EVERYTHING,
        )
        return next(self.by_scope[scope] for scope in scopes if scope in self.by_scope)


def configured(config: FleetConfig) -> dict[Scope, Route]:
    """The routes in the configuration."""
    usual = _weights(config.routing.weights)
    routes = {EVERYTHING: Route(config.strategy, usual, "configured")}
    for rule in config.routing.rules:
        given = rule.weights.model_dump(exclude_unset=True) if rule.weights else {}
        weights = usual._replace(**given)
        scope = Scope(rule.request_type or "", rule.tenant or "")
        routes[scope] = Route(rule.strategy, weights, "configured")
    return routes


def check_strategies(settings: Settings, strategies: Mapping[str, Strategy]) -> None:
    """Raise `InvalidConfig` if the configuration names a strategy that is not installed."""
    for key, name in _named(settings.config):
        if name not in strategies:
            sentence = unknown("strategy", name, strategies)
            raise InvalidConfig(f"{settings.source}: {key}: {sentence}")


def set_route(
    store: PolicyStore,
    settings: Settings,
    strategies: Mapping[str, Strategy],
    scope: Scope,
    strategy: str,
    weights: Mapping[str, float] | None = None,
    actor: AuditActor = UNKNOWN_ACTOR,
) -> None:
    """Change the route of a scope for all producers, from their next task on.

    `weights` replace single weights of the configuration. Raises `InvalidRequest` and then changes
    nothing.
    """
    if strategy not in strategies:
        raise InvalidRequest(unknown("strategy", strategy, strategies))
    check_scope(settings, scope)
    wanted = changed_weights(_weights(settings.config.routing.weights), weights or {})
    store.set_route(scope, {"strategy": strategy, "weights": wanted._asdict()}, actor)


def changed_weights(usual: ScoreWeights, changes: Mapping[str, float]) -> ScoreWeights:
    """The configured weights with single ones replaced. Raises `InvalidRequest`."""
    for name, weight in changes.items():
        if name not in ScoreWeights._fields:
            known = ", ".join(ScoreWeights._fields)
            raise InvalidRequest(f"no weight is called {name!r}; use one of: {known}")
        if not 0 <= weight <= 1:
            raise InvalidRequest(f"weight {name} is {weight!r}; give a number from 0 to 1")
    return usual._replace(**changes)


def check_scope(settings: Settings, scope: Scope) -> None:
    """Raise `InvalidRequest` for an unknown request type, or an unknown or invalid tenant."""
    config = settings.config
    if scope.request_type and scope.request_type not in config.request_types:
        raise InvalidRequest(unknown("request type", scope.request_type, config.request_types))
    if scope.tenant and config.tenants and scope.tenant not in config.tenants:
        raise InvalidRequest(unknown("tenant", scope.tenant, frozenset(config.tenants)))
    if scope.tenant:
        check_tenant(scope.tenant)


def _changed(routes: Mapping[Scope, Mapping[str, Any]]) -> dict[Scope, Route]:
    return {
        scope: Route(route["strategy"], ScoreWeights(**route["weights"]), "set")
        for scope, route in routes.items()
    }


def _weights(section: Any) -> ScoreWeights:
    return ScoreWeights(**section.model_dump())


def _named(config: FleetConfig) -> Iterator[tuple[str, str]]:
    yield "strategy", config.strategy
    for number, rule in enumerate(config.routing.rules):
        yield f"routing.rules.{number}.strategy", rule.strategy
