"""The part of `Fleet` that steers the money while the fleet runs: limits, budgets, emergencies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from fleet.budgets.changes import (
    Amounts,
    clear_limits,
    clear_over,
    set_emergency,
    set_limits,
    set_over,
)
from fleet.budgets.controls import CONFIGURED, Controls, LimitInForce
from fleet.budgets.rules.alerts import Alert
from fleet.budgets.stores import BudgetStores
from fleet.budgets.usage import LimitStanding, standings
from fleet.policy.actor import actor_of
from fleet.policy.audit_store import Change
from fleet.policy.rules import Emergency
from fleet.policy.store import Scope
from fleet.policy.stores import PolicyStores
from fleet.settings import Settings
from fleet.settings.names import Over


class BudgetAdministration:
    """Each change holds for the next task of every process, and is kept in the audit with who made
    it (by default the user of the operating system) and why.
    """

    settings: Settings
    _policy: PolicyStores
    _budgets: BudgetStores

    def controls(self) -> Controls:
        """The limits and controls that are in force."""
        return Controls(self.settings.config, self._policy.store.read())

    def limits(self) -> list[LimitInForce]:
        """Every limit that is in force, and every one that was lifted."""
        return self.controls().in_force()

    def standings(self, limits: Sequence[LimitInForce]) -> list[LimitStanding]:
        """How much of each limit is spent and reserved now. A limit for each of a kind is told
        for those of the kind that have used most of it."""
        return standings(self._budgets.usage, limits)

    def set_limits(self, scope: str, limits: Amounts, *, why: str, by: str = "") -> int:
        """Lay limits of a scope over the configuration; how many were not so already.

        A scope is `all`, `tenant:NAME`, `agent_type:NAME` or `model:NAME`, with `*` as NAME for
        each that has none of its own. Limits are named as under `[budgets]` and `[rates]`:
        `{"daily_usd": 20, "requests": 1000}`; None lifts one. All are set or none. Raises
        `InvalidRequest`; nothing was changed then.
        """
        store = self._policy.store
        return set_limits(store, self.settings, scope, limits, actor_of(by, why))

    def clear_limits(
        self, scope: str, names: Iterable[str] = tuple(CONFIGURED), *, why: str, by: str = ""
    ) -> int:
        """Go back to the configuration for a scope's limits, or those named; how many were set.

        Raises `InvalidRequest`; nothing was changed then.
        """
        store = self._policy.store
        return clear_limits(store, self.settings, scope, names, actor_of(by, why))

    def set_budget_policy(
        self,
        over: Over | Literal["configured"],
        *,
        request_type: str = "",
        tenant: str = "",
        why: str,
        by: str = "",
    ) -> bool:
        """Say what becomes of model calls that do not fit a budget. Whether that was new.

        `downgrade`, `wait` or `refuse`; `configured` goes back to the configuration. Raises
        `InvalidRequest`; nothing was changed then.
        """
        store, tasks = self._policy.store, Scope(request_type, tenant)
        cause = actor_of(by, why)
        if over == "configured":
            return bool(clear_over(store, self.settings, tasks, cause))
        return bool(set_over(store, self.settings, tasks, over, cause))

    def emergency(self) -> Emergency | None:
        """The emergency mode, with who and why, or None where all tasks pass."""
        return self._policy.store.read().emergency

    def set_emergency(self, tenants: Iterable[str] = (), *, why: str, by: str = "") -> bool:
        """Let only tasks of priority 0 pass, and those of some tenants. Whether that was new.

        Raises `InvalidRequest`; nothing was changed then.
        """
        store = self._policy.store
        return bool(set_emergency(store, self.settings, tenants, actor_of(by, why)))

    def end_emergency(self, *, why: str, by: str = "") -> bool:
        """Let all tasks pass again. Whether there was an emergency."""
        return bool(self._policy.store.end_emergency(actor_of(by, why)))

    def audit(self, limit: int = 50) -> list[Change]:
        """The newest changes of the policy first: routes, limits, controls."""
        return self._policy.audit.newest(limit)

    def alerts(self, limit: int = 50) -> list[Alert]:
        """The newest alerts first: a scope has used 50, 80, 90 or 100 % of its dollars, or a model
        has ignored the limit of an answer."""
        return self._budgets.alerts.newest(limit)
