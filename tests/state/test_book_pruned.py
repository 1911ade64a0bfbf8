"""The book of money is pruned of what no limit looks at, and goes on adding up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from fleet.budgets import upkeep_store as money_upkeep
from fleet.budgets.reservation import CallLimits, ScopeLimits
from fleet.budgets.rules.limits import Limit, pack
from fleet.budgets.rules.refusals import Refusal
from fleet.budgets.rules.usage_counters import ReservedAmounts
from fleet.budgets.usage_store import window_ids
from fleet.ledger.rules.entries import LedgerEntry
from fleet.ledger.rules.sums import LedgerSums
from fleet.ledger.verification import verify
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease

HOUR, DAY = 3600, 86_400
CALL = ModelCall("gpt-5", "openai", "first", "ok", 10, 0, 3, 7_000)
LEASE = Lease("task", 1, "type", "acme", 0.5, "gpt-5", 1, agent_type="agent", pool="pool")


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    client.hset(found.keys.task(LEASE.task_id), mapping={"state": "running", "fence": 1})
    return found


def seconds(fleet: Connection) -> int:
    return int(fleet.client.time()[0])


def charge(fleet: Connection, *ages: int) -> list[LedgerEntry]:
    """Let a step have been settled so many seconds ago, for each, the oldest first: its entry and
    what the book has of it."""
    for call in range(1, 1 + len(ages)):
        fleet.tasks.model_calls.settle(LEASE, call, CALL)
    entries = [
        _aged(*pair) for pair in zip(fleet.ledger.entries.page("0-0").entries, ages, strict=True)
    ]
    fleet.client.delete(fleet.keys.ledger, fleet.keys.money)
    for entry in entries:
        fields: Any = entry.fields
        fleet.client.xadd(fleet.keys.ledger, fields, id=entry.id)
    for (scope, window), counted in LedgerSums().add(entries).counted().items():
        fleet.client.hset(fleet.keys.money, f"{window} {scope}", ",".join(map(str, counted)))
    return entries


def _aged(entry: LedgerEntry, age: int) -> LedgerEntry:
    then = int(entry.epoch) - age
    windows = ",".join(window_ids(then).values())
    return entry._replace(id=f"{then * 1000}-{entry.call.rpartition('.')[2]}", windows=windows)


def windows_of(fleet: Connection, scope: str = "all") -> set[str]:
    return set(fleet.budgets.usage.read().counters[scope])


def test_old_hours_and_days_go_and_all_months_stay(fleet: Connection) -> None:
    ages = (800 * DAY, 402 * DAY, 398 * DAY, 9 * DAY, 8 * DAY - HOUR, HOUR, 0)
    years, over_a_year, a_year, nine_days, week, hour, now = (
        entry.windows.split(",") for entry in charge(fleet, *ages)
    )
    assert verify(fleet.ledger).differences == ()
    assert fleet.budgets.upkeep.prune() == 4 * (4 + 2)
    kept = {*years[2:], *over_a_year[2:], *a_year[1:], *nine_days[1:], *week, *hour, *now}
    for scope in ("all", "tenant:acme", "agent_type:agent", "model:gpt-5"):
        assert windows_of(fleet, scope) == kept
    assert verify(fleet.ledger).differences == ()
    assert fleet.budgets.upkeep.prune() == 0


def test_a_window_that_is_missing_is_still_told_where_it_should_be_there(fleet: Connection) -> None:
    (entry,) = charge(fleet, 8 * DAY - HOUR)
    hour, day, _ = entry.windows.split(",")
    fleet.client.hdel(fleet.keys.money, f"{hour} all", f"{day} tenant:acme")
    found = {(each.of, each.window) for each in verify(fleet.ledger).differences}
    assert found == {("all", hour), ("tenant:acme", day)}


def test_an_old_entry_that_is_corrected_after_its_hour_has_gone_adds_up(fleet: Connection) -> None:
    (entry,) = charge(fleet, 30 * DAY)
    fleet.budgets.upkeep.prune()
    fleet.ledger.entries.correct(entry, -2_000, "ann", "billed less", "once")
    assert verify(fleet.ledger).differences == ()
    fleet.budgets.upkeep.prune()
    assert verify(fleet.ledger).differences == ()
    _, day, month = entry.windows.split(",")
    assert windows_of(fleet) == {day, month}
    assert fleet.budgets.usage.read().counters["all"][month].amount == 5_000


def test_minutes_that_have_left_the_last_sixty_go_with_their_share_of_the_sum(
    fleet: Connection,
) -> None:
    minute = seconds(fleet) // 60
    fields = {
        "r tenant:old": f"9,90,2,{minute - 200},{minute - 150}",
        f"r{minute - 200} tenant:old": "4,40,1",
        f"r{minute - 150} tenant:old": "5,50,1",
        "r tenant:both": f"9,90,2,{minute - 70},{minute - 3}",
        f"r{minute - 70} tenant:both": "4,40,1",
        f"r{minute - 3} tenant:both": "5,50,1",
    }
    fleet.client.hset(fleet.keys.money, mapping=fields)
    assert verify(fleet.ledger).differences == ()
    assert fleet.budgets.upkeep.prune() == 4
    book = fleet.budgets.usage.read()
    assert book.rolling == {"tenant:both": (5, 50, 1)}
    assert book.minutes == {"tenant:both": {minute - 3: (5, 50, 1)}}
    assert verify(fleet.ledger).differences == ()


def test_a_sum_that_has_more_than_its_minutes_is_kept_for_somebody_to_see(
    fleet: Connection,
) -> None:
    fleet.client.hset(fleet.keys.money, "r all", "9,90,2,0,0")
    fleet.budgets.upkeep.prune()
    assert {each.figure for each in verify(fleet.ledger).differences} == {
        "amount",
        "tokens",
        "requests",
    }


def test_limits_hold_after_a_prune_as_before(fleet: Connection) -> None:
    fleet.tasks.model_calls.settle(LEASE, 1, CALL)
    assert fleet.tasks.model_calls.admit(LEASE, 2, CALL, CallLimits("0", ScopeLimits())) is None
    before = fleet.budgets.usage.scope_usage(["all", "tenant:acme"])
    fleet.budgets.upkeep.prune()
    assert fleet.budgets.usage.scope_usage(["all", "tenant:acme"]) == before
    limits = pack((Limit("hour", "dollars", 20_000), Limit("rolling", "dollars", 20_000)))
    refusal = fleet.tasks.model_calls.admit(LEASE, 3, CALL, CallLimits("0", ScopeLimits(limits)))
    assert isinstance(refusal, Refusal)
    assert (refusal.settled, refusal.held) == (7_000, 7_000)


def test_what_says_that_nothing_is_held_goes_and_what_is_held_stays(fleet: Connection) -> None:
    held = {"held all": "5,6,1,1", "held tenant:gone": "0,0,0,0", "held tenant:a b": "5,6,1,0"}
    fleet.client.hset(fleet.keys.money, mapping=held)
    assert fleet.budgets.upkeep.prune() == 1
    assert fleet.budgets.usage.read().held == {
        "all": ReservedAmounts(5, 6, 1, 1),
        "tenant:a b": ReservedAmounts(5, 6, 1, 0),
    }


def test_a_book_of_many_pages_is_pruned_page_by_page(
    fleet: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(money_upkeep, "PAGE", 50)
    now = window_ids(seconds(fleet))
    fields = {f"h2020010{n % 9 + 1}00 tenant:t{n:04d}": "1,2,3" for n in range(3000)}
    fields |= {f"{now['hour']} tenant:t{n:04d}": "1,2,3" for n in range(500)}
    fleet.client.hset(fleet.keys.money, mapping=fields)
    assert fleet.budgets.upkeep.prune() == 3000
    assert {window for each in fleet.budgets.usage.read().counters.values() for window in each} == {
        now["hour"]
    }
