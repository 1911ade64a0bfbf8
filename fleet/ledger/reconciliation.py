"""Lays a provider's bill beside the ledger."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from fleet.errors import InvalidRequest
from fleet.ledger.rollups_store import Rollups
from fleet.ledger.rules.reconciliation import Billed, BillKey, Compared, compared, sums
from fleet.ledger.usage_exports import CACHED, REQUESTS, read_usage_export


class Reconciled(NamedTuple):
    """All days and models that were compared, and those that differ; amounts are nano-dollars."""

    lines: tuple[Compared, ...]
    differing: tuple[Compared, ...]
    tolerance: int

    @property
    def agrees(self) -> bool:
        """Whether no day and model differs by more money than is tolerated."""
        return all(abs(line.difference.amount) <= self.tolerance for line in self.lines)


def reconcile(
    rollups: Rollups, path: Path, tolerance: int = 0, provider: str | None = None
) -> Reconciled:
    """Compare a usage export with the ledger, over the days that it has, by day and model.

    Requests are compared with the ledger's steps, those among them that a provider did not serve:
    so they may differ where calls have failed, and only amounts decide whether the two agree.
    What only the ledger has counts where it is of a model that the export names, or of the given
    provider. Raises `InvalidRequest` for a file that is no usage export.
    """
    lines, told = read_usage_export(path)
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
                row.cached_tokens if CACHED in told else 0,
                row.output_tokens,
                row.amount,
                row.requests if REQUESTS in told else 0,
            ),
        )
        for row in rollups.rows(days[0], days[-1])
        if (row.provider == provider if provider else row.model in models)
    )
    found = compared(bill, ours)
    differing = tuple(line for line in found if any(line.difference))
    return Reconciled(found, differing, tolerance)
