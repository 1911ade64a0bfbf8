"""Limits and controls that are changed while the fleet runs, by `Fleet`."""

from __future__ import annotations

import math
from collections.abc import Callable
from getpass import getuser

import pytest
import redis

from fleet import Fleet
from fleet.broker.messages import message_encoder
from fleet.errors import InvalidRequest
from fleet.settings import Settings
from fleet.tasks.connection import open_connection
from fleet.tasks.submission.checks import Submission

CONFIG = """
tenants = ["acme", "vip"]
[budgets]
over = "wait"
[budgets.scopes."tenant:*"]
daily_usd = 20
"""
DOLLAR = 10**9


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Fleet:
    return Fleet(settings_of(CONFIG))


def test_limits_are_set_lifted_and_taken_back(fleet: Fleet) -> None:
    wanted = {"daily_usd": 0.1, "requests": 1000, "concurrent_tasks": 3}
    assert fleet.set_limits("tenant:acme", wanted, why="a pilot") == 3
    assert fleet.controls().limits.packed("tenant:acme") == "d1=100000000;r3=1000;c4=3"
    assert fleet.set_limits("tenant:acme", {**wanted, "daily_usd": None}, why="it pays") == 1
    assert fleet.controls().limits.packed("tenant:acme") == "r3=1000;c4=3"
    assert fleet.controls().limits.packed("tenant:vip") == f"d1={20 * DOLLAR}"
    assert fleet.clear_limits("tenant:acme", ["requests"], why="enough") == 1
    assert fleet.controls().limits.packed("tenant:acme") == "c4=3"
    assert fleet.clear_limits("tenant:acme", why="the pilot is over") == 2
    assert fleet.controls().limits.packed("tenant:acme") == f"d1={20 * DOLLAR}"
    assert {each.origin for each in fleet.limits()} == {"configured"}


