"""The installed strategies: Fleet's own, and those of other packages.

A package adds one with an entry point that names a `fleet.routing.rules.strategies.Strategy`:

    [options.entry_points]
    fleet.strategies =
        nearest = acme.routing:NEAREST
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

from fleet.errors import InvalidConfig
from fleet.routing.rules.strategies import STRATEGIES, Strategy

ENTRY_POINT_GROUP = "fleet.strategies"


def installed_strategies() -> Mapping[str, Strategy]:
    """Every strategy by its name.

    Raises `InvalidConfig` for an entry point that names no `Strategy`, or that uses a known name.
    """
    found = dict(STRATEGIES)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in found:
            raise InvalidConfig(
                f"entry point {entry.value} of {ENTRY_POINT_GROUP} is called {entry.name}, like "
                "another strategy; rename it"
            )
        strategy = entry.load()
        if not isinstance(strategy, Strategy):
            raise InvalidConfig(
                f"entry point {entry.name} of {ENTRY_POINT_GROUP} names {entry.value}, which is no "
                "Strategy; name a Strategy"
            )
        found[entry.name] = strategy
    return found
