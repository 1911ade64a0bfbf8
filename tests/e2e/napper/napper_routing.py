"""A strategy of a user's own, for the tests."""

from __future__ import annotations

import numpy as np

from fleet.routing.rules.pools import PoolGroup
from fleet.routing.rules.strategies import Linear, RouteRequest, Strategy, StrategyContext


def last_by_name(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
    """The last pool by name that has room."""
    return Linear(np.arange(len(group.pools), dtype=np.float64))


LAST_BY_NAME = Strategy(last_by_name)
