"""The ledger: each settled step once, counted in every scope and window, and corrected."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleet.broker.messages import message_encoder
from fleet.budgets.rules.usage_counters import Counted
from fleet.errors import InvalidRequest
from fleet.redis.scripts import _text
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

GPT = ModelCall("gpt-5", "openai", "first", "ok", 100, 40, 20, 7_000, reasoning_tokens=12)
CLAUDE = ModelCall("claude", "anthropic", "again", "ok", 10, 0, 2, 500)
UNSEEN = ModelCall("gpt-5", "openai", "again", "unavailable", usage="missing")


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    return found


def lease_of(fleet: Connection, tenant: str = "acme") -> Lease:
    asked = Submission("code_generation", {"instruction": "add"}, tenant)
    task_id = fleet.submitter(message_encoder()).submit(asked).task_id
    lease = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 30, "a", tenant, "")
    assert isinstance(lease, Lease)
    return lease


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.datetimes(datetime(1970, 1, 1), datetime(2400, 1, 1)))
@example(datetime(2000, 2, 29, 23, 59, 59))
@example(datetime(2100, 2, 28, 23, 59, 59))
@example(datetime(2100, 3, 1))
@example(datetime(2026, 12, 31, 23, 59, 59))
def test_windows_are_those_of_the_calendar(client: redis.Redis, moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    script = _text("parts", "windows") + "return windows_of(tonumber(ARGV[1]))"
    found = client.eval(script, 0, seconds)
    expected = [moment.strftime(form) for form in ("h%Y%m%d%H", "d%Y%m%d", "m%Y%m")]
    assert [each.decode() for each in found] == expected


def test_a_settled_step_is_one_entry_with_all_its_names_and_figures(fleet: Connection) -> None:
    lease = lease_of(fleet)
    for _ in range(3):
        fleet.tasks.model_calls.settle(lease, 1, GPT)
    (entry,) = fleet.ledger.entries.page("0-0").entries
    hour, day, month = entry.windows.split(",")
    assert hour[1:9] == day[1:] and day[1:7] == month[1:]
    assert datetime.fromtimestamp(entry.epoch, UTC).strftime("%Y%m%d%H") == hour[1:]
    assert entry._replace(id="", windows="") == (
        *("", "step", lease.task_id, 1, f"{lease.fence}.1", "acme", "code_generation"),
        *("code_generator", "codegen", "gpt-5", "openai", 100, 40, 20, 12, 7_000, 0, 1, "seen"),
        *("", "", "", ""),
    )


def test_the_estimate_is_that_of_the_model_which_was_asked(fleet: Connection) -> None:
    lease = lease_of(fleet)
    (best, *_) = lease.candidates
    expensive = best._replace(model="gpt-5", cost_nanodollars=9_000)
    lease = Lease(lease.task_id, lease.fence, "t", "acme", 0.5, best.model, 1, (best, expensive))
    fleet.tasks.model_calls.settle(lease, 1, GPT)
    assert fleet.ledger.entries.newest(1)[0].estimate == 9_000


def test_every_scope_counts_a_step_once_in_three_windows(fleet: Connection) -> None:
    lease = lease_of(fleet)
    for call, step in enumerate((GPT, CLAUDE, GPT), start=1):
        for _ in range(2):
            fleet.tasks.model_calls.settle(lease, call, step)
    fleet.tasks.model_calls.settle(lease_of(fleet, "other"), 1, CLAUDE)
    totals = {
        "all": Counted(15_000, 264, 4),
        "tenant:acme": Counted(14_500, 252, 3),
        "tenant:other": Counted(500, 12, 1),
        "agent_type:code_generator": Counted(15_000, 264, 4),
        "model:gpt-5": Counted(14_000, 240, 2),
        "model:claude": Counted(1_000, 24, 2),
    }
    assert set(fleet.budgets.usage.read().counters) == set(totals)
    for scope, total in totals.items():
        counters = fleet.budgets.usage.read().counters[scope]
        assert {window[0] for window in counters} == {"h", "d", "m"}
        assert set(counters.values()) == {total}


def test_a_step_whose_usage_was_never_seen_is_no_certain_nothing(fleet: Connection) -> None:
    fleet.tasks.model_calls.settle(lease_of(fleet), 1, UNSEEN)
    (entry,) = fleet.ledger.entries.newest(5)
    assert (entry.amount, entry.certain, entry.usage) == (0, 0, "missing")


def test_a_step_of_an_unknown_task_is_charged_to_nobody(fleet: Connection) -> None:
    lease = lease_of(fleet)
    fleet.client.delete(fleet.keys.task(lease.task_id))
    assert fleet.tasks.model_calls.settle(lease, 1, GPT).spent == 0
    assert fleet.ledger.entries.newest(5) == []
    assert fleet.budgets.usage.read().counters == {}


def test_a_correction_is_an_entry_of_its_own_and_is_made_once(fleet: Connection) -> None:
    fleet.tasks.model_calls.settle(lease_of(fleet), 1, GPT)
    (entry,) = fleet.ledger.entries.newest(5)
    made = {
        fleet.ledger.entries.correct(entry, -3_000, "ann", "billed less", "n") for _ in range(3)
    }
    newest, first = fleet.ledger.entries.newest(5)
    assert first == entry
    assert {newest.id} == made
    assert (newest.kind, newest.amount, newest.of) == ("correction", -3_000, entry.id)
    assert (newest.by, newest.why, newest.windows) == ("ann", "billed less", entry.windows)
    for scope in entry.scopes:
        assert set(fleet.budgets.usage.read().counters[scope].values()) == {Counted(4_000, 120, 1)}


def test_corrections_never_bring_an_entry_under_nothing(fleet: Connection) -> None:
    fleet.tasks.model_calls.settle(lease_of(fleet), 1, GPT)
    (entry,) = fleet.ledger.entries.newest(5)
    fleet.ledger.entries.correct(entry, -6_000, "ann", "billed less", "first")
    with pytest.raises(InvalidRequest, match="less than 0"):
        fleet.ledger.entries.correct(entry, -1_001, "ann", "billed less", "second")
    fleet.ledger.entries.correct(entry, -1_000, "ann", "not billed", "third")
    assert fleet.budgets.usage.read().counters["all"][entry.windows.split(",")[0]].amount == 0


@pytest.mark.parametrize(("amount", "why", "says"), [(0, "x", "of 0"), (5, " ", "give a reason")])
def test_an_empty_correction_is_refused(
    fleet: Connection, amount: int, why: str, says: str
) -> None:
    fleet.tasks.model_calls.settle(lease_of(fleet), 1, GPT)
    (entry,) = fleet.ledger.entries.newest(5)
    with pytest.raises(InvalidRequest, match=says):
        fleet.ledger.entries.correct(entry, amount, "ann", why, "n")
    assert fleet.ledger.entries.newest(5) == [entry]


def test_a_correction_is_not_corrected_itself(fleet: Connection) -> None:
    fleet.tasks.model_calls.settle(lease_of(fleet), 1, GPT)
    (entry,) = fleet.ledger.entries.newest(5)
    fleet.ledger.entries.correct(entry, 5, "ann", "a fee", "n")
    with pytest.raises(InvalidRequest, match=f"correct the entry {entry.id} again"):
        fleet.ledger.entries.correct(fleet.ledger.entries.newest(1)[0], 5, "ann", "a fee", "m")
