"""What all producers follow, and may be changed while they run: routes, limits, the emergency mode.

A plan is made under a version of the policy. Each change makes a new version, and the
atomic step of a submission refuses a plan of another one: so a change holds for the very next
task of every producer, at no cost while nothing changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fleet.core.controls import Emergency
from fleet.core.limits import LimitKey
from fleet.settings.names import Over
from fleet.state.client import redis_errors
from fleet.state.scripts import raw, text
from fleet.state.store import Store

VERSION = "version"
DIFFICULTY = "difficulty"
EMERGENCY = "emergency"
ROUTE = "route"
LIMIT = "limit"
OVER = "over"
SEPARATOR = "|"
LIFTED = "none"


class Scope(NamedTuple):
    """What a route holds for: a request type, a tenant, both, or all where both are empty."""

    request_type: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy as it was read: `routes` by their scope, as they were written.

    `difficulty` is the trained model of tasks' difficulty, empty before any training. A limit of
    None was lifted. `overs` is what becomes of a call that does not fit a budget, by scope.
    """

    version: str = "0"
    routes: Mapping[Scope, Mapping[str, Any]] = field(default_factory=dict)
    difficulty: bytes = b""
    limits: Mapping[LimitKey, int | None] = field(default_factory=dict)
    overs: Mapping[Scope, Over] = field(default_factory=dict)
    emergency: Emergency | None = None


class PolicyStore(Store):
    """Reads and changes the policy. Every method is one call to Redis."""

    def read(self) -> Policy:
        """The policy in force."""
        with redis_errors(self.client):
            fields = self.client.hgetall(self.keys.policy)
        routes, version, difficulty = {}, "0", b""
        for name, value in fields.items():
            kind, _, rest = text(name).partition(SEPARATOR)
            if kind == ROUTE:
                routes[Scope(*rest.split(SEPARATOR))] = json.loads(value)
            elif kind == DIFFICULTY:
                difficulty = raw(value)
            else:
                version = text(value)
        return Policy(version, routes, difficulty)

    def set_route(self, scope: Scope, route: Mapping[str, Any]) -> None:
        """Lay a route over the configuration for its scope."""
        self._change(_route_field(scope), json.dumps(route))

    def clear_route(self, scope: Scope) -> bool:
        """Go back to the configuration for a scope. Whether a route was set."""
        return self._change(_route_field(scope), "")

    def set_difficulty(self, model: bytes) -> None:
        """Have all producers estimate complexity with this model."""
        self._change(DIFFICULTY, model)

    def _change(self, name: str, value: str | bytes) -> bool:
        with redis_errors(self.client):
            return bool(self.scripts.policy(keys=[self.keys.policy], args=[name, value]))


def _route_field(scope: Scope) -> str:
    return SEPARATOR.join((ROUTE, *scope))
