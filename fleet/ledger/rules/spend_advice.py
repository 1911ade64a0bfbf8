"""The verdict on a spend, and suggestions that would save money.

Comparisons with a share of a limit use whole nano-dollars, so that no rounding decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

SpendVerdict = Literal["healthy", "warning", "critical"]
Priority = Literal["critical", "high", "medium"]

NEARLY_PERCENT = 80
"""A larger share of a limit is a warning, for a day and for a month."""
AIM_PERCENT = 70
"""The share of the limit that cutting costs should reach."""
DOMINANT_PERCENT = 40
"""A model with a larger share of the spend is worth replacing if a cheaper one is good enough."""
SUBSTITUTE_SAVES_PERCENT = 30
"""The assumed saving of a cheaper model, in percent of the replaced model's cost."""
WEEKS_OF_TREND = 4
"""The assumed cost of a rising trend, as a multiple of its daily slope."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggestion that would save money. `saves` is in nano-dollars over the period's length."""

    type: Literal["budget_alert", "model_substitution", "usage_monitoring"]
    priority: Priority
    action: str
    saves: int


def verdict(amount: int, daily_limit: int) -> SpendVerdict:
    """The verdict on a day's spend: a warning over 80 % of the limit, critical over 100 %."""
    if amount > daily_limit:
        return "critical"
    return "warning" if _over(amount, NEARLY_PERCENT, daily_limit) else "healthy"


def limit_words(limit: int, monthly: int, days: int) -> str:
    """The name of the limit that a period's spend is compared with."""
    if limit == monthly:
        return "the monthly limit"
    return f"what the monthly limit allows in {days} days"


def suggestions(
    total: int,
    models: Mapping[str, int],
    trend: Fraction,
    limit: int,
    of: str = "the monthly limit",
) -> tuple[Suggestion, ...]:
    """Suggestions, the most urgent first.

    `total` is the period's spend, `models` the spend of each model, `trend` in nano-dollars a day.
    `limit` is the limit for the total, and `of` its name.
    """
    found: list[Suggestion] = []
    if _over(total, NEARLY_PERCENT, limit):
        found.append(
            Suggestion(
                "budget_alert",
                "critical",
                f"cut costs now: over {NEARLY_PERCENT} % of {of} is spent",
                total - limit * AIM_PERCENT // 100,
            )
        )
    found += [
        Suggestion(
            "model_substitution",
            "high",
            f"substitute a cheaper model for {name}: it has {amount / total:.0%} of the spend",
            amount * SUBSTITUTE_SAVES_PERCENT // 100,
        )
        for name, amount in models.items()
        if total > 0 and _over(amount, DOMINANT_PERCENT, total)
    ]
    if trend > 0:
        found.append(
            Suggestion(
                "usage_monitoring",
                "medium",
                "watch the usage: the daily spend has been rising for a week",
                round(trend * WEEKS_OF_TREND),
            )
        )
    return tuple(found)


def _over(amount: int, percent: int, whole: int) -> bool:
    """Whether an amount over 0 is more than `percent` of the whole."""
    return amount > 0 and amount * 100 > whole * percent
