"""The part of `Fleet` that shows what was spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.access.access import Guard
from fleet.ledger.rules.entries import LedgerEntry
from fleet.ledger.stores import LedgerStores
from fleet.policy.stores import PolicyStores
from fleet.settings import Settings

if TYPE_CHECKING:
    from fleet.ledger.spend import SpendReport


class SpendReading:
    """A handle of one tenant sees the spend of its tenant."""

    settings: Settings
    _guard: Guard
    _ledger: LedgerStores
    _policy: PolicyStores

    def ledger(self, limit: int = 50, tenant: str | None = None) -> list[LedgerEntry]:
        """Entries of the ledger that are still in Redis, newest first, if given of one tenant."""
        return self._ledger.entries.newest(limit, self._guard.narrowed(tenant))

    def spend(
        self,
        first: str | None = None,
        last: str | None = None,
        *,
        days: int | None = None,
        tenant: str | None = None,
    ) -> SpendReport:
        """A report on the spend of a period, by default of the last 30 days, if given of one
        tenant. Days are written as 2026-11-24. Brings the roll-ups up to date first. Raises
        `InvalidRequest`."""
        # numpy and what else reports need.
        from fleet.ledger.period import period_of, today_of
        from fleet.ledger.spend import recorded_rows, spend_report

        own = self._guard.narrowed(tenant)
        today, now = today_of(self._ledger.entries)
        period, policy = period_of(today, first, last, days), self._policy.store.read()
        rows = recorded_rows(self._ledger)
        return spend_report(self.settings.config, policy, rows, period, own, made_at=now)
