"""Sums of spending: one row for each period and combination of names."""

from __future__ import annotations

from typing import NamedTuple


class SpendRow(NamedTuple):
    """Spend of one period: `period` is a UTC day as YYYYMMDD or an hour as YYYYMMDDHH.

    Amounts are nano-dollars. `uncertain` is the part of the amount without reported usage.
    `missing` and `unpriced` count the model calls with unknown usage or price, `contradictory` the
    calls whose provider reported inconsistent counts.
    """

    period: str
    tenant: str
    request_type: str
    agent_type: str
    pool: str
    model: str
    provider: str
    amount: int
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    uncertain: int
    uncertain_steps: int
    missing: int
    unpriced: int
    contradictory: int = 0
