"""Who changes the policy and why, for the audit."""

from __future__ import annotations

from fleet.audit.origin import user
from fleet.errors import InvalidRequest
from fleet.policy.store import AuditActor

MAX_CHARACTERS = 500


def actor_of(by: str, why: str) -> AuditActor:
    """The actor of a change; by default the user of the operating system.

    Raises `InvalidRequest` for a blank reason, and for text that is too long or has more than one
    line.
    """
    if not why.strip():
        raise InvalidRequest("give a reason for the audit")
    return routine_actor(by, why)


def routine_actor(by: str = "", why: str = "") -> AuditActor:
    """The actor of a change that needs no reason."""
    actor = AuditActor(by.strip() or user(), why.strip())
    for name, given in actor._asdict().items():
        if not given.isprintable() or len(given) > MAX_CHARACTERS:
            raise InvalidRequest(
                f"{name}: write one line of at most {MAX_CHARACTERS} printable characters"
            )
    return actor
