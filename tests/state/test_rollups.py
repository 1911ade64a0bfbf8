"""Roll-ups: what stands in them is the sum of the ledger, whenever the job dies or runs twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.errors import InvalidRequest
from fleet.ledger.rules.sums import LedgerSums
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

GPT = ModelCall("gpt-5", "openai", "first", "ok", 100, 40, 20, 7_000, reasoning_tokens=12)
UNSEEN = ModelCall("gpt-5", "openai", "again", "unavailable", usage="missing")
NAMES = ("acme", "code_generation", "code_generator", "codegen", "gpt-5", "openai")


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    return found


@pytest.fixture
def lease(fleet: Connection) -> Lease:
    asked = Submission("code_generation", {"instruction": "add"}, "acme")
    task_id = fleet.submitter(message_encoder()).submit(asked).task_id
    lease = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 30, "a", "acme", "")
    assert isinstance(lease, Lease)
    return lease


def test_a_row_sums_up_a_day_with_every_figure(fleet: Connection, lease: Lease) -> None:
    for call in (1, 2):
        fleet.tasks.model_calls.settle(lease, call, GPT)
    fleet.tasks.model_calls.settle(lease, 3, UNSEEN)
    fleet.tasks.model_calls.settle(lease, 4, replace(UNSEEN, usage="unpriced"))
    fleet.tasks.model_calls.settle(lease, 5, replace(GPT, usage="contradictory"))
    (entry, *_) = fleet.ledger.entries.newest(1)
    assert (entry.usage, entry.certain) == ("contradictory", 0)
    today = fleet.ledger.rollups.today()
    (row,) = fleet.ledger.rollups.rows(today, today)
    assert row == (entry.day, *NAMES, 21_000, 5, 300, 120, 60, 36, 7_000, 3, 1, 1, 1)


def test_a_roll_up_that_was_kept_before_contradictions_were_counted_is_added_to(
    fleet: Connection, lease: Lease
) -> None:
    fleet.tasks.model_calls.settle(lease, 1, GPT)
    today = fleet.ledger.rollups.today()
    fleet.ledger.rollups.rows(today, today)
    key = fleet.keys.rollup(f"{today:%Y%m%d}")
    ((field, packed),) = fleet.client.hgetall(key).items()
    fleet.client.hset(key, field, packed.rpartition(b",")[0])
    fleet.tasks.model_calls.settle(lease, 2, replace(GPT, usage="contradictory"))
    (row,) = fleet.ledger.rollups.rows(today, today)
    assert (row.amount, row.requests, row.contradictory) == (14_000, 2, 1)


def test_hourly_rows_hold_the_current_hour_too(fleet: Connection, lease: Lease) -> None:
    fleet.tasks.model_calls.settle(lease, 1, GPT)
    today = fleet.ledger.rollups.today()
    (row,) = fleet.ledger.rollups.rows(today - timedelta(days=2), today, hourly=True)
    assert (row.period, row.amount) == (fleet.ledger.entries.newest(1)[0].hour, 7_000)
    fleet.tasks.model_calls.settle(lease, 2, GPT)
    assert sum(row.amount for row in fleet.ledger.rollups.rows(today, today, hourly=True)) == 14_000


def test_a_correction_is_rolled_up_where_its_entry_was(fleet: Connection, lease: Lease) -> None:
    fleet.tasks.model_calls.settle(lease, 1, GPT)
    fleet.ledger.rollups.roll_up()
    (entry,) = fleet.ledger.entries.newest(1)
    fleet.ledger.entries.correct(entry, -2_000, "ann", "billed less", "n")
    today = fleet.ledger.rollups.today()
    (row,) = fleet.ledger.rollups.rows(today, today)
    assert (row.amount, row.requests, row.input_tokens) == (5_000, 1, 100)


def test_a_batch_that_is_sent_twice_is_added_once(fleet: Connection, lease: Lease) -> None:
    fleet.tasks.model_calls.settle(lease, 1, GPT)
    (entry,) = fleet.ledger.entries.newest(1)
    sums = LedgerSums().add([entry]).rolled()
    assert [fleet.ledger.rollups.add("0-0", entry.id, sums) for _ in range(2)] == [True, True]
    today = fleet.ledger.rollups.today()
    assert [row.amount for row in fleet.ledger.rollups.rows(today, today)] == [7_000]


def test_a_slow_job_cannot_add_what_another_has_added(fleet: Connection, lease: Lease) -> None:
    fleet.tasks.model_calls.settle(lease, 1, GPT)
    (first,) = fleet.ledger.entries.newest(1)
    slow = LedgerSums().add([first]).rolled()
    fleet.tasks.model_calls.settle(lease, 2, GPT)
    assert fleet.ledger.rollups.roll_up() == 2
    assert not fleet.ledger.rollups.add("0-0", first.id, slow)
    assert fleet.ledger.rollups.roll_up() == 0
    today = fleet.ledger.rollups.today()
    assert [row.amount for row in fleet.ledger.rollups.rows(today, today)] == [14_000]


def test_any_text_may_be_a_tenants_name(fleet: Connection, lease: Lease) -> None:
    odd = "a|b%7C, ü"
    lease = Lease(lease.task_id, lease.fence, "t", odd, 0.5, "gpt-5", 1, pool="codegen")
    fleet.tasks.model_calls.settle(lease, 1, GPT)
    today = fleet.ledger.rollups.today()
    assert [row.tenant for row in fleet.ledger.rollups.rows(today, today)] == [odd]


def test_days_the_wrong_way_round_are_refused(fleet: Connection) -> None:
    with pytest.raises(InvalidRequest, match="give the earlier day first"):
        fleet.ledger.rollups.rows(date(2026, 2, 2), date(2026, 2, 1))
