"""Roles, tokens, and the decision whether an identity may do something. `docs/access.md`.

A token belongs to one tenant, or to the whole fleet. It has roles:

    submit        submit, cancel and rate tasks, retry and drop dead letters
    read          read tasks, results, spend, limits and alerts
    operate       operate pools, agents, routes, sizes and the emergency mode; includes read
    administer    everything, limits and tokens among it

A token is 256 random bits, so a plain SHA-256 of it cannot be guessed back, and a slow hash for
passwords would add nothing. Only the hash is stored.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple, cast, get_args

from fleet.errors import InvalidRequest
from fleet.policy.rules import check_tenant

Role = Literal["submit", "read", "operate", "administer"]
ROLES: tuple[Role, ...] = get_args(Role)
INCLUDED: Mapping[Role, frozenset[Role]] = {
    "submit": frozenset({"submit"}),
    "read": frozenset({"read"}),
    "operate": frozenset({"operate", "read"}),
    "administer": frozenset(ROLES),
}
"""The roles that each role includes."""

EVERY_TENANT = ""
"""The tenant of a token for the whole fleet."""
FORM = re.compile(r"fleet_[A-Za-z0-9_\-]{43}")
PREFIX = "fleet_"
ID_CHARACTERS = 12
SECRETS_OF_TENANTS = "tenants/"
"""The secrets of a tenant have paths that begin with this, its name and a slash."""
MAX_SECONDS = 10 * 366 * 86_400


class Need(NamedTuple):
    """What an action needs: a role, None for any, and whether the token must be of the whole
    fleet."""

    role: Role | None
    whole_fleet: bool = False


class Identity(NamedTuple):
    """Who acts. The tenant is '' for the whole fleet. `token_id` is '' where no token is needed."""

    tenant: str
    roles: frozenset[Role]
    token_id: str = ""
    expires: float | None = None
    """Seconds since 1970 by Redis's clock; None if the token does not expire."""

    def has(self, role: Role) -> bool:
        """Whether one of the roles includes this one."""
        return role in self.roles or any(role in INCLUDED[each] for each in self.roles)

    @property
    def name(self) -> str:
        """The identity in a sentence and in the audit."""
        return f"token {self.token_id} of {whose(self.tenant)}"


EVERYBODY = Identity(EVERY_TENANT, frozenset({"administer"}))
"""The identity of each process while access is open."""


class Grant(NamedTuple):
    """What a token grants, as it is stored under the hash of the token.

    `made` and `expires` are seconds since 1970 by Redis's clock. `by` is who granted the token.
    `successor` is the id of the token that replaces this one, '' if there is none.
    """

    tenant: str
    roles: frozenset[Role]
    made: float
    by: str
    expires: float | None = None
    successor: str = ""

    def to_json(self) -> str:
        """The stored text."""
        return json.dumps({**self._asdict(), "roles": in_order(self.roles)})

    @classmethod
    def from_json(cls, text: str) -> Grant:
        """The inverse of `to_json`. What a later version of Fleet has added is ignored."""
        found: dict[str, Any] = json.loads(text)
        known = {name: found[name] for name in cls._fields if name in found}
        return cls(**{**known, "roles": frozenset(found["roles"]) & frozenset(ROLES)})

    def holds(self, now: float) -> bool:
        """Whether the token is valid at `now`."""
        return self.expires is None or now < self.expires


def digest(token: str) -> str:
    """The hash under which a token is stored."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_id(digested: str) -> str:
    """The public name of a token: the beginning of its hash."""
    return digested[:ID_CHARACTERS]


def whose(tenant: str) -> str:
    """A tenant, or the whole fleet, in a sentence."""
    return f"tenant {tenant}" if tenant else "the whole fleet"


def in_order(roles: Collection[Role]) -> list[Role]:
    """The roles in their usual order."""
    return [each for each in ROLES if each in roles]


def refusal(who: Identity, need: Need, what: str) -> str:
    """The sentence that refuses an action to an identity; '' if the action is allowed."""
    if need.whole_fleet and who.tenant:
        return (
            f"{what} concerns the whole fleet, and {who.name} is not; use a token that was granted "
            "with --all-tenants"
        )
    if need.role is not None and not who.has(need.role):
        has = ", ".join(in_order(who.roles)) or "none"
        return (
            f"{what} needs the role {need.role}, and {who.name} has the roles: {has}; use a token "
            "with that role"
        )
    return ""


def foreign(who: Identity, tenant: str) -> str:
    """The sentence that refuses a tenant's data to an identity; '' if it may act for the tenant."""
    if who.tenant in (EVERY_TENANT, tenant):
        return ""
    return f"{who.name} cannot act for tenant {tenant}; use a token of that tenant"


def secret_tenant(path: str) -> str | None:
    """The tenant whose secret has this path; None for a secret of the fleet."""
    tenant, slash, _ = path.removeprefix(SECRETS_OF_TENANTS).partition("/")
    return tenant if slash and path.startswith(SECRETS_OF_TENANTS) else None


def new_grant(
    tenant: str, roles: Iterable[str], now: float, by: str, seconds: float | None
) -> Grant:
    """A grant that is valid for some seconds, or without end. Raises `InvalidRequest`."""
    wanted = frozenset(roles)
    for each in sorted(wanted - set(ROLES)):
        raise InvalidRequest(f"no role is called {each!r}; use some of: {', '.join(ROLES)}")
    if not wanted:
        raise InvalidRequest(f"a token needs a role; give some of: {', '.join(ROLES)}")
    if tenant:
        check_tenant(tenant)
    if tenant and "operate" in wanted:
        raise InvalidRequest(
            "the role operate concerns the whole fleet; grant it with --all-tenants, or leave it "
            "out"
        )
    found = cast(frozenset[Role], wanted)
    return Grant(tenant, found, now, by, _end(now, seconds))


def succeed(
    grant: Grant, new_id: str, now: float, by: str, grace: float, seconds: float | None
) -> tuple[Grant, Grant]:
    """The old grant, which ends after the grace, and the new one, with the same rights.

    Both are in seconds. Raises `InvalidRequest` if the old one has ended or has a successor, so
    that at most two are valid at once.
    """
    if not grant.holds(now):
        raise InvalidRequest("this token has expired; grant a new one: `fleet access grant`")
    if grant.successor:
        raise InvalidRequest(
            f"this token is replaced already, by {grant.successor}; rotate that one"
        )
    if not 0 <= grace <= MAX_SECONDS:
        raise InvalidRequest(f"the grace is {grace:g} s; it may be 0 to {MAX_SECONDS} s")
    end = now + grace if grant.expires is None else min(grant.expires, now + grace)
    new = grant._replace(made=now, by=by, expires=_end(now, seconds), successor="")
    return grant._replace(expires=end, successor=new_id), new


def _end(now: float, seconds: float | None) -> float | None:
    if seconds is None:
        return None
    if not 0 < seconds <= MAX_SECONDS:
        raise InvalidRequest(
            f"a token that is valid for {seconds:g} s: give a time over 0 and up to ten years"
        )
    return now + seconds
