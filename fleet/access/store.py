"""Tokens in Redis: a hash from the SHA-256 of each token to what the token grants."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from fleet.access.rules import Grant, in_order, token_id, whose
from fleet.errors import RetryLater
from fleet.policy.audit_store import MAX_ENTRIES
from fleet.policy.fields import ACCESS, field_name
from fleet.policy.store import AuditActor
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store


class TokenChange(NamedTuple):
    """The grant of a token, by the token's hash, before and after. None: there is no such token."""

    digested: str
    before: Grant | None
    after: Grant | None


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
        keys = [self.keys.tokens, self.keys.audit, self.keys.policy]
        arguments: list[str | int] = [*actor, MAX_ENTRIES]
        for digested, before, after in changes:
            tenant = next(each.tenant for each in (after, before) if each is not None)
            arguments += [digested, field_name(ACCESS, tenant, token_id(digested))]
            arguments += [each.to_json() if each else "" for each in (before, after)]
            arguments += [described(each) if each else "" for each in (before, after)]
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
