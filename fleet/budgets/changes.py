"""Changes of limits and controls while the fleet runs, checked before anything is written.

Limits have their names in `[budgets]` and `[rates]`, such as `daily_usd` or `requests`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from fleet.budgets.controls import CONFIGURED
from fleet.budgets.rules.limits import MOST
from fleet.errors import InvalidRequest
from fleet.money import nanodollars
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor, PolicyStore, Scope
from fleet.routing.routes import check_scope as check_tasks
from fleet.settings import Settings
from fleet.settings.budgets import MAX_DOLLARS
from fleet.settings.names import ALL, EACH, Over, check_scope_name, scope_form
from fleet.text import unknown

Amounts = Mapping[str, float | None]
"""Limits by their names in the configuration: US dollars or counts; None lifts one."""


def set_limits(
    store: PolicyStore, settings: Settings, scope: str, amounts: Amounts, actor: AuditActor
) -> int:
    """Override limits of a scope. Returns how many changed.

    Raises `InvalidRequest` and then changes nothing.
    """
    check_scope(settings, scope)
    if not amounts:
        raise InvalidRequest(f"name a limit to set: {', '.join(CONFIGURED)}")
    limits = {_key(scope, name): _most(name, amount) for name, amount in amounts.items()}
    return store.set_limits(limits, actor)


def clear_limits(
    store: PolicyStore, settings: Settings, scope: str, names: Iterable[str], actor: AuditActor
) -> int:
    """Return limits of a scope to the configuration. Returns how many had been set.

    Raises `InvalidRequest` and then changes nothing.
    """
    check_scope(settings, scope)
    return store.clear_limits([_key(scope, name) for name in names], actor)


def set_over(
    store: PolicyStore, settings: Settings, tasks: Scope, over: str, actor: AuditActor
) -> int:
    """Set what happens to calls that exceed a budget. Returns 0 if this was set already.

    Raises `InvalidRequest` and then changes nothing.
    """
    check_tasks(settings, tasks)
    for known in get_args(Over):
        if over == known:
            return store.set_over(tasks, known, actor)
    raise InvalidRequest(unknown("budget policy", over, frozenset(get_args(Over))))


def clear_over(store: PolicyStore, settings: Settings, tasks: Scope, actor: AuditActor) -> int:
    """Return to the configured rule for calls that exceed a budget. Returns 0 if nothing was set.

    Raises `InvalidRequest` and then changes nothing.
    """
    check_tasks(settings, tasks)
    return store.clear_over(tasks, actor)


def set_emergency(
    store: PolicyStore, settings: Settings, tenants: Iterable[str], actor: AuditActor
) -> int:
    """Admit only urgent tasks, and those of the given tenants. Returns 0 if nothing changed.

    Raises `InvalidRequest` and then changes nothing.
    """
    allowed = list(tenants)
    for tenant in allowed:
        if tenant == EACH:
            raise InvalidRequest(f"{tenant!r} would admit every tenant; name single tenants")
        check_scope(settings, f"tenant:{tenant}")
    return store.set_emergency(allowed, actor)


def check_scope(settings: Settings, scope: str) -> None:
    """Raise `InvalidRequest` for an invalid scope."""
    if scope == ALL:
        return
    try:
        check_scope_name(scope_form(scope), settings.config.scope_names)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def _key(scope: str, name: str) -> LimitKey:
    if name not in CONFIGURED:
        raise InvalidRequest(unknown("limit", name, CONFIGURED))
    return LimitKey(scope, *CONFIGURED[name])


def _most(name: str, amount: float | None) -> int | None:
    if amount is None:
        return None
    number = isinstance(amount, (int, float)) and not isinstance(amount, bool)
    if CONFIGURED[name][1] == "dollars":
        if number and 0 < amount <= MAX_DOLLARS:
            return nanodollars(amount)
        raise InvalidRequest(
            f"{name} is {amount!r}; give US dollars over 0 and up to {MAX_DOLLARS:,}, or None for "
            "no limit"
        )
    if number and 1 <= amount <= MOST and amount == int(amount):
        return int(amount)
    raise InvalidRequest(
        f"{name} is {amount!r}; give a whole number from 1 to {MOST}, or None to have no such limit"
    )
