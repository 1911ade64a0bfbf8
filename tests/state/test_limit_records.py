"""The records of models' limits, and the turns that calls take while they are in doubt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.budgets.reservation import CallLimits, ScopeLimits
from fleet.models.rules.output_limits import LimitRecord, Shown
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.model_calls_store import CallTurn, LimitBasis, LimitChanged
from fleet.tasks.store import Lease

CALL = ModelCall("own", "p", "first", "", input_tokens=10, output_tokens=10, cost_nanodollars=10)
TIGHT = CallLimits("0", ScopeLimits("d1=1000"))
DOUBT = LimitBasis("", 800, 800, 60_000)
"""Two of these do not fit the limit, where both ignore theirs."""


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


def lease(fleet: Connection, name: str) -> Lease:
    fleet.client.hset(fleet.keys.task(name), mapping={"state": "running", "fence": 1})
    return Lease(name, 1, "type", "acme", 0.5, "own", 1, agent_type="agent", pool="pool")


def test_one_call_at_a_time_has_the_turn_where_money_is_short(fleet: Connection) -> None:
    first, second, third = (lease(fleet, name) for name in ("a", "b", "c"))
    assert fleet.tasks.model_calls.admit(first, 1, CALL, TIGHT, DOUBT) is None, (
        "the one has room at its most"
    )
    assert fleet.tasks.model_calls.admit(second, 1, CALL, TIGHT, DOUBT) == CallTurn(is_mine=True)
    assert fleet.tasks.model_calls.admit(second, 1, CALL, TIGHT, DOUBT) == CallTurn(is_mine=True), (
        "sent again"
    )
    assert fleet.tasks.model_calls.admit(third, 1, CALL, TIGHT, DOUBT) == CallTurn(is_mine=False)
    assert fleet.models.state.note_limit("own", "a 1.1", None) == (None, None)
    assert fleet.tasks.model_calls.admit(third, 1, CALL, TIGHT, DOUBT) == CallTurn(is_mine=False)
    fleet.models.state.note_limit("own", "b 1.1", None)
    assert fleet.tasks.model_calls.admit(third, 1, CALL, TIGHT, DOUBT) == CallTurn(is_mine=True)


def test_a_turn_whose_worker_died_is_over_in_time(fleet: Connection) -> None:
    first, second, third = (lease(fleet, name) for name in ("a", "b", "c"))
    fleet.tasks.model_calls.admit(first, 1, CALL, TIGHT, DOUBT)
    short = DOUBT._replace(turn_ms=0)
    assert fleet.tasks.model_calls.admit(second, 1, CALL, TIGHT, short) == CallTurn(is_mine=True)
    assert fleet.tasks.model_calls.admit(third, 1, CALL, TIGHT, DOUBT) == CallTurn(is_mine=True)


def test_a_worst_that_rests_on_an_old_record_is_not_admitted(fleet: Connection) -> None:
    held = lease(fleet, "a")
    fleet.models.state.note_limit("own", "x 1.1", Shown(100, 400, at_limit=False))
    changed = fleet.tasks.model_calls.admit(held, 1, CALL, TIGHT, DOUBT)
    assert isinstance(changed, LimitChanged)
    assert changed.record is not None
    assert (changed.record.within, changed.record.largest) == (0, 400)
    assert fleet.budgets.usage.reserved().steps == {}
    basis = LimitBasis(changed.record.packed)
    assert fleet.tasks.model_calls.admit(held, 1, CALL, TIGHT, basis) is None


def test_a_record_follows_what_answers_show(fleet: Connection) -> None:
    def note(written: int, *, at_limit: bool = False) -> tuple[LimitRecord, bool]:
        record, alert = fleet.models.state.note_limit("own", "x 1.1", Shown(100, written, at_limit))
        assert record is not None
        assert bool(record.at) == record.is_broken
        return record._replace(at=0), alert is not None

    assert note(50) == (LimitRecord(1, 0), False)
    assert note(400) == (LimitRecord(0, 400), True)
    assert note(300) == (LimitRecord(0, 400), False)
    assert note(50) == (LimitRecord(1, 400), False)
    assert note(500) == (LimitRecord(0, 500), False)
    assert [note(50)[0] for _ in range(3)][-1] == LimitRecord(3, 0)
    assert note(400) == (LimitRecord(0, 400), True)
    assert note(60, at_limit=True) == (LimitRecord(3, 0), False)
    assert fleet.models.state.read().limits == {"own": LimitRecord(3, 0)}
    assert fleet.models.state.prune([], []) == ["limit|own"]
    assert fleet.models.state.read().limits == {}


def test_a_limit_that_was_broken_a_day_ago_is_in_doubt_again(fleet: Connection) -> None:
    """Or a model whose longest answer fits no budget would never be asked again."""
    fleet.models.state.note_limit("own", "x 1.1", Shown(100, 400, at_limit=False))
    assert fleet.models.state.prune(["own"], []) == []
    record = fleet.models.state.read().limits["own"]
    old = record._replace(at=record.at - 86_401_000)
    fleet.client.hset(fleet.keys.models, "limit|own", old.packed)
    assert fleet.models.state.prune(["own"], []) == ["limit|own"]
