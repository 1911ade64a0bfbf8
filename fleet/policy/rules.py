"""Values of the policy: the key of a limit, tenant names, and the emergency mode."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from fleet.errors import InvalidRequest
from fleet.text import brief

Window = Literal["hour", "day", "month", "rolling", "now"]
Quantity = Literal["dollars", "tokens", "requests", "tasks"]

TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")

FIRST_PRIORITY = 0
"""The priority that is admitted in an emergency."""


class LimitKey(NamedTuple):
    """The key of a limit: its scope, window and quantity."""

    scope: str
    window: Window
    quantity: Quantity


class Emergency(NamedTuple):
    """The emergency mode: only urgent tasks are admitted, and those of the named tenants.

    `at` is its start in seconds since 1970, by Redis's clock.
    """

    by: str
    why: str
    at: float
    tenants: frozenset[str] = frozenset()

    def admits(self, tenant: str, priority: int) -> bool:
        """Whether a task may be submitted."""
        return priority == FIRST_PRIORITY or tenant in self.tenants


class SetSize(NamedTuple):
    """The size of a pool that a person has set: workers, and until when it holds in ms since 1970,
    by Redis's clock. None: until it is cleared."""

    workers: int
    until_ms: int | None = None

    def holds(self, now: float) -> bool:
        """Whether it holds at `now`, in seconds since 1970."""
        return self.until_ms is None or now * 1000 < self.until_ms


def check_tenant(tenant: str) -> None:
    """Raise `InvalidRequest` for an invalid tenant name."""
    if not TENANT.fullmatch(tenant):
        raise InvalidRequest(
            f"{brief(tenant)} is no tenant name; use up to 64 letters, digits, '_', '.' and '-'"
        )
