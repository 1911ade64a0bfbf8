"""The spend report, from rows to what is logged, kept and shown."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet
from structlog.testing import capture_logs

from fleet.cli.spend import show_report
from fleet.cli.spend_view import MAX_MODELS, money, stacked
from fleet.errors import InvalidRequest
from fleet.ledger.daily_spend import daily_report, last_report
from fleet.ledger.period import Period, period_of, today_of
from fleet.ledger.rules.days import days_between, shifted, weekdays
from fleet.ledger.rules.spend_rows import SpendRow
from fleet.ledger.spend import ReadRows, SpendReport, limits_of, spend_report
from fleet.policy.rules import LimitKey
from fleet.policy.store import UNKNOWN_ACTOR, Policy
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

DOLLAR = 10**9
BUDGETS = "[budgets]\ndaily_usd = 12.5\nmonthly_usd = 0.1\n"


def report_of(
    fleet: Connection, rows: ReadRows, period: Period, tenant: str | None = None
) -> SpendReport:
    config, policy = fleet.settings.config, fleet.policy.store.read()
    now = today_of(fleet.ledger.entries)[1]
    return spend_report(config, policy, rows, period, tenant, made_at=now)


def daily_report_of(fleet: Connection, rows: ReadRows) -> dict[str, Any]:
    config, policy = fleet.settings.config, fleet.policy.store.read()
    return daily_report(config, policy, fleet.ledger, rows)



@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


@pytest.fixture
def today(fleet: Connection) -> str:
    return today_of(fleet.ledger.entries)[0]


def row(day: str, amount: int, model: str = "gpt-5", tenant: str = "acme") -> SpendRow:
    return SpendRow(
        *(day, tenant, "code_generation", "code_generator", "codegen", model, "openai"),
        *(amount, 2, 100, 10, 50, 5, amount // 10, 1, 1, 0),
    )


def spending(today: str, days: int) -> ReadRows:
    """Ten dollars on each working day up to today and four on the others, of two models."""
    all_days = days_between(shifted(today, -days), today)
    rows = [
        made
        for day, weekday in zip(all_days, weekdays(all_days), strict=True)
        for dollars in ([6, 4] if weekday < 5 else [3, 1],)
        for made in (row(day, dollars[0] * DOLLAR), row(day, dollars[1] * DOLLAR, "m", "other"))
    ]

    def between(first: str, last: str) -> Sequence[SpendRow]:
        return [each for each in rows if first <= each.period <= last]

    return between


def test_limits_are_the_configured_ones_to_the_nano_dollar(
    settings_of: Callable[[str], Settings],
) -> None:
    found = limits_of(settings_of(BUDGETS).config, Policy())
    assert (found.daily, found.monthly) == (12_500_000_000, 100_000_000)


def test_a_report_goes_by_the_limits_in_force(fleet: Connection, today: str) -> None:
    daily, monthly = (LimitKey("all", window, "dollars") for window in ("day", "month"))
    fleet.policy.store.set_limits({daily: 7 * DOLLAR, monthly: None}, UNKNOWN_ACTOR)
    limits = report_of(fleet, spending(today, 10), period_of(today)).limits
    # What was lifted counts as planned.
    assert (limits.daily, limits.monthly) == (7 * DOLLAR, 15_000 * DOLLAR)


def test_a_report_is_of_its_period_and_projects_its_month(fleet: Connection, today: str) -> None:
    report = report_of(fleet, spending(today, 100), period_of(today, days=7))
    assert report.analysis.totals.amount == (5 * 10 + 2 * 4) * DOLLAR
    assert report.open_day
    assert report.projection.month == today[:6]
    assert report.projection.total is not None
    assert report.projection.total.estimate >= report.projection.spent
    again = report_of(fleet, spending(today, 100), period_of(today, days=7))
    assert replace(again, made_at=0) == replace(report, made_at=0)


def test_a_report_of_one_tenant_has_its_spend_only(fleet: Connection, today: str) -> None:
    report = report_of(fleet, spending(today, 100), period_of(today, days=7), "other")
    assert report.analysis.totals.amount == (5 * 4 + 2 * 1) * DOLLAR
    assert [part.name for part in report.analysis.breakdowns["model"]] == ["m"]


def test_a_tenant_that_is_not_configured_is_refused(
    client: redis.Redis, settings_of: Callable[[str], Settings], today: str
) -> None:
    fleet = open_connection(settings_of("tenants = ['acme']"))
    with pytest.raises(InvalidRequest, match="no tenant is called 'other'; use one of: acme"):
        report_of(fleet, spending(today, 10), period_of(today), "other")


def test_beats_report_is_of_whole_days_and_is_logged_and_kept(
    fleet: Connection, today: str
) -> None:
    assert last_report(fleet.ledger) is None
    with capture_logs() as logged:
        told = daily_report_of(fleet, spending(today, 100))
    kept = last_report(fleet.ledger)
    assert kept is not None
    assert kept.analysis.days == days_between(shifted(today, -30), shifted(today, -1))
    assert not kept.open_day
    assert (told["day"], told["days"]) == (shifted(today, -1), 30)
    assert told["nanodollars"] == kept.analysis.totals.amount
    assert told["steps_without_usage"] == kept.analysis.totals.missing == 60
    assert [line["event"] for line in logged] == ["daily spend report"]
    assert logged[0]["log_level"] == "info"
    assert json.loads(json.dumps(told)) == told  # a job's result travels as JSON


def test_beats_report_may_run_twice(fleet: Connection, today: str) -> None:
    first = daily_report_of(fleet, spending(today, 100))
    assert daily_report_of(fleet, spending(today, 100)) == first


def test_a_day_over_its_limit_is_logged_as_a_warning(
    client: redis.Redis, settings_of: Callable[[str], Settings], today: str
) -> None:
    fleet = open_connection(settings_of("[budgets]\ndaily_usd = 1"))
    with capture_logs() as logged:
        assert daily_report_of(fleet, spending(today, 100))["verdict"] == "critical"
    assert logged[0]["log_level"] == "warning"


def test_a_report_of_another_version_is_said_to_be_one(fleet: Connection) -> None:
    fleet.client.hset(fleet.keys.spend_report, "report", '{"old": 1}')
    with pytest.raises(InvalidRequest, match="from another version of fleet"):
        last_report(fleet.ledger)


def test_the_tables_show_totals_shares_doubts_and_suggestions(
    fleet: Connection, today: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of(fleet, spending(today, 100), period_of(today, days=7))
    show_report(report, None, None, as_json=False)
    shown = capsys.readouterr().out
    for said in (
        "$58.00 in 28 calls",
        "0.4% of the monthly limit of $15,000.00; ",
        " for 7 days",
        "needs a period of 7 whole days",
        "uncertain: $5.80 of 14 model calls",
        "missing: 14 model calls",
        "agent type",
        "high: substitute a cheaper model for gpt-5: it has 62% of the spend; saves about $10.80",
    ):
        assert said in shown
    assert "unpriced: " not in shown
    assert "contradictory: " not in shown
    show_report(report, "provider", None, as_json=False)
    shown = capsys.readouterr().out
    assert "openai" in shown
    assert "agent type" not in shown


def test_ninety_days_are_held_against_what_their_months_allow(
    fleet: Connection, today: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.policy.store.set_limits(
        {LimitKey("all", "month", "dollars"): 600 * DOLLAR}, UNKNOWN_ACTOR
    )
    report = report_of(fleet, spending(today, 100), period_of(today, days=90))
    # Some 740 dollars: more than a month may cost, and less than half of what three may.
    show_report(report, None, None, as_json=False)
    shown = capsys.readouterr().out
    assert "of what the monthly limit allows in 90 days, $1," in shown
    assert "critical" not in shown


def test_a_tenant_with_limits_of_its_own_is_held_against_those(
    fleet: Connection, today: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {LimitKey("tenant:other", "month", "dollars"): 10 * DOLLAR}
    fleet.policy.store.set_limits(own, UNKNOWN_ACTOR)
    report = report_of(fleet, spending(today, 100), period_of(today, days=7), "other")
    assert (report.limits.daily, report.limits.monthly) == (500 * DOLLAR, 10 * DOLLAR)
    assert report.analysis.burn_rate == pytest.approx(2.2)
    show_report(report, None, None, as_json=False)
    shown = capsys.readouterr().out
    assert "220.0% of the monthly limit of $10.00 of other" in shown
    assert "of the daily limit of $500.00 of all tenants" in shown


def test_json_has_whole_nano_dollars_and_every_breakdown(
    fleet: Connection, today: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of(fleet, spending(today, 100), period_of(today, days=7))
    show_report(report, None, None, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["analysis"]["totals"]["amount"] == 58 * DOLLAR
    assert len(found["analysis"]["breakdowns"]) == 6
    assert found["analysis"]["breakdowns"]["tenant"][1]["name"] == "other"
    assert found["projection"]["total"]["confidence"] == 0.9


def test_the_plot_is_written(fleet: Connection, today: str, tmp_path: Path) -> None:
    report = report_of(fleet, spending(today, 100), period_of(today))
    show_report(report, None, tmp_path / "spend.png", as_json=True)
    assert (tmp_path / "spend.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidRequest, match="name a file to write"):
        show_report(report, None, tmp_path, as_json=True)


def test_a_fleet_that_spent_nothing_has_a_report_and_a_plot(
    fleet: Connection, today: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of(fleet, lambda first, last: [], period_of(today))
    show_report(report, None, tmp_path / "spend.png", as_json=False)
    shown = capsys.readouterr().out
    assert "a projection needs 3 whole days with spend; there are 0" in shown
    assert "No suggestions." in shown


def test_the_models_after_the_eighth_share_a_colour() -> None:
    models = {str(number): (number * DOLLAR, DOLLAR) for number in range(MAX_MODELS + 2)}
    found = stacked(models)
    assert list(found)[-1] == "2 others"
    assert found["2 others"] == [17.0, 2.0]


@pytest.mark.parametrize(
    ("nanodollars", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (20_150, "$0.000020"),
        (9_999_999, "$0.010"),
        (-1_500_000, "-$0.0015"),
        (1_234_567_890_000, "$1,234.57"),
        (-5 * DOLLAR, "-$5.00"),
    ],
)
def test_small_amounts_are_never_shown_as_nothing(nanodollars: int, shown: str) -> None:
    assert money(nanodollars) == shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--from 2026-02-30", "--from 2026-02-30: is no valid date"),
        ("--to 9999-01-01", "is after today"),
        ("--last-report --tenant acme", "--last-report cannot be combined with --tenant"),
        ("--last-report", "beat has made no report yet"),
        ("--plot nowhere/spend.png", "its folder does not exist"),
    ],
)
def test_a_mistake_ends_with_status_2_and_a_sentence(
    fleet: Connection, tmp_path: Path, arguments: str, says: str
) -> None:
    done = typed(tmp_path, *arguments.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr


def test_beats_last_report_is_shown_as_it_was_kept(
    fleet: Connection, today: str, tmp_path: Path
) -> None:
    told = daily_report_of(fleet, spending(today, 100))
    done = typed(tmp_path, "--last-report", "--json")
    assert json.loads(done.stdout)["analysis"]["totals"]["amount"] == told["nanodollars"]
    shown = typed(tmp_path, "--last-report", "--by", "model").stdout
    assert money(told["nanodollars"]) in shown


def typed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_fleet("spend", *arguments, folder=folder)
