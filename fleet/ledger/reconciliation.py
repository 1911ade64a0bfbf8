"""Compares a provider's bill with the ledger."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from fleet.errors import InvalidRequest
from fleet.ledger.rollups_store import Rollups
from fleet.ledger.rules.reconciliation import Billed, BillKey, Compared, compared, sums
from fleet.ledger.usage_exports import CACHED, REQUESTS, read_usage_export


class Reconciled(NamedTuple):
    """All compared days and models, and those that differ. Amounts are nano-dollars."""

    lines: tuple[Compared, ...]
    differing: tuple[Compared, ...]
    tolerance: int

    @property
    def agrees(self) -> bool:
        """Whether the amounts of all days and models are equal within the tolerance."""
        return all(abs(line.difference.amount) <= self.tolerance for line in self.lines)


def reconcile(
    rollups: Rollups, path: Path, tolerance: int = 0, provider: str | None = None
) -> Reconciled:
    """Compare a usage export with the ledger, over the export's days, by day and model.

    Requests are compared with the ledger's model calls, which include calls that the provider did
    not serve. So requests may differ after failed calls, and only amounts decide whether both
    agree. An entry that only the ledger has counts if its model is in the export, or if it is of
    the given provider. Raises `InvalidRequest` for a file that is no usage export.
    """
    lines, optional = read_usage_export(path)
    if not lines:
        raise InvalidRequest(f"{path}: has no lines; give a usage export with a line for each day")
    bill = sums(lines)
    models = {key.model for key in bill}
    days = sorted(datetime.strptime(key.day, "%Y%m%d").date() for key in bill)
    ours = sums(
        (
            BillKey(row.period, row.model),
            Billed(
                row.input_tokens,
                row.cached_tokens if CACHED in optional else 0,
                row.output_tokens,
                row.amount,
                row.requests if REQUESTS in optional else 0,
            ),
        )
        for row in rollups.rows(days[0], days[-1])
        if (row.provider == provider if provider else row.model in models)
    )
    found = compared(bill, ours)
    differing = tuple(line for line in found if any(line.difference))
    return Reconciled(found, differing, tolerance)
