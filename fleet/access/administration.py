"""The part of `Fleet` that grants tokens and takes them back."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import SecretStr

from fleet.access.access import Access, Guard
from fleet.access.rules import (
    EVERY_TENANT,
    PREFIX,
    Grant,
    Identity,
    digest,
    new_grant,
    succeed,
    token_id,
)
from fleet.access.store import TokenChange
from fleet.errors import InvalidRequest
from fleet.policy.actor import routine_actor

TOKEN_BYTES = 32
GRACE_SECONDS = 3600.0
"""How long a replaced token stays valid, unless told otherwise."""


class NewToken(NamedTuple):
    """A token that was just made. This is the only time that it can be read."""

    id: str
    token: SecretStr
    grant: Grant


class AccessAdministration:
    """A handle of one tenant sees and changes the tokens of its tenant alone. The audit keeps each
    change."""

    _access: Access
    _guard: Guard

    def identity(self) -> Identity:
        """Who this handle is: its tenant, roles and expiry. Everybody while access is open."""
        return self._guard.identity()

    def tokens(self) -> dict[str, Grant]:
        """What each token grants, by the token's id, the oldest first. Expired ones are among them
        until they are revoked."""
        return {token_id(digested): grant for digested, grant in self._visible_tokens().items()}

    def grant_token(
        self,
        tenant: str,
        roles: Iterable[str],
        *,
        seconds: float | None = None,
        why: str = "",
        by: str = "",
    ) -> NewToken:
        """Make a token for a tenant, or for the whole fleet with an empty name.

        It is valid for `seconds`, or until it is revoked. Raises `InvalidRequest`.
        """
        actor, store = routine_actor(by, why), self._access.tokens
        given = self._guard.narrowed(tenant) or EVERY_TENANT
        grant = new_grant(given, roles, store.now_us() / 1e6, actor.by, seconds)
        made = _new_token(grant)
        store.change([TokenChange(_digest(made), None, grant)], actor)
        return made

    def rotate_token(
        self,
        found_id: str,
        *,
        grace: float = GRACE_SECONDS,
        seconds: float | None = None,
        why: str = "",
        by: str = "",
    ) -> NewToken:
        """Make a token with the rights of another, which stays valid for `grace` seconds.

        The new one is valid for `seconds`, by default for as long as the old one was. Raises
        `InvalidRequest`.
        """
        actor, store = routine_actor(by, why), self._access.tokens
        digested, old = self._find_token(found_id)
        if seconds is None and old.expires is not None:
            seconds = old.expires - old.made
        fresh = _new_token(old)
        ending, grant = succeed(old, fresh.id, store.now_us() / 1e6, actor.by, grace, seconds)
        store.change(
            [TokenChange(digested, old, ending), TokenChange(_digest(fresh), None, grant)], actor
        )
        return fresh._replace(grant=grant)

    def revoke_token(self, found_id: str, *, why: str = "", by: str = "") -> Grant:
        """Take a token back. Each process refuses it within `CACHE_SECONDS` of
        `fleet.access.access`. Raises `InvalidRequest`."""
        digested, grant = self._find_token(found_id)
        self._access.tokens.change([TokenChange(digested, grant, None)], routine_actor(by, why))
        return grant

    def _visible_tokens(self) -> dict[str, Grant]:
        found = self._access.tokens.all().items()
        return {digested: grant for digested, grant in found if self._guard.sees(grant.tenant)}

    def _find_token(self, found_id: str) -> tuple[str, Grant]:
        """The token with this id. That of another tenant is as unknown as any."""
        for digested, grant in self._visible_tokens().items():
            if token_id(digested) == found_id:
                return digested, grant
        raise InvalidRequest(f"no token has the id {found_id!r}; `fleet access list` shows them")


def _new_token(grant: Grant) -> NewToken:
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    return NewToken(token_id(digest(token)), SecretStr(token), grant)


def _digest(made: NewToken) -> str:
    return digest(made.token.get_secret_value())
