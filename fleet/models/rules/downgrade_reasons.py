"""Why a task's money is not held for the best model, as it is packed and as people read it.

    dear|MODEL|NANODOLLARS    the best was over the threshold to go down
    nearly|SHARE              so much of a budget of dollars would be used, 0 to 1
    a refusal                 it fits no limit, see `fleet.budgets.rules.refusals`
"""

from __future__ import annotations

from fleet.budgets.rules.refusals import SEPARATOR, Refusal
from fleet.money import dollars

NEARLY, DEAR = "nearly", "dear"


def said(because: str) -> str:
    """Why a task's money is not held for the best model, for people; empty where it is."""
    kind, _, rest = because.partition(SEPARATOR)
    if kind == NEARLY:
        return f"{float(rest):.0%} of a budget would be used"
    if kind == DEAR:
        model, _, cost = rest.rpartition(SEPARATOR)
        return f"{model} would cost {dollars(int(cost))}, over the threshold to go down"
    return Refusal.parse(because).sentence if because else ""
