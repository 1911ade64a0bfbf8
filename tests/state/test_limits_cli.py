"""`fleet limits`, `budget`, `emergency` and `audit`, as commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet

from fleet import Fleet, Submission
from fleet.errors import InEmergency
from fleet.models.rules.decision import ModelDecision
from fleet.settings import Settings

Command = Callable[..., subprocess.CompletedProcess[str]]
CONFIG = """
tenants = ["acme", "vip"]
[budgets]
daily_usd = 12.5
[rates.scopes."tenant:*"]
requests = 100
"""


@pytest.fixture
def state(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Fleet:
    return Fleet(settings_of(CONFIG))


@pytest.fixture
def fleet(state: Fleet, tmp_path: Path) -> Command:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_fleet(*arguments, folder=tmp_path)

    return run


def printed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(printed(done))


def test_rate_limits_are_set_shown_and_cleared(fleet: Command, state: Fleet) -> None:
    wanted = ("--requests", "1000", "--dollars", "0.1", "--concurrent", "10", "--tokens", "none")
    told = printed(fleet("limits", "set", "tenant:acme", *wanted, "--why", "a pilot"))
    assert told.splitlines() == [
        "tenant:acme: at most $0.1 in any 60 minutes",
        "tenant:acme: no limit on tokens in any 60 minutes",
        "tenant:acme: at most 1,000 requests in any 60 minutes",
        "tenant:acme: at most 10 tasks at once",
    ]
    assert state.controls().limits.packed("tenant:acme") == "r1=100000000;r3=1000;c4=10"
    shown = answer(fleet("limits", "show", "--json"))
    assert {each["scope"] for each in shown} == {"tenant:*", "tenant:acme"}
    assert shown[1] == {
        "scope": "tenant:acme",
        "window": "rolling",
        "quantity": "dollars",
        "most": 100_000_000,
        "unit": "nanodollars",
        "said": "set",
        "used": [{"scope": "tenant:acme", "settled": 0, "reserved": 0}],
    }
    assert (shown[2]["quantity"], shown[2]["most"]) == ("tokens", None)
    table = " ".join(printed(fleet("limits", "show")).split())
    assert "at most 100 requests in any 60 minutes the configuration" in table
    assert "at most 10 tasks at once" in table
    clear = ("limits", "clear", "tenant:acme", "--why", "it is over")
    assert printed(fleet(*clear, "--requests")) == (
        "tenant:acme: 1 limit returns to the configuration\n"
    )
    assert state.controls().limits.packed("tenant:acme") == "r1=100000000;r3=100;c4=10"
    assert printed(fleet(*clear)) == "tenant:acme: 3 limits return to the configuration\n"
    assert printed(fleet(*clear)) == "tenant:acme: no such limit was set at run time\n"


def test_budgets_are_set_lifted_and_cleared_by_window(fleet: Command, state: Fleet) -> None:
    budget = ("budget", "set", "all", "--why", "a quiet month", "--by", "ops")
    assert printed(fleet(*budget, "--window", "day", "--dollars", "none")) == (
        "all: no limit on dollars per UTC day\n"
    )
    printed(fleet(*budget, "--window", "month", "--dollars", "9", "--tokens", "5"))
    assert state.controls().limits.packed("all") == "m1=9000000000;m2=5"
    clear = ("budget", "clear", "all", "--why", "it is over")
    assert "1 limit returns" in printed(fleet(*clear, "--window", "day"))
    assert state.controls().limits.packed("all") == "d1=12500000000;m1=9000000000;m2=5"
    assert "2 limits return" in printed(fleet(*clear))
    assert [each.by for each in state.audit()] == [getuser()] * 3 + ["ops"] * 3


def test_what_becomes_of_calls_that_do_not_fit_is_said_and_shown(fleet: Command) -> None:
    wait = ("budget", "policy", "wait", "--tenant", "acme", "--why", "they have time")
    assert printed(fleet(*wait)) == (
        "tasks of acme: a call over a budget now waits for the next window\n"
    )
    shown = answer(fleet("budget", "show", "--json"))
    assert shown["policies"] == [
        {"request_type": None, "tenant": None, "over": "downgrade", "said": "configured"},
        {"request_type": None, "tenant": "acme", "over": "wait", "said": "set"},
    ]
    assert [each["most"] for each in shown["limits"]] == [12_500_000_000, 15_000 * 10**9]
    assert (shown["task_nanodollars"], shown["emergency"]) == (None, {"on": False})
    assert shown["downgrade"]["over_nanodollars"] == 100_000_000
    table = printed(fleet("budget", "show"))
    for said in ("at most $12.5 per UTC day", "acme", "wait", "gpt-5 by gpt-4o", "no emergency"):
        assert said in table
    back = ("budget", "policy", "configured", "--tenant", "acme", "--why", "back")
    assert printed(fleet(*back)) == "tasks of acme: the configuration applies again\n"
    assert printed(fleet(*back)) == (
        "tasks of acme: no policy was set at run time; the configuration applies\n"
    )


def test_an_emergency_is_on_until_it_is_off(fleet: Command, state: Fleet) -> None:
    assert printed(fleet("emergency", "show")) == "no emergency: all tasks are accepted\n"
    start = ("emergency", "on", "--why", "a [red]loop", "--by", "ops")
    told = printed(fleet(*start, "--allow", "vip", "--allow", "acme"))
    accepted = "emergency: only tasks of priority 0 and tasks of acme, vip are accepted\n"
    assert told.startswith(accepted)
    assert told.endswith(", by ops: a [red]loop\n")
    shown = answer(fleet("emergency", "show", "--json"))
    assert (shown["on"], shown["by"], shown["tenants"]) == (True, "ops", ["acme", "vip"])
    off = ("emergency", "off", "--why", "it is mended")
    assert printed(fleet(*off)) == "all tasks are accepted again\n"
    assert printed(fleet(*off)) == "there was no emergency\n"
    assert state.emergency() is None
    audit = printed(fleet("audit"))
    assert "a [red]loop" in audit
    assert "on, except for acme, vip" in audit


def test_the_audit_tells_what_was_changed_by_whom_and_why(fleet: Command, state: Fleet) -> None:
    assert printed(fleet("audit")) == "no changes yet\n"
    state.set_limits("tenant:acme", {"daily_usd": 20}, why="as agreed", by="ops")
    printed(fleet("route", "set", "least_loaded", "--tenant", "acme", "--why", "to try it"))
    route, limit = answer(fleet("audit", "--json"))
    assert (limit["kind"], limit["about"]) == ("limit", ["tenant:acme", "day", "dollars"])
    assert (limit["before"], limit["after"]) == (None, "20000000000")
    assert (limit["by"], limit["why"], limit["version"]) == ("ops", "as agreed", 1)
    assert (route["kind"], route["by"], route["why"]) == ("route", getuser(), "to try it")
    assert answer(fleet("audit", "--limit", "1", "--json")) == [route]
    table = printed(fleet("audit"))
    for said in ("limit tenant:acme day dollars", "$20", "as agreed", "route acme", "least_loaded"):
        assert said in table


LIMITS = ("limits", "set", "tenant:acme")
BUDGET = ("budget", "set", "all", "--window", "day")
WHY = ("--why", "to see")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*LIMITS, *WHY), "name a limit to set: --requests, --tokens, --dollars, --concurrent"),
        ((*LIMITS, "--requests", "few", *WHY), "--requests 'few': give a number, or none"),
        ((*LIMITS, "--requests", "0", *WHY), "requests is 0; give a whole number from 1"),
        ((*LIMITS, "--requests", "1.5", *WHY), "requests is 1.5; give a whole number"),
        ((*LIMITS, "--dollars", "nan", *WHY), "usd is nan; give US dollars over 0"),
        ((*LIMITS, "--requests", "1", "--why", " "), "give a reason for the audit"),
        ((*LIMITS, "--requests", "1"), "Missing option '--why'"),
        (("limits", "set", "acme", "--requests", "1", *WHY), "'acme' is no scope; write tenant:"),
        (("limits", "clear", "tenant:x", *WHY), "'x' is not known; use one of: acme, vip, *"),
        ((*BUDGET, *WHY), "name a limit to set: --dollars, --tokens, --requests"),
        ((*BUDGET, "--dollars", "-1", *WHY), "daily_usd is -1; give US dollars over 0"),
        (("budget", "set", "all", "--dollars", "1", *WHY), "Missing option '--window'"),
        (("budget", "policy", "ask", *WHY), "'ask' is not one of"),
        (("budget", "policy", "wait", "--tenant", "x", *WHY), "no tenant is called 'x'"),
        (("emergency", "on"), "Missing option '--why'"),
        (("emergency", "on", "--allow", "*", *WHY), "name single tenants"),
    ],
)
def test_a_mistake_is_exit_status_two_and_changes_nothing(
    fleet: Command, state: Fleet, arguments: tuple[str, ...], says: str
) -> None:
    done = fleet(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert state.audit() == []


def test_what_is_reserved_is_shown_with_each_limit(fleet: Command, state: Fleet) -> None:
    connection = state._connection
    connection.routing.agents.register("codegen-1", "codegen", 10, {})
    payload = {"instruction": "Write a function that adds two numbers."}
    task = state.submit("code_generation", payload, tenant="acme")
    decision = task.record().model_decision
    assert decision is not None
    best = ModelDecision.from_json(decision).best
    printed(fleet("budget", "set", "tenant:*", "--window", "day", "--tokens", "9000", "--why", "w"))
    limits = answer(fleet("budget", "show", "--json"))["limits"]
    (used,) = next(each["used"] for each in limits if each["scope"] == "tenant:*")
    tokens = best.input_tokens + best.output_tokens
    assert used == {"scope": "tenant:acme", "settled": 0, "reserved": tokens}
    table = " ".join(printed(fleet("budget", "show")).split())
    assert f"tenant:acme 0 {tokens:,} {tokens / 9000:.0%}" in table
    (rate,) = answer(fleet("limits", "show", "--json"))
    assert rate["used"] == [{"scope": "tenant:acme", "settled": 0, "reserved": 1}]
    task.cancel()
    (rate,) = answer(fleet("limits", "show", "--json"))
    assert rate["used"] == [{"scope": "tenant:acme", "settled": 0, "reserved": 0}]


def test_in_an_emergency_only_urgent_tasks_and_allowed_tenants_pass(
    fleet: Command, state: Fleet
) -> None:
    state._connection.routing.agents.register("codegen-1", "codegen", 10, {})
    payload = {"instruction": "Write a function that adds two numbers."}
    state.submit("code_generation", payload, tenant="acme")
    printed(fleet("emergency", "on", "--why", "a runaway agent", "--allow", "vip"))
    with pytest.raises(InEmergency, match="a runaway agent") as refused:
        state.submit("code_generation", payload, tenant="acme")
    assert refused.value.retry_after > 0
    with pytest.raises(InEmergency, match="a runaway agent"):
        state.dry_run(Submission("code_generation", payload, "acme"))
    state.submit("code_generation", payload, tenant="vip")
    state.submit("code_generation", payload, tenant="acme", priority=0)
    many = [Submission("code_generation", payload, tenant) for tenant in ("acme", "vip")]
    with pytest.raises(InEmergency) as refused:
        state.submit_many(many)
    assert "submitted nevertheless" in refused.value.__notes__[0]
    printed(fleet("emergency", "off", "--why", "it was stopped"))
    state.submit("code_generation", payload, tenant="acme")
    assert len(state.tasks()) == 5
