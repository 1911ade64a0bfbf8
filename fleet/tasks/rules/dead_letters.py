"""Which dead letters are meant."""

from __future__ import annotations

from typing import NamedTuple


class DeadFilter(NamedTuple):
    """Dead letters of a tenant, a request type, a class of errors, an age in seconds; '' and None
    for any."""

    tenant: str = ""
    request_type: str = ""
    error: str = ""
    older_than: float | None = None
    newer_than: float | None = None

    def fits(self, tenant: str, request_type: str, error: str, age_seconds: float) -> bool:
        """Whether a dead letter is meant that failed so many seconds ago."""
        return (
            self.tenant in ("", tenant)
            and self.request_type in ("", request_type)
            and self.error in ("", error)
            and (self.older_than is None or age_seconds > self.older_than)
            and (self.newer_than is None or age_seconds < self.newer_than)
        )
