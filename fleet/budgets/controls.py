"""The limits and controls of the money that are in force under one version of the policy.

What was set while the fleet runs goes before the configuration, limit by limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from fleet.budgets.rules.controls import Downgrade
from fleet.budgets.rules.limits import NUMBERS, QUANTITIES, WINDOWS, Limits
from fleet.money import nanodollars
from fleet.policy.rules import LimitKey, Quantity, Window
from fleet.policy.store import Policy, Scope
from fleet.settings.budgets import Budget, Rate
from fleet.settings.config import FleetConfig
from fleet.settings.names import ALL, Over

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
"""The keys of `[budgets]` and `[rates]`, and what they limit."""


Origin = Literal["configured", "set"]


class LimitInForce(NamedTuple):
    """A limit and where it was said. `most` is None where it was lifted while the fleet runs."""

    key: LimitKey
    most: int | None
    said: Origin


class OverInForce(NamedTuple):
    """What becomes of calls that do not fit a budget, for which tasks, and where it was said."""

    tasks: Scope
    over: Over
    said: Origin


class Controls:
    """What is in force: `limits`, the `emergency` or None, when and how to `downgrade`, and
    `task_nanodollars`, what a task may cost that says nothing of it, None where that is open;
    `task_packed` are the limits of tokens and requests that each task has, for the scripts.

    `special_tenants` are those about whom something was said by name.
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
        """What becomes of a task's model call that does not fit a budget.

        The narrowest scope that fits holds: request type and tenant, then the tenant, then the
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
        """Every limit, and every one that was lifted: those of everything first, then by scope."""
        configured = (LimitInForce(*item, "configured") for item in self._configured.items())
        changed = (LimitInForce(*item, "set") for item in self._set.items())
        return sorted({each.key: each for each in (*configured, *changed)}.values(), key=_order)

    def overs_in_force(self) -> list[OverInForce]:
        """What becomes of calls that do not fit, the widest scope first."""
        return [
            OverInForce(tasks, over, "set" if tasks in self._set_overs else "configured")
            for tasks, over in sorted(self._overs.items())
        ]

    def _special_tenants(self) -> frozenset[str]:
        ruled = {scope.tenant for scope in self._overs if scope.tenant}
        passing = self.emergency.tenants if self.emergency else frozenset()
        return self.limits.named_tenants | ruled | passing


def configured_limits(config: FleetConfig) -> dict[LimitKey, int]:
    """The limits of the configuration."""
    tables: list[tuple[str, Budget | Rate]] = [
        (ALL, config.budgets),
        (ALL, config.rates),
        *config.budgets.scopes.items(),
        *config.rates.scopes.items(),
    ]
    return {key: most for scope, table in tables for key, most in _limits_of(scope, table)}


def configured_overs(config: FleetConfig) -> dict[Scope, Over]:
    """What becomes of calls that do not fit, by the configuration."""
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