@pytest.mark.parametrize(
    ("scope", "limits", "says"),
    [
        ("acme", {"requests": 1}, "'acme' is no scope; write tenant:NAME, agent_type:NAME"),
        ("tenant:", {"requests": 1}, "'tenant:' is no scope"),
        ("tenant:other", {"requests": 1}, "'other' is not known; use one of: acme, vip, *"),
        ("agent_type:cook", {"requests": 1}, "'cook' is not known; use one of: code_generator"),
        ("model:gpt-9", {"requests": 1}, "'gpt-9' is not known; use one of: claude"),
        ("all", {}, "name a limit to set: hourly_usd, "),
        ("all", {"yearly_usd": 1}, "no limit is called 'yearly_usd'; use one of: concurrent_ta"),
        ("all", {"requests": 0}, "requests is 0; give a whole number from 1 to"),
        ("all", {"requests": 1.5}, "requests is 1.5; give a whole number from 1 to"),
        ("all", {"tokens": 2**53}, "tokens is 9007199254740992; give a whole number"),
        ("all", {"tokens": math.inf}, "tokens is inf; give a whole number"),
        ("all", {"usd": -1}, "usd is -1; give US dollars over 0 and up to 9,000,000, or None"),
        ("all", {"usd": 9_000_001}, "usd is 9000001; give US dollars"),
        ("all", {"usd": math.nan}, "usd is nan; give US dollars"),
        ("all", {"tokens": math.nan}, "tokens is nan; give a whole number"),
        ("all", {"usd": "5"}, "usd is '5'; give US dollars"),
        ("all", {"requests": True}, "requests is True; give a whole number"),
        ("all", {"requests": 5, "usd": 0}, "usd is 0; give US dollars"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_and_nothing_changes(
    fleet: Fleet, scope: str, limits: dict[str, float], says: str
) -> None:
    with pytest.raises(InvalidRequest) as told:
        fleet.set_limits(scope, limits, why="to see")
    assert says in str(told.value)
    assert fleet.audit() == []


@pytest.mark.parametrize(
    ("why", "by", "says"),
    [
        ("", "ops", "give a reason for the audit"),
        (" \n", "ops", "give a reason"),
        ("two\nlines", "ops", "why: write one line"),
        ("x" * 501, "ops", "why: write one line of at most 500"),
        ("fine", "o\x00ps", "by: write one line"),
    ],
)
def test_every_change_needs_a_reason(fleet: Fleet, why: str, by: str, says: str) -> None:
    for change in (
        lambda: fleet.set_limits("all", {"requests": 1}, why=why, by=by),
        lambda: fleet.clear_limits("all", why=why, by=by),
        lambda: fleet.set_budget_policy("wait", why=why, by=by),
        lambda: fleet.set_budget_policy("configured", why=why, by=by),
        lambda: fleet.set_emergency(why=why, by=by),
        lambda: fleet.end_emergency(why=why, by=by),
    ):
        with pytest.raises(InvalidRequest, match=says):
            change()
    assert fleet.audit() == []


def test_where_nobody_is_named_it_was_the_user_of_the_system(fleet: Fleet) -> None:
    fleet.set_limits("all", {"requests": 1}, why=" a test ")
    fleet.set_route("least_loaded", by="ops")
    route, limit = fleet.audit()
    assert (limit.by, limit.why) == (getuser(), "a test")
    assert (route.kind, route.by, route.why) == ("route", "ops", "")
    assert fleet.audit(limit=1) == [route]


def test_what_becomes_of_calls_that_do_not_fit_is_set_and_taken_back(fleet: Fleet) -> None:
    def over(tenant: str) -> str:
        return fleet.controls().over("code_generation", tenant)

    assert fleet.set_budget_policy("refuse", tenant="acme", why="no answer is better")
    assert not fleet.set_budget_policy("refuse", tenant="acme", why="no answer is better")
    assert (over("acme"), over("vip")) == ("refuse", "wait")
    assert fleet.set_budget_policy("configured", tenant="acme", why="back")
    assert not fleet.set_budget_policy("configured", tenant="acme", why="back")
    assert over("acme") == "wait"


def test_a_budget_policy_that_cannot_be_is_refused(fleet: Fleet) -> None:
    for over, tasks, says in (
        ("ask", {}, "no budget policy is called 'ask'; use one of: downgrade, refuse, wait"),
        ("wait", {"tenant": "other"}, "no tenant is called 'other'"),
        ("configured", {"request_type": "knit"}, "no request type is called 'knit'"),
    ):
        with pytest.raises(InvalidRequest, match=says):
            fleet.set_budget_policy(over, why="to see", **tasks)
    assert fleet.audit() == []


def test_an_emergency_says_who_and_why_and_ends(fleet: Fleet) -> None:
    assert fleet.emergency() is None
    assert fleet.set_emergency(["vip"], why="a loop", by="ops")
    found = fleet.emergency()
    assert (found.by, found.why, found.tenants) == ("ops", "a loop", {"vip"})
    assert fleet.controls().special_tenants == {"vip"}
    assert not fleet.set_emergency(["vip"], why="a loop", by="ops")
    assert fleet.emergency() == found
    assert fleet.end_emergency(why="it is mended")
    assert not fleet.end_emergency(why="it is mended")
    assert fleet.emergency() is None
    assert [(each.kind, each.why) for each in fleet.audit()] == [
        ("emergency", "it is mended"),
        ("emergency", "a loop"),
    ]


@pytest.mark.parametrize(("tenant", "says"), [("*", "name single tenants"), ("x", "'x' is not")])
def test_an_emergency_passes_known_tenants_only(fleet: Fleet, tenant: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        fleet.set_emergency([tenant], why="a loop")
    assert fleet.emergency() is None


def test_a_change_makes_producers_plan_again(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    settings = settings_of(CONFIG)
    connection = open_connection(settings)
    connection.routing.agents.register("codegen-1", "codegen", 10, {})
    producer = connection.submitter(message_encoder())
    asked = Submission("code_generation", {"instruction": "add"}, "acme")
    producer.submit(asked)
    before = producer.planner.version
    Fleet(settings).set_limits("tenant:acme", {"requests": 1000}, why="a pilot")
    producer.submit(asked)
    assert (before, producer.planner.version) == ("0", "1")
