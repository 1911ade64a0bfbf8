"""The audit in Redis: a stream to which entries are appended and never changed.

    kind     written                          fields
    policy   by `policy.lua`, in one step     version, field, before, after, by, why
             with the change itself
    secret   before an act on a secret:       what, path, version, by, where, why
             set, reveal, rotate, revoke
    reads    a process's reads of secrets,    reads (JSON, see `fleet.audit.reads`), by, where
             batched
    grant    with a grant of access, such     what, about, by, where, why
             as a tenant's token
    anchor   when a person accepts a broken   what, about, by, where, why
             chain, see `fleet.secrets.anchor`

No entry holds the value of a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal
from uuid import uuid4

from fleet.audit.origin import Origin
from fleet.audit.rules import (
    CHAINED,
    HASH,
    KIND,
    SEQ,
    AuditEntry,
    Chain,
    Head,
    Point,
    facts_digest,
    raw,
)
from fleet.errors import Unavailable
from fleet.redis.client import redis_errors
from fleet.redis.store import Store

Kind = Literal["secret", "reads", "grant", "anchor"]
ANSWER_SECONDS = 600
"""How long an entry that is sent again gets the first answer. A client repeats it within seconds.
"""
PAGE = 1000
MAX_READS = 3


class AuditLog(Store):
    """Appends to the audit and reads it. Threads may share it."""

    def append(self, kind: Kind, facts: Mapping[str, str]) -> int:
        """Append an entry and return its number. One call to Redis. Raises `Unavailable`: a caller
        whose act must not go unseen appends first, and acts when this returns."""
        fields = {KIND: kind, **facts}
        assert not set(fields) & set(CHAINED), f"{CHAINED} are the chain's own"
        keys = [self.keys.audit, self.keys.audit_head, self.keys.change(uuid4().hex)]
        parts = [raw(text) for pair in fields.items() for text in pair]
        with redis_errors(self.client):
            return int(
                self.scripts.audit(keys=keys, args=[facts_digest(fields), ANSWER_SECONDS, *parts])
            )

    def act(self, what: str, path: str, version: int, origin: Origin, why: str = "") -> int:
        """Append an act on a secret, such as `set`, `reveal`, `rotate` or `revoke`, at once.
        `version` is 0 where the act concerns no single version."""
        facts = {"what": what, "path": path, "version": str(version), **origin._asdict()}
        return self.append("secret", {**facts, "why": why})

    def newest(self) -> Iterator[AuditEntry]:
        """Entries, newest first. A call to Redis for each 1,000."""
        before = "+"
        while page := self._page_before(before):
            yield from page
            before = f"({page[-1].id}"

    def _page_before(self, before: str) -> list[AuditEntry]:
        with redis_errors(self.client):
            rows: Any = self.client.xrevrange(self.keys.audit, max=before, count=PAGE)
        return [_entry(row) for row in rows]

    def head(self) -> Head:
        """The head of the chain. One call to Redis."""
        with redis_errors(self.client):
            return _head(self.client.hgetall(self.keys.audit_head))

    def chain(self) -> Chain:
        """All entries and the head, as they are at one moment. Raises `Unavailable` if the audit
        was trimmed each time while it was read."""
        for _ in range(MAX_READS):
            before = self.head()
            pages = list(self._pages())
            head = pages[-1][1]
            if head.trimmed == before.trimmed:
                return Chain([entry for page, _ in pages for entry in page], head)
        raise Unavailable("the audit was trimmed while it was read; read it again")

    def _pages(self) -> Iterator[tuple[list[AuditEntry], Head]]:
        """The entries, oldest first, each page in one step with the head."""
        after, found = "-", PAGE
        while found == PAGE:
            pipe = self.client.pipeline(transaction=True)
            pipe.xrange(self.keys.audit, min=after, count=PAGE)
            pipe.hgetall(self.keys.audit_head)
            with redis_errors(self.client):
                rows, head = pipe.execute()
            page = [_entry(row) for row in rows]
            yield page, _head(head)
            found = len(page)
            after = f"({page[-1].id}" if page else after

    def size(self) -> int:
        """How many entries there are. One call to Redis."""
        with redis_errors(self.client):
            return int(self.client.xlen(self.keys.audit))

    def trim(self, last: AuditEntry) -> bool:
        """Drop the oldest entries up to this one. Returns False where it is gone already."""
        keys = [self.keys.audit, self.keys.audit_head]
        with redis_errors(self.client):
            return bool(self.scripts.trim_audit(keys=keys, args=[last.id, last.seq, last.hash]))


def _text(value: Any) -> str:
    """A text from which `raw` gives the same bytes again, or a digest would differ."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)


def _entry(row: tuple[Any, Mapping[Any, Any]]) -> AuditEntry:
    entry_id, fields = row
    return AuditEntry(
        _text(entry_id), {_text(name): _text(value) for name, value in (fields or {}).items()}
    )


def _head(fields: Mapping[Any, Any]) -> Head:
    found = {_text(name): _text(value) for name, value in fields.items()}
    return Head(_point(found, ""), _point(found, "trimmed_"))


def _point(fields: Mapping[str, str], prefix: str) -> Point:
    seq = AuditEntry("", {SEQ: fields.get(prefix + SEQ, "")}).seq
    return Point(seq, fields.get(prefix + HASH, Head().last.hash))
