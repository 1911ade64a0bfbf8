"""What to think of a spend, and what would save money.

What is compared with a share of a limit is compared in whole nano-dollars, so that no rounding
decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Verdict = Literal["healthy", "warning", "critical"]
Priority = Literal["critical", "high", "medium"]

NEARLY_PERCENT = 80
"""More of a limit than this is called a warning, for a day as for a month."""
AIM_PERCENT = 70
"""What cutting costs should bring a month, or what several allow, down to."""
DOMINANT_PERCENT = 40
"""A model with more of the spend than this is worth replacing where a cheaper one will do."""
SUBSTITUTE_SAVES_PERCENT = 30
"""What that is taken to save of the model's cost."""
WEEKS_OF_TREND = 4
"""A rising trend is taken to cost so many times itself."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What would save money. `saves` is in nano-dollars, over the period's length."""

    type: Literal["budget_alert", "model_substitution", "usage_monitoring"]
    priority: Priority
    action: str
    saves: int


def verdict(amount: int, daily_limit: int) -> Verdict:
    """What a day's spend is called: a warning over 80 % of the limit, critical over 100 %."""
    if amount > daily_limit:
        return "critical"
    return "warning" if _over(amount, NEARLY_PERCENT, daily_limit) else "healthy"


def limit_words(limit: int, monthly: int, days: int) -> str:
    """What the limit that a period's spend is held against is called."""
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
    """What could be saved, the most urgent first.

    `total` is the period's spend, `models` that of each model, `trend` in nano-dollars a day.
    `limit` is what the total is held against, and `of` what that is called.
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
    """Whether an amount over 0 is more than so much of a whole."""
    return amount > 0 and amount * 100 > whole * percent
