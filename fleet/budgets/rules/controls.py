"""What steers the money beside the limits: the way down to cheaper models, the emergency mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FIRST_PRIORITY = 0
"""The priority that passes in an emergency."""


class Downgrade(NamedTuple):
    """When a task goes to a cheaper model, and to which.

    `models` is a mapping without cycles. It is used where a task's estimate is over `over`
    nano-dollars, or from the share `nearly`, 0 to 1, of a dollar budget on.
    """

    models: Mapping[str, str]
    over: int
    nearly: float


class Emergency(NamedTuple):
    """Only urgent tasks pass, and those of the tenants named.

    `at` is in seconds since 1970, by Redis's clock.
    """

    by: str
    why: str
    at: float
    tenants: frozenset[str] = frozenset()

    def admits(self, tenant: str, priority: int) -> bool:
        """Whether a task may be submitted."""
        return priority == FIRST_PRIORITY or tenant in self.tenants
