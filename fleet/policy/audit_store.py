"""Changes of the policy in the audit: who changed what, when and why. `policy.lua` writes them."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from fleet.audit.log import AuditLog
from fleet.audit.rules import AuditEntry
from fleet.policy.fields import field_parts


class PolicyChange(NamedTuple):
    """The change of one field of the policy.

    `id` is `<ms>-<n>`, the ms since 1970 by Redis's clock. `kind` is `route`, `limit`, `over`,
    `emergency`, `difficulty`, `size` or `scaling`. `about` names the subject, such as the scope,
    window and quantity of a limit. `before` and `after` are the written values, empty if there was
    none.
    """

    id: str
    version: int
    kind: str
    about: tuple[str, ...]
    before: str
    after: str
    by: str
    why: str

    @property
    def epoch(self) -> float:
        """When the change was made, in seconds since 1970."""
        return int(self.id.partition("-")[0]) / 1000


def newest_changes(audit: AuditLog, most: int) -> list[PolicyChange]:
    """Changes of the policy, newest first. One call to Redis for each 1,000 entries of the audit
    among which it looks for them."""
    entries = (entry for entry in audit.newest() if is_change(entry))
    return [policy_change(entry) for entry in islice(entries, most)]


def is_change(entry: AuditEntry) -> bool:
    """Whether an entry of the audit is a change of the policy."""
    return entry.kind == "policy" and "field" in entry.fields


def policy_change(entry: AuditEntry) -> PolicyChange:
    """The change of the policy in an entry of the audit."""
    facts = entry.facts
    kind, about = field_parts(facts["field"])
    return PolicyChange(
        id=entry.id,
        version=int(facts["version"]),
        kind=kind,
        about=tuple(about),
        **{name: facts[name] for name in ("before", "after", "by", "why")},
    )
