"""Budget alerts: a stream that notifiers may follow. `alert.lua` raises each alert once.

    scope         such as `all` or `tenant:acme`
    window        hour, day or month
    window_id     the UTC hour, day or month, such as `d20261124`
    threshold     percent of the limit: 50, 80, 90 or 100
    limit         nano-dollars
    settled       nano-dollars settled in the window
    held          nano-dollars reserved for tasks that had not ended

An alert about a model that ignores its output limit, raised by `limit.lua`, has other fields:

    kind          output_limit
    scope         such as `model:gpt-5`
    asked         the output limit in tokens
    written       tokens of the answer
    call          the task's id, a space, the name of the call
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.budgets.rules.alerts import LIMIT_KIND, Alert, BudgetAlert, BudgetUse, LimitAlert
from fleet.policy.rules import Window
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

MAX_ALERTS = 10_000
"""The approximate number of alerts kept: some 2 MB."""

REMEMBERED_SECONDS: Mapping[Window, int] = {
    "hour": 2 * 3600,
    "day": 2 * 86_400,
    "month": 32 * 86_400,
}
"""Longer than each window, so that no alert is raised twice in one window."""

NUMBERS = ("threshold", "limit", "settled", "held")


class Alerts(Store):
    """Raises and reads alerts. Every method is one call to Redis."""

    def raise_for(self, use: BudgetUse) -> BudgetAlert | None:
        """Raise an alert for the highest threshold reached; None if it was raised before.

        Raises `ValueError` if no threshold is reached.
        """
        reached = use.reached
        if not reached:
            raise ValueError(f"{use.scope} has reached no threshold")
        window = use.limit.window
        alert = BudgetAlert(
            "", use.scope, window, use.window_id, reached[-1], use.limit.most, *use[3:]
        )
        keys = [self.keys.alerted(use.window_id), self.keys.alerts]
        arguments: list[str | int] = [use.scope, ",".join(map(str, reached))]
        arguments += [REMEMBERED_SECONDS[window], MAX_ALERTS]
        arguments += [part for pair in alert._asdict().items() if pair[0] != "id" for part in pair]
        with redis_errors(self.client):
            raised = text(self.scripts.alert(keys=keys, args=arguments))
        return alert._replace(id=raised) if raised else None

    def newest(self, most: int, scope: str | None = None) -> list[Alert]:
        """Alerts, newest first. Those of one scope are searched for among all."""
        with redis_errors(self.client):
            count = most if scope is None else None
            found: Any = self.client.xrevrange(self.keys.alerts, count=count)
        alerts = (_alert(text(alert_id), fields) for alert_id, fields in found)
        return [each for each in alerts if scope in (None, each.scope)][:most]


def _alert(alert_id: str, fields: Mapping[Any, Any]) -> Alert:
    found: dict[str, Any] = {text(name): text(value) for name, value in fields.items()}
    if found.pop("kind", "") == LIMIT_KIND:
        asked, written = int(found["asked"]), int(found["written"])
        return LimitAlert(alert_id, found["scope"], asked, written, found["call"])
    for name in NUMBERS:
        found[name] = int(found[name])
    return BudgetAlert(alert_id, **found)
