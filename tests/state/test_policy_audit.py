"""Changes of the policy: all or nothing, once, and each of them in the audit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from fleet.policy.audit_store import newest_changes
from fleet.policy.fields import field_name, field_parts
from fleet.policy.rules import Emergency, LimitKey
from fleet.policy.store import AuditActor, Policy, Scope
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

OPS = AuditActor("ops", "the quarter ends")
DAILY = LimitKey("tenant:acme", "day", "dollars")
HOURLY = LimitKey("tenant:acme", "rolling", "requests")
ODD = LimitKey("tenant:a|b%7C c:*é", "now", "tasks")
ROUTE = {"strategy": "soonest", "weights": {}}


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


def test_what_was_set_is_read_again(fleet: Connection) -> None:
    assert fleet.policy.store.read() == Policy()
    fleet.policy.store.set_limits({DAILY: 5 * 10**9, HOURLY: None, ODD: 3}, OPS)
    fleet.policy.store.set_over(Scope("code_generation", "a|b"), "wait", OPS)
    fleet.policy.store.set_route(Scope("", "acme"), ROUTE, OPS)
    fleet.policy.store.set_emergency(["vip", "acme"], OPS)
    policy = fleet.policy.store.read()
    assert policy.limits == {DAILY: 5 * 10**9, HOURLY: None, ODD: 3}
    assert policy.overs == {Scope("code_generation", "a|b"): "wait"}
    assert policy.routes == {Scope("", "acme"): ROUTE}
    assert policy.version == "4"
    emergency = policy.emergency
    assert emergency == Emergency("ops", OPS.why, emergency.at, frozenset({"vip", "acme"}))
    seconds, _ = fleet.client.time()
    assert 0 <= seconds + 1 - emergency.at < 60


def test_several_limits_are_one_change_with_an_entry_each(fleet: Connection) -> None:
    assert fleet.policy.store.set_limits({DAILY: 7, HOURLY: 9}, OPS) == 2
    assert fleet.policy.store.set_limits({DAILY: 8, HOURLY: 9}, OPS) == 1
    assert fleet.policy.store.clear_limits([DAILY, HOURLY, ODD], OPS) == 2
    assert fleet.policy.store.read() == Policy(version="3")
    told = [(each.version, each.about[1], each.before, each.after) for each in audit(fleet)]
    assert told == [
        (1, "day", "", "7"),
        (1, "rolling", "", "9"),
        (2, "day", "7", "8"),
        (3, "day", "8", ""),
        (3, "rolling", "9", ""),
    ]


def audit(fleet: Connection) -> list:
    return newest_changes(fleet.policy.audit, 100)[::-1]


def test_an_entry_says_what_when_by_whom_and_why(fleet: Connection) -> None:
    fleet.policy.store.set_limits({ODD: None}, OPS)
    fleet.policy.store.set_route(Scope("code_generation", ""), ROUTE, AuditActor("dev", ""))
    limit, route = audit(fleet)
    assert (limit.kind, limit.about) == ("limit", ODD)
    assert (limit.before, limit.after, limit.by, limit.why) == ("", "none", *OPS)
    seconds, _ = fleet.client.time()
    assert 0 <= seconds + 1 - limit.epoch < 60
    assert (route.kind, route.about, route.by) == ("route", ("code_generation", ""), "dev")
    assert newest_changes(fleet.policy.audit, 1) == [route]


def test_a_change_that_changes_nothing_has_no_version_and_no_entry(fleet: Connection) -> None:
    assert fleet.policy.store.clear_route(Scope(), OPS) == 0
    assert fleet.policy.store.end_emergency(OPS) == 0
    assert fleet.policy.store.read() == Policy()
    fleet.policy.store.set_emergency(["a", "b"], OPS)
    fleet.policy.store.set_over(Scope(), "wait", OPS)
    before = (fleet.policy.store.read(), audit(fleet))
    assert fleet.policy.store.set_emergency(["b", "a", "b"], OPS) == 0
    assert fleet.policy.store.set_over(Scope(), "wait", AuditActor("other", "again")) == 0
    assert (fleet.policy.store.read(), audit(fleet)) == before


def test_of_a_model_of_difficulty_only_the_size_is_in_the_audit(fleet: Connection) -> None:
    fleet.policy.store.set_difficulty(b"\x00\xff" * 500, OPS)
    fleet.policy.store.set_difficulty(b"\x00\xfe" * 400, OPS)
    first, second = audit(fleet)
    assert (first.kind, first.before, first.after) == ("difficulty", "", "1000 bytes")
    assert (second.before, second.after) == ("1000 bytes", "800 bytes")
    assert fleet.policy.store.read().difficulty == b"\x00\xfe" * 400


def test_a_change_that_is_sent_again_does_not_undo_what_came_between(fleet: Connection) -> None:
    def send(change_id: str, over: str) -> int:
        return fleet.policy.store.change({field_name("over", "", ""): over}, OPS, change_id)

    first = send("one", "wait")
    send("two", "refuse")
    before = (fleet.policy.store.read(), audit(fleet))
    assert send("one", "wait") == first == 1
    assert (fleet.policy.store.read(), audit(fleet)) == before
    assert before[0].overs == {Scope(): "refuse"}


def test_the_answers_of_changes_go_away(fleet: Connection, client: redis.Redis) -> None:
    fleet.policy.store.set_limits({DAILY: 7}, OPS)
    (key,) = client.keys("{fleet}:change:*")
    assert 0 < client.ttl(key) <= 600


def test_two_writers_leave_one_history(fleet: Connection) -> None:
    def write(writer: int) -> None:
        for number in range(25):
            pair = {DAILY: 1000 * writer + number + 1, HOURLY: 1000 * writer + number + 1}
            fleet.policy.store.set_limits(pair, AuditActor(f"writer {writer}", "a race"))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (1, 2)))
    policy, entries = fleet.policy.store.read(), audit(fleet)
    assert policy.version == "50"
    assert policy.limits[DAILY] == policy.limits[HOURLY]
    # Each entry begins where the one before it on the same limit ended.
    for key in (DAILY, HOURLY):
        history = [each for each in entries if each.about == key]
        assert [each.version for each in history] == list(range(1, 51))
        befores = ["", *(each.after for each in history)]
        assert [each.before for each in history] == befores[:-1]
        assert befores[-1] == str(policy.limits[key])


def test_changes_are_found_among_many_other_entries(fleet: Connection) -> None:
    fleet.policy.store.set_limits({DAILY: 7}, OPS)
    for number in range(1500):
        fleet.client.xadd(fleet.keys.audit, {"kind": "reads", "by": str(number)})
    fleet.policy.store.set_limits({DAILY: 8}, OPS)
    assert [each.after for each in audit(fleet)] == ["7", "8"]


def test_a_field_of_a_later_version_is_left_alone(
    fleet: Connection, client: redis.Redis
) -> None:
    fleet.policy.store.set_limits({DAILY: 7}, OPS)
    client.hset(fleet.keys.policy, "quota|x", "1")
    policy = fleet.policy.store.read()
    assert (policy.version, policy.limits) == ("1", {DAILY: 7})


@pytest.mark.parametrize("about", [("a|b", ""), ("", "%7C"), ("é ü", "a:b/*"), ("\n", "'\"")])
def test_any_text_can_be_in_the_name_of_a_field(about: tuple[str, str]) -> None:
    assert field_parts(field_name("over", *about)) == ("over", list(about))
