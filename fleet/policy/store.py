"""The policy that all producers follow while they run: routes, limits, the emergency mode.

A plan is made under a version of the policy. Each change makes a new version, and the atomic step
of a submission refuses a plan of another version. So a change holds from the next task of every
producer on, at no cost while nothing changes. The same step records each change in the audit, see
`fleet.audit.log`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

from fleet.policy.fields import (
    DIFFICULTY,
    EMERGENCY,
    EMERGENCY_MS,
    LIFTED,
    LIMIT,
    OVER,
    ROUTE,
    SCALING,
    SIZE,
    VERSION,
    field_name,
    field_parts,
)
from fleet.policy.rules import Emergency, LimitKey, SetSize
from fleet.redis.client import redis_errors
from fleet.redis.scripts import raw, text
from fleet.redis.store import Store
from fleet.settings.names import Over

ANSWER_SECONDS = 600
"""How long a repeated change gets the first answer. A client repeats it within seconds."""


class Scope(NamedTuple):
    """The scope of a rule: a request type, a tenant, both, or all if both are empty."""

    request_type: str = ""
    tenant: str = ""


class AuditActor(NamedTuple):
    """Who changes the policy and why, for the audit."""

    by: str
    why: str


UNKNOWN_ACTOR = AuditActor("", "")


@dataclass(frozen=True, slots=True)
class Policy:
    """The stored policy. `routes` are by scope, as they were written.

    `difficulty` is the trained model of the difficulty of tasks, empty before training. A limit of
    None is lifted. `overs` says by scope what happens to a call that exceeds a budget. `sizes` are
    the pools' sizes that persons have set, `scaling` the scaling policies, of all pools under ''.
    """

    version: str = "0"
    routes: Mapping[Scope, Mapping[str, Any]] = field(default_factory=dict)
    difficulty: bytes = b""
    limits: Mapping[LimitKey, int | None] = field(default_factory=dict)
    overs: Mapping[Scope, Over] = field(default_factory=dict)
    emergency: Emergency | None = None
    sizes: Mapping[str, SetSize] = field(default_factory=dict)
    scaling: Mapping[str, str] = field(default_factory=dict)


class PolicyStore(Store):
    """Reads and changes the policy. Every method is one call to Redis.

    A change is applied as a whole or not at all. Each method returns how many fields it changed: 0
    if all values were the same before.
    """

    def read(self) -> Policy:
        """The policy in force."""
        with redis_errors(self.client):
            fields = self.client.hgetall(self.keys.policy)
        return _policy({text(name): value for name, value in fields.items()})

    def set_route(
        self, scope: Scope, route: Mapping[str, Any], actor: AuditActor = UNKNOWN_ACTOR
    ) -> int:
        """Override the configured route of a scope."""
        return self.change({field_name(ROUTE, *scope): json.dumps(route)}, actor)

    def clear_route(self, scope: Scope, actor: AuditActor = UNKNOWN_ACTOR) -> int:
        """Return to the configuration for a scope."""
        return self.change({field_name(ROUTE, *scope): ""}, actor)

    def set_difficulty(self, model: bytes, actor: AuditActor = UNKNOWN_ACTOR) -> int:
        """Let all producers estimate complexity with this model."""
        return self.change({DIFFICULTY: model}, actor)

    def set_limits(self, limits: Mapping[LimitKey, int | None], actor: AuditActor) -> int:
        """Override configured limits. None lifts a limit."""
        fields = {
            field_name(LIMIT, *key): LIFTED if most is None else str(most)
            for key, most in limits.items()
        }
        return self.change(fields, actor)

    def clear_limits(self, keys: Iterable[LimitKey], actor: AuditActor) -> int:
        """Return to the configuration for these limits."""
        return self.change({field_name(LIMIT, *key): "" for key in keys}, actor)

    def set_over(self, scope: Scope, over: Over, actor: AuditActor) -> int:
        """Set what happens to a call that exceeds a budget, for a scope."""
        return self.change({field_name(OVER, *scope): over}, actor)

    def clear_over(self, scope: Scope, actor: AuditActor) -> int:
        """Return to the configuration for a scope."""
        return self.change({field_name(OVER, *scope): ""}, actor)

    def set_size(self, pool: str, size: SetSize, actor: AuditActor) -> int:
        """Set the size of a pool by hand."""
        return self.change({field_name(SIZE, pool): json.dumps(size)}, actor)

    def clear_size(self, pool: str, actor: AuditActor) -> int:
        """Let the scaling policy decide the size of a pool again."""
        return self.change({field_name(SIZE, pool): ""}, actor)

    def set_scaling(self, pool: str, policy: str, actor: AuditActor) -> int:
        """Set the scaling policy of a pool, or of all with an empty name. With an empty policy the
        configuration holds again."""
        return self.change({field_name(SCALING, pool): policy}, actor)

    def set_emergency(self, tenants: Iterable[str], actor: AuditActor) -> int:
        """Admit only urgent tasks, and those of some tenants."""
        value = {**actor._asdict(), "tenants": sorted(set(tenants))}
        return self.change({EMERGENCY: json.dumps(value)}, actor)

    def end_emergency(self, actor: AuditActor) -> int:
        """Admit all tasks again."""
        return self.change({EMERGENCY: ""}, actor)

    def change(
        self, fields: Mapping[str, str | bytes], actor: AuditActor, change_id: str = ""
    ) -> int:
        """Set fields, and remove those with an empty value. Returns how many changed. A change that
        is repeated with the same `change_id` is made once."""
        answer = self.keys.change(change_id or uuid4().hex)
        keys = [self.keys.policy, self.keys.audit, self.keys.audit_head, answer, self.keys.parked]
        arguments: list[str | bytes | int] = [*actor, ANSWER_SECONDS]
        arguments += [part for pair in fields.items() for part in pair]
        with redis_errors(self.client):
            _, changed = self.scripts.policy(keys=keys, args=arguments)
        return int(changed)


def _policy(fields: Mapping[str, Any]) -> Policy:
    """The policy from the fields of its hash. Fields of a later version of Fleet are ignored."""
    routes: dict[Scope, Mapping[str, Any]] = {}
    limits: dict[LimitKey, int | None] = {}
    overs: dict[Scope, Any] = {}
    sizes: dict[str, SetSize] = {}
    scaling: dict[str, str] = {}
    for name, value in fields.items():
        kind, parts = field_parts(name)
        if kind == ROUTE:
            routes[Scope(*parts)] = json.loads(value)
        elif kind == LIMIT:
            limits[_limit_key(*parts)] = None if text(value) == LIFTED else int(value)
        elif kind == OVER:
            overs[Scope(*parts)] = text(value)
        elif kind == SIZE:
            sizes[parts[0]] = SetSize(*json.loads(value))
        elif kind == SCALING:
            scaling[parts[0]] = text(value)
    return Policy(
        version=text(fields.get(VERSION, "0")),
        routes=routes,
        difficulty=raw(fields.get(DIFFICULTY, b"")),
        limits=limits,
        overs=overs,
        emergency=_emergency(fields),
        sizes=sizes,
        scaling=scaling,
    )


def _limit_key(scope: str, window: Any, quantity: Any) -> LimitKey:
    return LimitKey(scope, window, quantity)


def _emergency(fields: Mapping[str, Any]) -> Emergency | None:
    if EMERGENCY not in fields:
        return None
    found = json.loads(fields[EMERGENCY])
    at = int(fields[EMERGENCY_MS]) / 1000
    return Emergency(found["by"], found["why"], at, frozenset(found["tenants"]))
