"""Compares a provider's bill with the ledger: tokens, requests and amount, by day and model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class BillKey(NamedTuple):
    """A UTC day as YYYYMMDD, and a model."""

    day: str
    model: str


class Billed(NamedTuple):
    """The usage of a model on a day: tokens, with cached ones included in the input; nano-dollars;
    requests, or the ledger's model calls. A figure missing from the bill is 0 on both sides."""

    input: int = 0
    cached: int = 0
    output: int = 0
    amount: int = 0
    requests: int = 0


class Compared(NamedTuple):
    """One day and model: the provider's figures and the ledger's."""

    key: BillKey
    billed: Billed
    ledger: Billed

    @property
    def difference(self) -> Billed:
        """The bill minus the ledger; negative if the ledger has more."""
        return Billed(*(a - b for a, b in zip(self.billed, self.ledger, strict=True)))


def sums(lines: Iterable[tuple[BillKey, Billed]]) -> dict[BillKey, Billed]:
    """The sums of a bill's lines by day and model."""
    found: dict[BillKey, Billed] = {}
    for key, billed in lines:
        before = found.get(key, Billed())
        found[key] = Billed(*(a + b for a, b in zip(before, billed, strict=True)))
    return found


def compared(
    bill: Mapping[BillKey, Billed], ledger: Mapping[BillKey, Billed]
) -> tuple[Compared, ...]:
    """Every day and model of either side, in order."""
    keys = sorted({*bill, *ledger})
    return tuple(Compared(key, bill.get(key, Billed()), ledger.get(key, Billed())) for key in keys)
