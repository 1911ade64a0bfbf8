"""Anchors the audit outside Redis, so that nobody who controls Redis alone can rewrite it.

The anchor is a secret at `audit/anchor`: the number and hash of the last entry, and of the last
one that may be trimmed. A beat job moves it forward over entries whose chain is whole, logs it, and
then trims. So an entry that is missing at the beginning was trimmed only if the anchor says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleet.audit.log import AuditLog
from fleet.audit.origin import Origin
from fleet.audit.rules import AuditEntry, Chain, Head, Point, Problem, verify, verify_after
from fleet.errors import NotAllowed, SecretNotFound, SecretsUnavailable
from fleet.secrets.secrets import Secrets
from fleet.secrets.store import SecretStore
from fleet.secrets.values import SecretVersion
from fleet.telemetry.logger import get_logger

PATH = "audit/anchor"
MAX_ENTRIES = 50_000
"""About how many entries stay in Redis: some 20 MB."""
MAX_NAMED = 5

log = get_logger(__name__)


class Anchors:
    """Keeps the anchor in a store of secrets."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def is_used(self) -> bool:
        """Whether the store has any secret. A store that has none may have no master key yet, and
        an anchor is no reason to make one."""
        return bool(self._store.paths())

    def read(self) -> Head | None:
        """The anchor, or None before the first. Raises the errors of the store."""
        try:
            fields = self._store.read(PATH).fields
        except SecretNotFound:
            return None
        return Head(_point(fields, ""), _point(fields, "trimmed_"))

    def write(self, anchor: Head) -> None:
        """Move the anchor. Versions before the new one are destroyed. Raises `SecretConflict` if
        another process moved it meanwhile."""
        versions = self._versions()
        fields = {
            "seq": str(anchor.last.seq),
            "hash": anchor.last.hash,
            "trimmed_seq": str(anchor.trimmed.seq),
            "trimmed_hash": anchor.trimmed.hash,
        }
        self._store.write(PATH, fields, versions[-1].version if versions else 0)
        for old in versions:
            if not old.destroyed:
                self._store.destroy(PATH, old.version)

    def _versions(self) -> list[SecretVersion]:
        try:
            return self._store.versions(PATH)
        except SecretNotFound:
            return []


def _point(fields: Mapping[str, str], prefix: str) -> Point:
    return Point(int(fields[f"{prefix}seq"]), fields[f"{prefix}hash"])


def anchors_of(secrets: Secrets) -> Anchors | None:
    """The anchors in the first store that can be written, or None."""
    writable = (store for store in secrets.stores if store.is_writable)
    return next(map(Anchors, writable), None)


def move_anchor(
    audit: AuditLog, anchors: Anchors | None, max_entries: int = MAX_ENTRIES
) -> tuple[Problem, ...]:
    """Move the anchor to the end of the audit, and trim what is over `max_entries`.

    Only entries after the present anchor are checked. If their chain is broken, the anchor stays
    and an error is logged. Without a store that can be written (`anchors`
    is None) the log alone has the anchor. A stream of twice `max_entries` is trimmed in any case.
    Returns what is broken.
    """
    chain = audit.chain()
    try:
        anchors = anchors if anchors and anchors.is_used() else None
        anchor = anchors.read() if anchors else None
    except (NotAllowed, SecretsUnavailable) as error:
        log.warning("audit's anchor cannot be read", error=str(error))
        _trim(audit, chain, 2 * max_entries)
        return ()
    problems = _problems(chain, anchor)
    if problems:
        log.error("audit is broken, anchor not moved", problem=problems[0].text)
        _trim(audit, chain, 2 * max_entries)
        return problems
    spare = _last_spare(chain, max_entries)
    _write(anchors, Head(chain.head.last, spare.point if spare else chain.head.trimmed), anchor)
    _trim(audit, chain, max_entries)
    return ()


def _trim(audit: AuditLog, chain: Chain, max_entries: int) -> None:
    spare = _last_spare(chain, max_entries)
    if spare:
        audit.trim(spare)


def accept_broken(
    audit: AuditLog, anchors: Anchors | None, origin: Origin, why: str
) -> tuple[Problem, ...]:
    """Move the anchor over a broken part, so that it can follow the chain again. The broken places
    are still found. Notes this in the audit, and returns what is broken.
    Raises the errors of the store."""
    anchor = anchors.read() if anchors else None
    problems = _problems(audit.chain(), anchor)
    facts = {"what": "accept", "about": "; ".join(each.text for each in problems[:MAX_NAMED])}
    audit.append("anchor", {**facts, **origin._asdict(), "why": why})
    if anchors:
        anchors.write(audit.head())
    return problems


def _problems(chain: Chain, anchor: Head | None) -> tuple[Problem, ...]:
    return verify_after(chain, anchor) if anchor else verify(chain).problems


def _last_spare(chain: Chain, max_entries: int) -> AuditEntry | None:
    """The last entry that may be trimmed, or None."""
    spare = [each for each in chain.entries[: max(len(chain.entries) - max_entries, 0)] if each.seq]
    return max(spare, key=lambda entry: entry.seq, default=None)


def _write(anchors: Anchors | None, moved: Head, anchor: Head | None) -> None:
    if moved == anchor:
        return
    where = "log"
    if anchors:
        try:
            anchors.write(moved)
            where = "store"
        except (NotAllowed, SecretsUnavailable) as error:
            log.warning("audit's anchor is in the log alone", error=str(error))
    log.info(
        "audit anchored",
        where=where,
        seq=moved.last.seq,
        hash=moved.last.hash,
        trimmed_seq=moved.trimmed.seq,
        trimmed_hash=moved.trimmed.hash,
    )
