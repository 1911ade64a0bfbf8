"""Settled steps, through ledger and roll-ups, in what `fleet spend` and beat's job say of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet

from beat_schedules.jobs import add_jobs
from beat_schedules.schedule import schedule
from fleet.broker.app import make_app
from fleet.broker.known_tasks import SPEND
from fleet.broker.messages import message_encoder
from fleet.ledger.daily_spend import last_report
from fleet.ledger.spend import recorded_rows
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

GPT = ModelCall("gpt-5", "openai", "first", "ok", 100, 40, 20, 7_000_000, reasoning_tokens=12)
MINI = ModelCall("gpt-5-mini", "openai", "again", "ok", 10, 4, 0, 3_000_000)
UNSEEN = ModelCall("gpt-5", "openai", "again", "unavailable", usage="missing")


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of("[budgets]\ndaily_usd = 0.012\n"))
    found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    return found


@pytest.fixture
def settled(fleet: Connection) -> Connection:
    asked = Submission("code_generation", {"instruction": "add"}, "acme")
    task_id = fleet.submitter(message_encoder()).submit(asked).task_id
    lease = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 30, "a", "acme", "")
    assert isinstance(lease, Lease)
    fleet.tasks.model_calls.settle(lease, 1, GPT)
    fleet.tasks.model_calls.settle(lease, 2, MINI)
    fleet.tasks.model_calls.settle(lease, 3, UNSEEN)
    fleet.tasks.model_calls.settle(lease, 4, replace(UNSEEN, usage="contradictory"))
    return fleet


def typed(folder: Path, *arguments: str) -> Any:
    done = run_fleet("spend", *arguments, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_was_settled_is_what_was_spent(settled: Connection, tmp_path: Path) -> None:
    found = typed(tmp_path, "--days", "7", "--plot", "spend.png")
    analysis = found["analysis"]
    assert (analysis["totals"]["amount"], analysis["totals"]["requests"]) == (10_000_000, 4)
    assert (analysis["totals"]["missing"], analysis["totals"]["contradictory"]) == (1, 1)
    assert analysis["daily"] == [0] * 6 + [10_000_000]
    assert analysis["verdict"] == "warning"  # 0.010 of 0.012 dollars
    shares = {part["name"]: part["share"] for part in analysis["breakdowns"]["model"]}
    assert shares == {"gpt-5": 0.7, "gpt-5-mini": 0.3}
    assert [each["type"] for each in analysis["suggestions"]] == ["model_substitution"]
    assert (tmp_path / "spend.png").read_bytes().startswith(b"\x89PNG")
    assert typed(tmp_path, "--tenant", "nobody")["analysis"]["totals"]["amount"] == 0


def test_beats_job_reports_the_days_before_today(settled: Connection) -> None:
    app = make_app(settled.settings)
    add_jobs(app)
    told = app.tasks[SPEND]()
    assert (told["nanodollars"], told["days"]) == (0, 30)  # all was spent today
    kept = last_report(settled.ledger)
    assert kept is not None and kept.analysis.days[-1] == told["day"]


def test_rows_are_asked_for_by_day(settled: Connection) -> None:
    day = settled.ledger.entries.newest(1)[0].day
    assert {row.model for row in recorded_rows(settled.ledger)(day, day)} == {"gpt-5", "gpt-5-mini"}


def test_the_report_is_made_once_a_day(fleet: Connection) -> None:
    planned = schedule(fleet.settings)["report-the-spend"]
    assert planned["task"] == SPEND
    assert (planned["schedule"].hour, planned["schedule"].minute) == ({2}, {0})
