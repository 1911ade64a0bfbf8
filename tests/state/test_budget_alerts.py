"""Budget alerts: each threshold is said once a scope and window, whoever looks and whenever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from structlog.testing import capture_logs

from fleet.budgets.alerts import look_at_budgets
from fleet.budgets.controls import Controls
from fleet.budgets.reservation import CallLimits, ScopeLimits
from fleet.budgets.rules.alerts import BudgetUse
from fleet.budgets.rules.limits import Limit
from fleet.policy.rules import LimitKey, Window
from fleet.policy.store import AuditActor
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease

CONFIG = """
[budgets]
daily_usd = 1000
monthly_usd = 9000
[budgets.scopes."tenant:*"]
daily_usd = 100
[budgets.scopes."tenant:vip"]
daily_usd = 1000
[budgets.scopes."agent_type:code_generator"]
hourly_usd = 100
[rates.scopes."tenant:*"]
usd = 1
"""
DOLLAR = 10**9
UNKNOWN_ACTOR = AuditActor("ann", "a test")


def look(fleet: Connection) -> list[str]:
    controls = Controls(fleet.settings.config, fleet.policy.store.read())
    return look_at_budgets(controls, fleet.budgets)



@pytest.fixture
def settings(settings_of: Callable[[str], Settings]) -> Settings:
    return settings_of(CONFIG)


@pytest.fixture
def fleet(client: redis.Redis, settings: Settings) -> Connection:
    return open_connection(settings)


def lease(fleet: Connection, tenant: str, agent_type: str = "tester") -> Lease:
    found = Lease(
        f"task-{tenant}", 1, "type", tenant, 0.5, "gpt-5", 1, agent_type=agent_type, pool="pool"
    )
    fleet.client.hset(fleet.keys.task(found.task_id), mapping={"state": "running", "fence": 1})
    return found


def step(dollars: int) -> ModelCall:
    return ModelCall("gpt-5", "openai", "first", "ok", 10, 0, 3, dollars * DOLLAR)


def spend(fleet: Connection, dollars: int, tenant: str, agent_type: str = "tester") -> None:
    call = fleet.client.incr("call")
    fleet.tasks.model_calls.settle(lease(fleet, tenant, agent_type), int(call), step(dollars))


def said(fleet: Connection) -> list[tuple[str, str, int]]:
    """Oldest first."""
    alerts = reversed(fleet.budgets.alerts.newest(100))
    return [(alert.scope, alert.window, alert.threshold) for alert in alerts]


def test_each_threshold_is_said_when_it_is_reached_and_not_again(fleet: Connection) -> None:
    for dollars in (40, 10, 5, 30, 4, 1, 9, 1, 7):
        spend(fleet, dollars, "acme")
        look(fleet)
        look(fleet)
    assert said(fleet) == [("tenant:acme", "day", each) for each in (50, 80, 90, 100)]


def test_of_several_new_thresholds_the_highest_is_said_alone(fleet: Connection) -> None:
    spend(fleet, 95, "acme")
    (told,) = look(fleet)
    assert told == "tenant:acme has used 95 % of $100 per UTC day: $95 settled, $0 reserved"
    assert said(fleet) == [("tenant:acme", "day", 90)]


def test_every_scope_with_a_budget_of_dollars_is_looked_at_each_by_its_own(
    fleet: Connection,
) -> None:
    spend(fleet, 80, "acme", "code_generator")
    spend(fleet, 60, "globex")
    spend(fleet, 490, "vip")
    look(fleet)
    assert said(fleet) == [
        ("agent_type:code_generator", "hour", 80),
        ("all", "day", 50),
        ("tenant:acme", "day", 80),
        ("tenant:globex", "day", 50),
    ]
    alert = fleet.budgets.alerts.newest(1)[0]
    assert (alert.limit, alert.settled, alert.held) == (100 * DOLLAR, 60 * DOLLAR, 0)


def test_what_is_reserved_counts_though_nothing_was_spent_yet(fleet: Connection) -> None:
    limits = CallLimits("0", ScopeLimits())
    assert fleet.tasks.model_calls.admit(lease(fleet, "acme"), 1, step(85), limits) is None
    (told,) = look(fleet)
    assert told == "tenant:acme has used 85 % of $100 per UTC day: $0 settled, $85 reserved"


def test_however_many_look_at_once_each_alert_is_said_once(
    settings: Settings, client: redis.Redis
) -> None:
    fleets = [open_connection(settings) for _ in range(8)]
    for tenant in range(30):
        spend(fleets[0], 55, f"tenant-{tenant:02d}")
    with ThreadPoolExecutor(len(fleets)) as threads:
        told: Sequence[list[str]] = list(threads.map(look, fleets))
    alerts = said(fleets[0])
    assert sorted(alerts) == [
        ("all", "day", 100), *((f"tenant:tenant-{n:02d}", "day", 50) for n in range(30))
    ]
    assert sum(map(len, told)) == len(alerts)


def test_one_that_dies_after_saying_it_leaves_nothing_to_say_again(fleet: Connection) -> None:
    spend(fleet, 50, "acme")
    (use,) = (use for use in _uses_of(fleet, "tenant:acme") if use.reached)
    assert fleet.budgets.alerts.raise_for(use) is not None
    assert look(fleet) == []
    assert said(fleet) == [("tenant:acme", "day", 50)]


def _uses_of(fleet: Connection, scope: str) -> list[BudgetUse]:
    standings = fleet.budgets.usage.window_usage([scope])
    standing = standings.of[scope]
    limit = Limit("day", "dollars", 100 * DOLLAR)
    settled = standing.settled["day"].amount
    return [BudgetUse(scope, limit, standings.windows["day"], settled, standing.held.amount)]


def test_a_limit_that_is_raised_says_no_threshold_again_and_the_higher_ones_when_they_are_reached(
    fleet: Connection,
) -> None:
    spend(fleet, 85, "acme")
    look(fleet)
    fleet.policy.store.set_limits(
        {LimitKey("tenant:acme", "day", "dollars"): 200 * DOLLAR}, UNKNOWN_ACTOR
    )
    assert look(fleet) == []
    spend(fleet, 80, "acme")
    assert look(fleet) == []
    spend(fleet, 20, "acme")
    look(fleet)
    assert said(fleet) == [("tenant:acme", "day", 80), ("tenant:acme", "day", 90)]
    assert fleet.budgets.alerts.newest(1)[0].limit == 200 * DOLLAR


def test_a_limit_that_is_lowered_is_said_and_one_that_was_lifted_is_not(fleet: Connection) -> None:
    spend(fleet, 45, "acme")
    spend(fleet, 99, "globex")
    key = LimitKey("tenant:acme", "day", "dollars")
    fleet.policy.store.set_limits(
        {key: 50 * DOLLAR, key._replace(scope="tenant:globex"): None}, UNKNOWN_ACTOR
    )
    look(fleet)
    assert said(fleet) == [("tenant:acme", "day", 90)]


def test_a_window_that_turns_says_everything_anew(fleet: Connection) -> None:
    limit = Limit("hour", "dollars", 10)
    hours = [BudgetUse("all", limit, f"h20261124{hour}", 8, 1) for hour in ("20", "21")]
    told = [fleet.budgets.alerts.raise_for(use) for use in (*hours, *hours)]
    assert [alert and alert.threshold for alert in told] == [90, 90, None, None]


@pytest.mark.parametrize(
    ("window", "window_id", "lasts"),
    [
        ("hour", "h2026112420", 3600),
        ("day", "d20261124", 86_400),
        ("month", "m202612", 31 * 86_400),
    ],
)
def test_what_was_said_is_remembered_longer_than_its_window_and_not_for_ever(
    fleet: Connection, window: Window, window_id: str, lasts: int
) -> None:
    fleet.budgets.alerts.raise_for(BudgetUse("all", Limit(window, "dollars", 10), window_id, 9, 0))
    assert lasts < fleet.client.ttl(fleet.keys.alerted(window_id)) <= 2 * lasts


def test_alerts_are_warnings_in_the_log_and_an_error_where_nothing_is_left(
    fleet: Connection,
) -> None:
    spend(fleet, 80, "acme")
    spend(fleet, 100, "globex")
    with capture_logs() as lines:
        look(fleet)
    assert [(line["log_level"], line["scope"], line["percent"]) for line in lines] == [
        ("warning", "tenant:acme", 80),
        ("error", "tenant:globex", 100),
    ]


def test_nothing_reached_is_nothing_to_say(fleet: Connection) -> None:
    spend(fleet, 49, "acme")
    assert look(fleet) == []
    with pytest.raises(ValueError, match="no threshold"):
        fleet.budgets.alerts.raise_for(
            BudgetUse("all", Limit("hour", "dollars", 10), "h2026112420", 1, 1)
        )
