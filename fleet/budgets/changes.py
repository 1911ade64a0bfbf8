"""Changes of limits and controls while the fleet runs, checked before anything is written.

Limits are named as `[budgets]` and `[rates]` name them, such as `daily_usd` or `requests`.
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
    store: PolicyStore, settings: Settings, scope: str, amounts: Amounts, cause: AuditActor
) -> int:
    """Lay limits of a scope over the configuration; how many were not so already.

    Raises `InvalidRequest`; nothing was changed then.
    """
    check_scope(settings, scope)
    if not amounts:
        raise InvalidRequest(f"name a limit to set: {', '.join(CONFIGURED)}")
    limits = {_key(scope, name): _most(name, amount) for name, amount in amounts.items()}
    return store.set_limits(limits, cause)


def clear_limits(
    store: PolicyStore, settings: Settings, scope: str, names: Iterable[str], cause: AuditActor
) -> int:
    """Go back to the configuration for limits of a scope; how many had been set.

    Raises `InvalidRequest`; nothing was changed then.
    """
    check_scope(settings, scope)
    return store.clear_limits([_key(scope, name) for name in names], cause)


def set_over(
    store: PolicyStore, settings: Settings, tasks: Scope, over: str, cause: AuditActor
) -> int:
    """Say what becomes of calls that do not fit; 0 where that was set already.

    Raises `InvalidRequest`; nothing was changed then.
    """
    check_tasks(settings, tasks)
    for known in get_args(Over):
        if over == known:
            return store.set_over(tasks, known, cause)
    raise InvalidRequest(unknown("budget policy", over, frozenset(get_args(Over))))


def clear_over(store: PolicyStore, settings: Settings, tasks: Scope, cause: AuditActor) -> int:
    """Go back to the configuration for what becomes of calls; 0 where nothing was set.

    Raises `InvalidRequest`; nothing was changed then.
    """
    check_tasks(settings, tasks)
    return store.clear_over(tasks, cause)


def set_emergency(
    store: PolicyStore, settings: Settings, tenants: Iterable[str], cause: AuditActor
) -> int:
    """Let only urgent tasks pass, and those of some tenants; 0 where that was so already.

    Raises `InvalidRequest`; nothing was changed then.
    """
    allowed = list(tenants)
    for tenant in allowed:
        if tenant == EACH:
            raise InvalidRequest(f"{tenant!r} would let everybody pass; name single tenants")
        check_scope(settings, f"tenant:{tenant}")
    return store.set_emergency(allowed, cause)


def check_scope(settings: Settings, scope: str) -> None:
    """Raise `InvalidRequest` for a scope that cannot be."""
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
            f"{name} is {amount!r}; give US dollars over 0 and up to {MAX_DOLLARS:,}, or None to "
            "have no such limit"
        )
    if number and 1 <= amount <= MOST and amount == int(amount):
        return int(amount)
    raise InvalidRequest(
        f"{name} is {amount!r}; give a whole number from 1 to {MOST}, or None to have no such limit"
    )
