"""The limits and controls of spending that are in force under one version of the policy.

A limit that was set while the fleet runs wins over the same limit in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from fleet.budgets.rules.controls import Downgrade
from fleet.budgets.rules.limits import NUMBERS, QUANTITIES, WINDOWS, Limits
from fleet.money import nanodollars
from fleet.policy.rules import LimitKey, Quantity, Window
from fleet.policy.store import Policy, Scope
from fleet.settings.budgets import Budget, Rate
from fleet.settings.config import FleetConfig
from fleet.settings.names import ALL, EACH, Over, tenant_scope

CONFIGURED: Mapping[str, tuple[Window, Quantity]] = {
    "hourly_usd": ("hour", "dollars"),
    "hourly_tokens": ("hour", "tokens"),
    "hourly_requests": ("hour", "requests"),
    "daily_usd": ("day", "dollars"),
    "daily_tokens": ("day", "tokens"),
    "daily_requests": ("day", "requests"),
    "monthly_usd": ("month", "dollars"),
    "monthly_tokens": ("month", "tokens"),
    "monthly_requests": ("month", "requests"),
    "usd": ("rolling", "dollars"),
    "tokens": ("rolling", "tokens"),
    "requests": ("rolling", "requests"),
    "concurrent_tasks": ("now", "tasks"),
}
"""The keys of `[budgets]` and `[rates]`, with the window and the quantity that they limit."""


Origin = Literal["configured", "set"]


class LimitInForce(NamedTuple):
    """A limit and its origin. `most` is None if it was lifted while the fleet runs."""

    key: LimitKey
    most: int | None
    origin: Origin


class OverInForce(NamedTuple):
    """What happens to calls that exceed a budget, for a scope of tasks, and the rule's origin."""

    tasks: Scope
    over: Over
    origin: Origin


class Controls:
    """The controls in force: `limits`, the `emergency` or None, and when and how to `downgrade`.

    `task_nanodollars` is the most that a task may cost without a limit of its own, None for no
    limit. `task_packed` are the token and request limits of each task, for the scripts.
    `special_tenants` are the tenants with rules of their own.
    """

    def __init__(self, config: FleetConfig, policy: Policy) -> None:
        self._configured = configured_limits(config)
        self._set = policy.limits
        self._set_overs = policy.overs
        self._overs = {**configured_overs(config), **policy.overs}
        self.limits = Limits({**self._configured, **self._set})
        self.emergency = policy.emergency
        self.downgrade = _downgrade(config)
        self.task_nanodollars = _task_nanodollars(config)
        self.task_packed = _task_packed(config)
        self.special_tenants = self._special_tenants()

    def over(self, request_type: str, tenant: str) -> Over:
        """What happens to a task's model call that exceeds a budget.

        The narrowest matching scope wins: request type and tenant, then the tenant, then the
        request type, then all.
        """
        scopes = (
            Scope(request_type, tenant),
            Scope("", tenant),
            Scope(request_type, ""),
            Scope(),
        )
        return next(self._overs[scope] for scope in scopes if scope in self._overs)

    def in_force(self) -> list[LimitInForce]:
        """Every limit, lifted ones included: the limits of `all` first, then by scope."""
        configured = (LimitInForce(*item, "configured") for item in self._configured.items())
        changed = (LimitInForce(*item, "set") for item in self._set.items())
        return sorted({each.key: each for each in (*configured, *changed)}.values(), key=_order)

    def overs_in_force(self) -> list[OverInForce]:
        """What happens to calls that exceed a budget, the widest scope first."""
        return [
            OverInForce(tasks, over, "set" if tasks in self._set_overs else "configured")
            for tasks, over in sorted(self._overs.items())
        ]

    def _special_tenants(self) -> frozenset[str]:
        ruled = {scope.tenant for scope in self._overs if scope.tenant}
        passing = self.emergency.tenants if self.emergency else frozenset()
        return self.limits.named_tenants | ruled | passing


def policy_for_tenant(policy: Policy, tenant: str) -> Policy:
    """The part of the policy that concerns a tenant: nothing in it names another one."""
    scopes, emergency = (tenant_scope(tenant), tenant_scope(EACH)), policy.emergency
    return replace(
        policy,
        limits={key: most for key, most in policy.limits.items() if key.scope in scopes},
        overs={key: over for key, over in policy.overs.items() if key.tenant in ("", tenant)},
        emergency=emergency and emergency._replace(tenants=emergency.tenants & {tenant}),
    )


def limits_of_tenant(limits: Sequence[LimitInForce], tenant: str) -> list[LimitInForce]:
    """The limits of a tenant: its own, and those of each tenant where it has none."""
    scope, each = tenant_scope(tenant), tenant_scope(EACH)
    own = {limit.key: limit for limit in limits if limit.key.scope == scope}
    common = (
        limit._replace(key=limit.key._replace(scope=scope))
        for limit in limits
        if limit.key.scope == each
    )
    return list({**{limit.key: limit for limit in common}, **own}.values())


def configured_limits(config: FleetConfig) -> dict[LimitKey, int]:
    """The limits in the configuration."""
    tables: list[tuple[str, Budget | Rate]] = [
        (ALL, config.budgets),
        (ALL, config.rates),
        *config.budgets.scopes.items(),
        *config.rates.scopes.items(),
    ]
    return {key: most for scope, table in tables for key, most in _limits_of(scope, table)}


def configured_overs(config: FleetConfig) -> dict[Scope, Over]:
    """What happens to calls that exceed a budget, by the configuration."""
    rules = config.budgets.rules
    found = {Scope(rule.request_type or "", rule.tenant or ""): rule.over for rule in rules}
    return {Scope(): config.budgets.over, **found}


def _limits_of(scope: str, table: Budget | Rate) -> Iterator[tuple[LimitKey, int]]:
    for name, (window, quantity) in CONFIGURED.items():
        amount = getattr(table, name, None)
        if amount is not None:
            most = nanodollars(amount) if quantity == "dollars" else amount
            yield LimitKey(scope, window, quantity), most


def _downgrade(config: FleetConfig) -> Downgrade:
    section = config.budgets.downgrade
    return Downgrade(dict(section.models), nanodollars(section.over_usd), section.nearly)


def _task_packed(config: FleetConfig) -> str:
    budgets = config.budgets
    limits = {NUMBERS["tokens"]: budgets.task_tokens, NUMBERS["requests"]: budgets.task_requests}
    return ";".join(f"t{number}={most}" for number, most in limits.items() if most is not None)


def _task_nanodollars(config: FleetConfig) -> int | None:
    dollars = config.budgets.task_usd
    return None if dollars is None else nanodollars(dollars)


def _order(limit: LimitInForce) -> tuple[bool, str, int, int]:
    scope, window, quantity = limit.key
    return scope != ALL, scope, WINDOWS.index(window), QUANTITIES.index(quantity)
