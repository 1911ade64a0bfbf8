"""The part of `Fleet` that controls spending while the fleet runs: limits, budgets, emergencies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from fleet.access.access import Guard
from fleet.budgets.changes import (
    Amounts,
    clear_limits,
    clear_over,
    set_emergency,
    set_limits,
    set_over,
)
from fleet.budgets.controls import (
    CONFIGURED,
    Controls,
    LimitInForce,
    limits_of_tenant,
    policy_for_tenant,
)
from fleet.budgets.rules.alerts import Alert
from fleet.budgets.stores import BudgetStores
from fleet.budgets.usage import LimitUsage, limit_usages
from fleet.policy.actor import actor_of
from fleet.policy.audit_store import PolicyChange, newest_changes
from fleet.policy.rules import Emergency
from fleet.policy.store import Scope
from fleet.policy.stores import PolicyStores
from fleet.settings import Settings
from fleet.settings.names import Over, tenant_scope


class BudgetAdministration:
    """Each change holds from the next task of every process on. The audit records who made it (by
    default the user of the operating system) and why.
    """

    settings: Settings
    _guard: Guard
    _policy: PolicyStores
    _budgets: BudgetStores

    def controls(self) -> Controls:
        """The limits and controls in force. A handle of one tenant sees what was set for it and for
        all."""
        policy, own = self._policy.store.read(), self._guard.tenant
        return Controls(self.settings.config, policy_for_tenant(policy, own) if own else policy)

    def limits(self) -> list[LimitInForce]:
        """Every limit in force, and every lifted one. A handle of one tenant sees the limits of its
        tenant."""
        found, own = self.controls().in_force(), self._guard.tenant
        return limits_of_tenant(found, own) if own else found

    def limit_usage(self, limits: Sequence[LimitInForce]) -> list[LimitUsage]:
        """How much of each limit is spent and reserved now. A limit for each scope of a kind is
        reported for the scopes that have used most of it. A handle of one tenant gets the usage of
        its tenant."""
        own = self._guard.tenant
        return limit_usages(self._budgets.usage, limits_of_tenant(limits, own) if own else limits)

    def set_limits(self, scope: str, limits: Amounts, *, why: str, by: str = "") -> int:
        """Override limits of a scope. Returns how many changed.

        A scope is `all`, `tenant:NAME`, `agent_type:NAME` or `model:NAME`. NAME `*` means each
        scope of the kind without a limit of its own. Limits have their names in `[budgets]` and
        `[rates]`: `{"daily_usd": 20, "requests": 1000}`. None lifts a limit. Either all limits are
        set or none. Raises `InvalidRequest` and then changes nothing.
        """
        store = self._policy.store
        return set_limits(store, self.settings, scope, limits, actor_of(by, why))

    def clear_limits(
        self, scope: str, names: Iterable[str] = tuple(CONFIGURED), *, why: str, by: str = ""
    ) -> int:
        """Return a scope's limits, or those named, to the configuration. Returns how many were set.

        Raises `InvalidRequest` and then changes nothing.
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
        """Set what happens to model calls that exceed a budget. Returns whether this was new.

        `over` is `downgrade`, `wait` or `refuse`. `configured` returns to the configuration. Raises
        `InvalidRequest` and then changes nothing.
        """
        store, tasks = self._policy.store, Scope(request_type, tenant)
        actor = actor_of(by, why)
        if over == "configured":
            return bool(clear_over(store, self.settings, tasks, actor))
        return bool(set_over(store, self.settings, tasks, over, actor))

    def emergency(self) -> Emergency | None:
        """The emergency mode, with who set it and why, or None if all tasks are admitted."""
        return self.controls().emergency

    def set_emergency(self, tenants: Iterable[str] = (), *, why: str, by: str = "") -> bool:
        """Admit only tasks of priority 0, and those of some tenants. Returns whether this was new.

        Raises `InvalidRequest` and then changes nothing.
        """
        store = self._policy.store
        return bool(set_emergency(store, self.settings, tenants, actor_of(by, why)))

    def end_emergency(self, *, why: str, by: str = "") -> bool:
        """Admit all tasks again. Returns whether there was an emergency."""
        return bool(self._policy.store.end_emergency(actor_of(by, why)))

    def audit(self, limit: int = 50) -> list[PolicyChange]:
        """Changes of the policy (routes, limits, controls), newest first."""
        return newest_changes(self._policy.audit, limit)

    def alerts(self, limit: int = 50) -> list[Alert]:
        """Alerts, newest first: a scope has used 50, 80, 90 or 100 % of its dollars, or a model has
        ignored its output limit. A handle of one tenant sees the alerts of its tenant."""
        own = self._guard.tenant
        return self._budgets.alerts.newest(limit, tenant_scope(own) if own else None)
