"""The policy's part of Redis."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.audit.log import AuditLog
from fleet.policy.store import PolicyStore


@dataclass(frozen=True, slots=True)
class PolicyStores:
    """The policy that is in force, and who changed it."""

    store: PolicyStore
    audit: AuditLog
