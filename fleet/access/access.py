"""Who a token belongs to, and whether that identity may act: the one check for all ways in.

`Access` serves many tokens, for a server whose callers bring one each. `Guard` serves one handle.
Both look a token up in Redis at most every `CACHE_SECONDS`, so a revoked or expired token is
refused within that time, and a checked call costs no round trip.

The check runs in the caller's process. A program with the password of Redis can do without it: see
docs/access.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from pydantic import SecretStr

from fleet.access.rules import (
    EVERY_TENANT,
    EVERYBODY,
    FORM,
    SECRETS_OF_TENANTS,
    Identity,
    Need,
    Role,
    digest,
    foreign,
    refusal,
    secret_tenant,
    token_id,
)
from fleet.access.store import TokenStore
from fleet.errors import NotAllowed

CACHE_SECONDS = 5.0
"""A token is looked up again after this time."""
MAX_CACHED = 1000
"""Tokens that one process keeps. A server for more forgets all of them and looks them up again."""

SEE_DOCS = "see docs/access.md"


class _Known(NamedTuple):
    identity: Identity
    until: float
    """By the monotonic clock of this process."""


class Access:
    """The identities of tokens. `mode` is that of `[access]`."""

    def __init__(
        self, tokens: TokenStore, mode: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.tokens = tokens
        self.is_open = mode == "open"
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def identify(self, token: str | None) -> Identity:
        """The identity of a token; everybody's while access is open.

        Raises `NotAllowed` for a token that is missing, unknown, revoked or expired, `Unavailable`
        if Redis does not answer.
        """
        return EVERYBODY if self.is_open else self.identity_of(hashed(token))

    def identity_of(self, digested: str) -> Identity:
        """The identity of the token with this hash. Raises the errors of `identify`."""
        known = self._known.get(digested)
        if known is not None and self._clock() < known.until:
            return known.identity
        return self._look_up(digested)

    def _look_up(self, digested: str) -> Identity:
        asked = self._clock()
        grant, now = self.tokens.find(digested)
        named = f"token {token_id(digested)}"
        if grant is None:
            self._known.pop(digested, None)
            raise NotAllowed(f"{named} is not known or was revoked; get another one, {SEE_DOCS}")
        if not grant.holds(now):
            self._known.pop(digested, None)
            raise NotAllowed(f"{named} has expired; get another one, {SEE_DOCS}")
        found = Identity(grant.tenant, grant.roles, token_id(digested), grant.expires)
        left = CACHE_SECONDS if grant.expires is None else grant.expires - now
        if len(self._known) >= MAX_CACHED:
            self._known.clear()
        self._known[digested] = _Known(found, asked + min(CACHE_SECONDS, left))
        return found

    def check(self, who: Identity, need: Need, what: str, tenant: str | None = None) -> None:
        """Raise `NotAllowed` unless an identity may do `what`, to a tenant if one is given."""
        if sentence := refusal(who, need, what):
            raise NotAllowed(sentence)
        if tenant is not None and (sentence := foreign(who, tenant)):
            raise NotAllowed(sentence)

    def check_secret(self, who: Identity, role: Role, path: str) -> None:
        """Raise `NotAllowed` unless an identity may use the secret of this path: that of its tenant
        under `tenants/NAME/`, or any with a token of the whole fleet."""
        tenant = secret_tenant(path)
        self.check(who, Need(role, whole_fleet=tenant is None), f"the secret {path}", tenant)


def hashed(token: str | None) -> str:
    """The hash of a token. Raises `NotAllowed` for what is none."""
    if not token:
        raise NotAllowed(f"a token is needed: set FLEET_TOKEN; {SEE_DOCS}")
    if not FORM.fullmatch(token):
        raise NotAllowed(f"FLEET_TOKEN holds no token of Fleet; correct it, {SEE_DOCS}")
    return digest(token)


class Guard:
    """The rights of one handle, or of one process. It keeps the hash of its token alone."""

    def __init__(self, access: Access, token: SecretStr | None) -> None:
        self._access = access
        self._digested, self._problem = "", ""
        if not access.is_open:
            try:
                self._digested = hashed(token.get_secret_value() if token else None)
            except NotAllowed as error:
                self._problem = str(error)

    def check_given(self) -> None:
        """Raise `NotAllowed` if a token is needed and none was given. Asks nobody."""
        if self._problem:
            raise NotAllowed(self._problem)

    def identity(self) -> Identity:
        """Who acts. Raises `NotAllowed`, and `Unavailable` if Redis does not answer."""
        if self._access.is_open:
            return EVERYBODY
        self.check_given()
        return self._access.identity_of(self._digested)

    def check(self, need: Need, what: str) -> None:
        """Raise `NotAllowed` unless the handle may do `what`."""
        if not self._access.is_open:
            self._access.check(self.identity(), need, what)

    def check_secret(self, role: Role, path: str) -> None:
        """Raise `NotAllowed` unless the handle may use the secret of this path."""
        self._access.check_secret(self.identity(), role, path)

    def secret_prefix(self, prefix: str) -> str:
        """The beginning of the paths to list: those of the handle's tenant if none is asked for."""
        own = self.tenant
        return prefix or (f"{SECRETS_OF_TENANTS}{own}/" if own else "")

    @property
    def tenant(self) -> str:
        """The tenant that the handle is confined to, '' for the whole fleet."""
        return self.identity().tenant

    def sees(self, tenant: str) -> bool:
        """Whether the handle may see the data of a tenant."""
        return self.tenant in (EVERY_TENANT, tenant)

    def narrowed(self, tenant: str | None) -> str | None:
        """The tenant to look for: the handle's own if none is asked for. None or '' means all.

        Raises `NotAllowed` for another tenant than the handle's.
        """
        own = self.tenant
        return self._checked(tenant or own) if own else tenant

    def submits_for(self, tenant: str, default: str) -> str:
        """The tenant of a submission: the handle's own instead of the default one.

        Raises `NotAllowed` for another tenant than the handle's.
        """
        own = self.tenant
        return self._checked(own if tenant == default else tenant) if own else tenant

    def _checked(self, tenant: str) -> str:
        if sentence := foreign(self.identity(), tenant):
            raise NotAllowed(sentence)
        return tenant

    def actor(self, by: str) -> str:
        """Who acts, for the audit: the token, and the name that the caller gives."""
        if self._access.is_open:
            return by
        name = self.identity().name
        return f"{name}: {by}" if by.strip() else name
