"""Why a task's money is not reserved for the best model: the packed form and the phrase for people.

    dear|MODEL|NANODOLLARS    the best model's estimate was over the downgrade threshold
    nearly|SHARE              the share of a dollar budget that would be used, 0 to 1
    a refusal                 it exceeds a limit, see `fleet.budgets.rules.refusals`
"""

from __future__ import annotations

from fleet.budgets.rules.refusals import SEPARATOR, Refusal
from fleet.money import dollars

NEARLY, DEAR = "nearly", "dear"


def describe_downgrade(reason: str) -> str:
    """Why a task's money is not reserved for the best model, for people; empty if it is."""
    kind, _, rest = reason.partition(SEPARATOR)
    if kind == NEARLY:
        return f"{float(rest):.0%} of a budget would be used"
    if kind == DEAR:
        model, _, cost = rest.rpartition(SEPARATOR)
        return f"{model} would cost {dollars(int(cost))}, over the downgrade threshold"
    return Refusal.parse(reason).sentence if reason else ""
