"""Who changes the policy, and why: both are kept in the audit."""

from __future__ import annotations

import os
from getpass import getuser

from fleet.errors import InvalidRequest
from fleet.policy.store import AuditActor

MAX_CHARACTERS = 500


def actor_of(by: str, why: str) -> AuditActor:
    """A cause; where nobody is named, by the user of the operating system.

    Raises `InvalidRequest` for a blank reason, and for text that is too long or not of one line.
    """
    if not why.strip():
        raise InvalidRequest("say why, for whoever reads `fleet audit`")
    return routine_actor(by, why)


def routine_actor(by: str = "", why: str = "") -> AuditActor:
    """A cause for a change that needs no reason."""
    cause = AuditActor(by.strip() or user(), why.strip())
    for name, given in cause._asdict().items():
        if not given.isprintable() or len(given) > MAX_CHARACTERS:
            raise InvalidRequest(
                f"{name}: write one line of at most {MAX_CHARACTERS} printable characters"
            )
    return cause


def user() -> str:
    """The user of the operating system; in a container that knows no such user, its number."""
    try:
        return getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
