"""`fleet budget alerts`, as a command and from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from commands import run_fleet

from fleet import Fleet
from fleet.budgets.alerts import look_at_budgets
from fleet.budgets.controls import Controls
from fleet.models.rules.output_limits import Shown
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease

LEASE = Lease(
    "task", 1, "type", "a [b] c", 0.5, "gpt-5", 1, agent_type="code_generator", pool="pool"
)


def look(fleet: Connection) -> list[str]:
    controls = Controls(fleet.settings.config, fleet.policy.store.read())
    return look_at_budgets(controls, fleet.budgets)



@pytest.fixture
def settings(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Settings:
    return settings_of('[budgets.scopes."tenant:*"]\ndaily_usd = 10')


@pytest.fixture
def state(settings: Settings) -> Connection:
    found = open_connection(settings)
    found.client.hset(found.keys.task(LEASE.task_id), mapping={"state": "running", "fence": 1})
    return found


def alerts(folder: Path, *arguments: str) -> str:
    done = run_fleet("budget", "alerts", *arguments, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def spend(state: Connection, call: int, dollars: int) -> None:
    cost = dollars * 10**9
    state.tasks.model_calls.settle(
        LEASE, call, ModelCall("gpt-5", "openai", "first", "ok", 1, 0, 1, cost)
    )
    look(state)


def test_alerts_are_shown_the_newest_first(
    state: Connection, settings: Settings, tmp_path: Path
) -> None:
    assert alerts(tmp_path) == "no alerts: no budget is half used yet\n"
    assert alerts(tmp_path, "--json") == "[]\n"
    spend(state, 1, 6)
    spend(state, 2, 4)
    found = json.loads(alerts(tmp_path, "--json"))
    assert [(each["scope"], each["threshold"], each["settled"]) for each in found] == [
        ("tenant:a [b] c", 100, 10_000_000_000),
        ("tenant:a [b] c", 50, 6_000_000_000),
    ]
    assert found[1]["sentence"] == (
        "tenant:a [b] c has used 60 % of $10 per UTC day: $6 settled, $0 reserved"
    )
    shown = alerts(tmp_path, "--limit", "1").splitlines()
    assert len(shown) == 2
    assert "tenant:a [b] c" in shown[1]
    assert "100 %" in shown[1]
    assert [alert.id for alert in Fleet(settings).alerts()] == [each["id"] for each in found]


def test_a_model_that_ignores_its_limit_is_among_the_alerts(
    state: Connection, tmp_path: Path
) -> None:
    shown = Shown(100, 4096, at_limit=False)
    state.models.state.note_limit("own", "task-1 1.1", shown)
    state.models.state.note_limit("own", "task-1 1.2", shown)
    (told,) = json.loads(alerts(tmp_path, "--json"))
    assert (told["kind"], told["scope"]) == ("output_limit", "model:own")
    assert (told["asked"], told["written"], told["call"]) == (100, 4096, "task-1 1.1")
    assert "4,096 tokens instead of at most 100" in told["sentence"]
    assert "4,096 tokens" in alerts(tmp_path)
