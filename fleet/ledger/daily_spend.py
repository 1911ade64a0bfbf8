"""Beat's daily spend report: covers whole days, is logged, and is kept for later readers."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from fleet.errors import InvalidRequest
from fleet.ledger.period import DEFAULT_DAYS, period_of, today_of
from fleet.ledger.rules.days import shifted
from fleet.ledger.spend import ReadRows, SpendReport, spend_report
from fleet.ledger.stores import LedgerStores
from fleet.policy.store import Policy
from fleet.redis.client import redis_errors
from fleet.settings.config import FleetConfig
from fleet.telemetry.logger import get_logger

REPORT = TypeAdapter(SpendReport)

log = get_logger(__name__)


def daily_report(
    config: FleetConfig, policy: Policy, ledger: LedgerStores, rows: ReadRows
) -> dict[str, Any]:
    """Report the thirty days up to yesterday: keep the report, log it as one line, return the line.

    May run twice: the second report replaces the first one, and is equal to it.
    """
    today, now = today_of(ledger.entries)
    period = period_of(today, last=shifted(today, -1), days=DEFAULT_DAYS)
    report = spend_report(config, policy, rows, period, made_at=now)
    store = ledger.entries
    with redis_errors(store.client):
        store.client.hset(
            store.keys.spend_report,
            mapping={"at": report.made_at, "report": REPORT.dump_json(report)},
        )
    line = summary(report)
    write = log.info if report.analysis.verdict == "healthy" else log.warning
    write("daily spend report", **line)
    return line


def summary(report: SpendReport) -> dict[str, Any]:
    """A report in a few figures, for a log. Amounts are nano-dollars."""
    analysis, projected = report.analysis, report.projection.total
    return {
        "day": analysis.days[-1],
        "day_nanodollars": analysis.daily[-1],
        "verdict": analysis.verdict,
        "days": len(analysis.days),
        "nanodollars": analysis.totals.amount,
        "burn_rate": round(analysis.burn_rate, 4),
        "trend_nanodollars_a_day": round(analysis.trend),
        "month_projected_nanodollars": None if projected is None else round(projected.estimate),
        "uncertain_nanodollars": analysis.totals.uncertain,
        "steps_without_usage": analysis.totals.missing,
        "steps_with_contradictory_usage": analysis.totals.contradictory,
        "steps_without_price": analysis.totals.unpriced,
        "suggestions": [suggestion.type for suggestion in analysis.suggestions],
    }


def last_report(ledger: LedgerStores) -> SpendReport | None:
    """Beat's last report, None before the first. Raises `InvalidRequest` if another version of
    Fleet made it."""
    store = ledger.entries
    with redis_errors(store.client):
        kept = store.client.hget(store.keys.spend_report, "report")
    if kept is None:
        return None
    try:
        return REPORT.validate_json(kept)
    except ValidationError:
        raise InvalidRequest(
            "the kept report is from another version of fleet; leave out --last-report, or wait "
            "for the next report"
        ) from None


def report_json(report: SpendReport) -> Any:
    """A report as values for JSON. Amounts are nano-dollars."""
    return REPORT.dump_python(report, mode="json")
