"""The installed strategies: Fleet's own, and those of other packages.

A package adds one with an entry point that names a `fleet.routing.rules.strategies.Strategy`:

    [options.entry_points]
    fleet.strategies =
        nearest = acme.routing:NEAREST
"""

from __future__ import annotations

from collections.abc import Mapping

from fleet.extensions import installed
from fleet.routing.rules.strategies import STRATEGIES, Strategy

ENTRY_POINT_GROUP = "fleet.strategies"


def installed_strategies() -> Mapping[str, Strategy]:
    """Every strategy by its name.

    Raises `InvalidConfig` for an entry point that names no `Strategy`, or that uses a known name.
    """
    return installed(ENTRY_POINT_GROUP, "strategy", STRATEGIES, Strategy)
