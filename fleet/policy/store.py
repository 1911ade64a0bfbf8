"""What all producers follow, and may be changed while they run: routes, limits, the emergency mode.

A plan is made under a version of the policy. Each change makes a new version, and the
atomic step of a submission refuses a plan of another one: so a change holds for the very next
task of every producer, at no cost while nothing changes. Each change is noted in the audit, see
`fleet.policy.audit_store`, in the same step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from fleet.policy.audit_store import MAX_ENTRIES
from fleet.policy.fields import (
    DIFFICULTY,
    EMERGENCY,
    EMERGENCY_MS,
    LIFTED,
    LIMIT,
    OVER,
    ROUTE,
    VERSION,
    field_name,
    field_parts,
)
from fleet.policy.rules import Emergency, LimitKey
from fleet.redis.client import redis_errors
from fleet.redis.scripts import raw, text
from fleet.redis.store import Store
from fleet.settings.names import Over

ANSWER_SECONDS = 600
"""How long a change that is sent again gets its first answer: a client sends it within seconds."""


class Scope(NamedTuple):
    """What a route holds for: a request type, a tenant, both, or all where both are empty."""

    request_type: str = ""
    tenant: str = ""


class AuditActor(NamedTuple):
    """Who changes the policy, and why, for whoever reads the audit."""

    by: str
    why: str


UNKNOWN_ACTOR = AuditActor("", "")


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
    """Reads and changes the policy. Every method is one call to Redis.

    Changes are made all or not at all. They say how many fields they changed: 0 where everything
    was so already.
    """

    def read(self) -> Policy:
        """The policy in force."""
        with redis_errors(self.client):
            fields = self.client.hgetall(self.keys.policy)
        return _policy({text(name): value for name, value in fields.items()})

    def set_route(
        self, scope: Scope, route: Mapping[str, Any], cause: AuditActor = UNKNOWN_ACTOR
    ) -> int:
        """Lay a route over the configuration for its scope."""
        return self._change({field_name(ROUTE, *scope): json.dumps(route)}, cause)

    def clear_route(self, scope: Scope, cause: AuditActor = UNKNOWN_ACTOR) -> int:
        """Go back to the configuration for a scope."""
        return self._change({field_name(ROUTE, *scope): ""}, cause)

    def set_difficulty(self, model: bytes, cause: AuditActor = UNKNOWN_ACTOR) -> int:
        """Have all producers estimate complexity with this model."""
        return self._change({DIFFICULTY: model}, cause)

    def set_limits(self, limits: Mapping[LimitKey, int | None], cause: AuditActor) -> int:
        """Lay limits over the configuration; None lifts one."""
        fields = {
            field_name(LIMIT, *key): LIFTED if most is None else str(most)
            for key, most in limits.items()
        }
        return self._change(fields, cause)

    def clear_limits(self, keys: Iterable[LimitKey], cause: AuditActor) -> int:
        """Go back to the configuration for these limits."""
        return self._change({field_name(LIMIT, *key): "" for key in keys}, cause)

    def set_over(self, scope: Scope, over: Over, cause: AuditActor) -> int:
        """Say what becomes of a call that does not fit a budget, for a scope."""
        return self._change({field_name(OVER, *scope): over}, cause)

    def clear_over(self, scope: Scope, cause: AuditActor) -> int:
        """Go back to the configuration for a scope."""
        return self._change({field_name(OVER, *scope): ""}, cause)

    def set_emergency(self, tenants: Iterable[str], cause: AuditActor) -> int:
        """Let only urgent tasks pass, and those of some tenants."""
        value = {**cause._asdict(), "tenants": sorted(set(tenants))}
        return self._change({EMERGENCY: json.dumps(value)}, cause)

    def end_emergency(self, cause: AuditActor) -> int:
        """Let all tasks pass again."""
        return self._change({EMERGENCY: ""}, cause)

    def _change(self, fields: Mapping[str, str | bytes], cause: AuditActor) -> int:
        keys = [self.keys.policy, self.keys.audit, self.keys.change(uuid4().hex)]
        keys.append(self.keys.parked)
        arguments: list[str | bytes | int] = [*cause, MAX_ENTRIES, ANSWER_SECONDS]
        arguments += [part for pair in fields.items() for part in pair]
        with redis_errors(self.client):
            _, changed = self.scripts.policy(keys=keys, args=arguments)
        return int(changed)


def _policy(fields: Mapping[str, Any]) -> Policy:
    """The policy from the fields of its hash. Those of a later version of Fleet are left out."""
    routes: dict[Scope, Mapping[str, Any]] = {}
    limits: dict[LimitKey, int | None] = {}
    overs: dict[Scope, Any] = {}
    for name, value in fields.items():
        kind, parts = field_parts(name)
        if kind == ROUTE:
            routes[Scope(*parts)] = json.loads(value)
        elif kind == LIMIT:
            limits[_limit_key(*parts)] = None if text(value) == LIFTED else int(value)
        elif kind == OVER:
            overs[Scope(*parts)] = text(value)
    return Policy(
        version=text(fields.get(VERSION, "0")),
        routes=routes,
        difficulty=raw(fields.get(DIFFICULTY, b"")),
        limits=limits,
        overs=overs,
        emergency=_emergency(fields),
    )


def _limit_key(scope: str, window: Any, quantity: Any) -> LimitKey:
    return LimitKey(scope, window, quantity)


def _emergency(fields: Mapping[str, Any]) -> Emergency | None:
    if EMERGENCY not in fields:
        return None
    found = json.loads(fields[EMERGENCY])
    at = int(fields[EMERGENCY_MS]) / 1000
    return Emergency(found["by"], found["why"], at, frozenset(found["tenants"]))
