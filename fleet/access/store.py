"""Tokens in Redis: a hash from the SHA-256 of each token to what the token grants."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from fleet.access.rules import Grant, in_order, token_id, whose
from fleet.audit.origin import origin_here
from fleet.errors import RetryLater
from fleet.policy.store import AuditActor
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store


class TokenChange(NamedTuple):
    """The grant of a token, by the token's hash, before and after. None: there is no such token."""

    digested: str
    before: Grant | None
    after: Grant | None

    @property
    def what(self) -> str:
        """What is done, for the audit."""
        if self.before is None:
            return "made"
        return "revoked" if self.after is None else "replaced"

    @property
    def about(self) -> str:
        """The token and what it grants, for the audit."""
        grant = self.after or self.before
        assert grant is not None
        return f"token {token_id(self.digested)}: {described(grant)}"


class TokenStore(Store):
    """Reads and changes tokens. Every method is one round trip."""

    def find(self, digested: str) -> tuple[Grant | None, float]:
        """What a token grants, None if it is not known; and the time by Redis's clock, in seconds
        since 1970."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hget(self.keys.tokens, digested)
        pipeline.time()
        with redis_errors(self.client):
            found, (seconds, micros) = pipeline.execute()
        grant = None if found is None else Grant.from_json(text(found))
        return grant, int(seconds) + int(micros) / 1e6

    def all(self) -> dict[str, Grant]:
        """What each token grants, by its hash, the oldest first."""
        with redis_errors(self.client):
            found = self.client.hgetall(self.keys.tokens)
        grants = {text(digested): Grant.from_json(text(each)) for digested, each in found.items()}
        return dict(sorted(grants.items(), key=lambda item: item[1].made))

    def change(self, changes: Iterable[TokenChange], actor: AuditActor) -> None:
        """Make all changes or none, and note them in the audit.

        Raises `RetryLater` if another process has changed one of the tokens meanwhile.
        """
        keys = [self.keys.tokens, self.keys.audit, self.keys.audit_head]
        by, where = origin_here(actor.by)
        arguments = [by, where, actor.why]
        for change in changes:
            before, after = (each.to_json() if each else "" for each in change[1:])
            arguments += [change.digested, before, after, change.what, change.about]
        with redis_errors(self.client):
            done = self.scripts.change_tokens(keys=keys, args=arguments)
        if not int(done):
            raise RetryLater("another process has changed the token meanwhile; look again")


def described(grant: Grant) -> str:
    """A grant in a few words, for the audit."""
    end = "without end" if grant.expires is None else f"until {_utc(grant.expires)}"
    return f"{', '.join(in_order(grant.roles))} for {whose(grant.tenant)} {end}"


def _utc(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")
