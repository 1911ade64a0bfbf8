"""The analysis of a period's spend: totals, trend, burn rate and shares.

Amounts are whole nano-dollars. Only trends, shares and rates are floats.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Literal

from fleet.ledger.rules.days import month_days
from fleet.ledger.rules.spend_advice import (
    SpendVerdict,
    Suggestion,
    limit_words,
    suggestions,
    verdict,
)
from fleet.ledger.rules.spend_rows import SpendRow
from fleet.settings.names import ALL

Dimension = Literal["model", "tenant", "agent_type", "request_type", "pool", "provider"]
DIMENSIONS: tuple[Dimension, ...] = (
    *("model", "tenant", "agent_type"),
    *("request_type", "pool", "provider"),
)
WEEK = 7


@dataclass(frozen=True, slots=True)
class SpendLimits:
    """The spend limits of a UTC day and of a month, in nano-dollars, both over 0.

    The scopes are those of the limits: all, or one tenant.
    """

    daily: int
    monthly: int
    daily_scope: str = ALL
    monthly_scope: str = ALL

    def of_days(self, days: Sequence[str]) -> int:
        """The limit of these days: the share of each month's limit for its days.

        For a single day this is the daily limit.
        """
        if len(days) == 1:
            return self.daily
        months = Counter(day[:6] for day in days)
        shares = (Fraction(self.monthly * n, len(month_days(m))) for m, n in months.items())
        return max(1, int(sum(shares)))

    def burned(self, days: Sequence[str]) -> int:
        """The limit for the burn rate of these days: a month's limit, or over more than a month the
        share of each month's limit for its days."""
        return max(self.monthly, self.of_days(days) if len(days) > 1 else 0)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of `SpendRow`s: amounts in nano-dollars, numbers of calls and tokens."""

    amount: int = 0
    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    uncertain: int = 0
    uncertain_steps: int = 0
    missing: int = 0
    unpriced: int = 0
    contradictory: int = 0


FIGURES = tuple(field.name for field in fields(Totals))


@dataclass(frozen=True, slots=True)
class SpendShare:
    """The spend of one model, tenant and so on. `share` is its share of the total, 0 if the total
    is not over 0. A correction may make an amount, and so a share, negative."""

    name: str
    share: float
    totals: Totals


@dataclass(frozen=True, slots=True)
class Analysis:
    """The spend of the days, each with its amount.

    `daily_mean` is over all days. `trend` is in nano-dollars a day, see `weekly_trend`.
    `burn_rate` is the total over `burn_limit`: the monthly limit, or over more than a month the sum
    that the limits of its months allow. `days_limit` is the limit of these days, see
    `SpendLimits.of_days`; `verdict` is that of the last day.
    """

    days: tuple[str, ...]
    daily: tuple[int, ...]
    totals: Totals
    daily_mean: int
    trend: float
    burn_rate: float
    burn_limit: int
    days_limit: int
    verdict: SpendVerdict
    breakdowns: dict[Dimension, tuple[SpendShare, ...]]
    daily_by_model: dict[str, tuple[int, ...]]
    suggestions: tuple[Suggestion, ...]


def analyse(
    rows: Sequence[SpendRow], days: Sequence[str], limits: SpendLimits, open_day: bool = False
) -> Analysis:
    """Analyse the rows of consecutive days, at least one. Days without a row count as 0.

    With `open_day` the last day has not ended yet. It counts in the totals, but not in the trend,
    which would always seem to fall. Raises `ValueError` for a row of another day.
    """
    daily = daily_totals(rows, days)
    totals = summed(rows)
    by_model = _grouped(rows, "model")
    models = breakdown(rows, "model")
    trend = weekly_trend(daily[:-1] if open_day else daily)
    burn_limit = limits.burned(days)
    return Analysis(
        days=tuple(days),
        daily=daily,
        totals=totals,
        daily_mean=round(Fraction(totals.amount, len(days))),
        trend=float(trend),
        burn_rate=totals.amount / burn_limit,
        burn_limit=burn_limit,
        days_limit=limits.of_days(days),
        verdict=verdict(daily[-1], limits.daily),
        breakdowns={by: breakdown(rows, by) for by in DIMENSIONS},
        daily_by_model={part.name: daily_totals(by_model[part.name], days) for part in models},
        suggestions=suggestions(
            totals.amount,
            {part.name: part.totals.amount for part in models},
            trend,
            burn_limit,
            limit_words(burn_limit, limits.monthly, len(days)),
        ),
    )


def summed(rows: Iterable[SpendRow]) -> Totals:
    """The sums of all rows."""
    kept = list(rows)
    return Totals(**{name: sum(getattr(row, name) for row in kept) for name in FIGURES})


def daily_totals(rows: Iterable[SpendRow], days: Sequence[str]) -> tuple[int, ...]:
    """The amount of each day, in the order of the days, from rows of days or of hours."""
    found = dict.fromkeys(days, 0)
    for row in rows:
        day = row.period[:8]
        if day not in found:
            raise ValueError(f"a row of {row.period} is not of {days[0]} to {days[-1]}")
        found[day] += row.amount
    return tuple(found.values())


def breakdown(rows: Iterable[SpendRow], by: Dimension) -> tuple[SpendShare, ...]:
    """The parts of the spend by one of the names, the largest first, then by name."""
    sums = {name: summed(group) for name, group in _grouped(rows, by).items()}
    total = sum(each.amount for each in sums.values())
    parts = (SpendShare(name, _share(each.amount, total), each) for name, each in sums.items())
    return tuple(sorted(parts, key=lambda part: (-part.totals.amount, part.name)))


def _grouped(rows: Iterable[SpendRow], by: Dimension) -> Mapping[str, list[SpendRow]]:
    groups: Mapping[str, list[SpendRow]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, by)].append(row)
    return groups


def weekly_trend(daily: Sequence[int]) -> Fraction:
    """The slope of the least squares line through the last seven days, in nano-dollars a day.

    0 for under seven days. With days numbered -3 to 3 the slope is the sum of number x amount over
    the sum of the squares, 28. The result is exact, because a constant spend must have no trend.
    """
    if len(daily) < WEEK:
        return Fraction(0)
    middle = WEEK // 2
    week = enumerate(daily[-WEEK:], start=-middle)
    return Fraction(sum(number * amount for number, amount in week), 28)


def _share(amount: int, total: int) -> float:
    return amount / total if total > 0 else 0.0
