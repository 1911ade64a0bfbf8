"""Compares a provider's bill with the ledger: tokens, requests and amount, by day and model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class BillKey(NamedTuple):
    """A UTC day as YYYYMMDD, and a model."""

    day: str
    model: str


class Billed(NamedTuple):
    """What was used on a day by a model: tokens, of which cached ones are input; nano-dollars;
    requests, or steps of the ledger. What a bill does not tell is 0 on both sides."""

    input: int = 0
    cached: int = 0
    output: int = 0
    amount: int = 0
    requests: int = 0


class Compared(NamedTuple):
    """One day and model: what the provider billed, and what the ledger has."""

    key: BillKey
    billed: Billed
    ledger: Billed

    @property
    def difference(self) -> Billed:
        """What the bill has more than the ledger; under 0 where it has less."""
        return Billed(*(a - b for a, b in zip(self.billed, self.ledger, strict=True)))


def sums(lines: Iterable[tuple[BillKey, Billed]]) -> dict[BillKey, Billed]:
    """Lines of a bill, those of the same day and model added up."""
    found: dict[BillKey, Billed] = {}
    for key, billed in lines:
        before = found.get(key, Billed())
        found[key] = Billed(*(a + b for a, b in zip(before, billed, strict=True)))
    return found


def compared(
    bill: Mapping[BillKey, Billed], ledger: Mapping[BillKey, Billed]
) -> tuple[Compared, ...]:
    """Every day and model that either side knows, in order."""
    keys = sorted({*bill, *ledger})
    return tuple(Compared(key, bill.get(key, Billed()), ledger.get(key, Billed())) for key in keys)
