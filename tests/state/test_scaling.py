"""What the size of pools depends on, the decisions, and whom they drain, on a real Valkey."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.errors import InvalidRequest, NoAgentAvailable
from fleet.policy.actor import routine_actor
from fleet.policy.rules import LimitKey, SetSize
from fleet.redis.scripts import Scripts
from fleet.scaling.orders_store import Orders
from fleet.scaling.rules.arrivals import LONG_TERM, RECENT
from fleet.scaling.rules.values import PoolLoad
from fleet.scaling.service import BY_HAND, PoolState, Scaler
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission
from fleet.tasks.submission.submit import Submitter

ASK = Submission("code_generation", {"instruction": "add"}, tenant="acme")
PERSON = routine_actor("eve", "a test")
CONFIG = """
[pools.codegen]
agent_type = "code_generator"
slots = 2
min = 1
max = 4
"""
TO_ZERO = CONFIG.replace("min = 1", "min = 0")
TWO_POOLS = (
    CONFIG
    + """
[pools.big]
agent_type = "code_generator"
slots = 6
max = 4
"""
)


@pytest.fixture
def open_fleet(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> Callable[[str], Connection]:
    return lambda toml: open_connection(settings_of(toml))


@pytest.fixture
def fleet(open_fleet: Callable[[str], Connection]) -> Connection:
    return open_fleet(CONFIG)


@pytest.fixture
def submitter(fleet: Connection) -> Submitter:
    return fleet.submitter(message_encoder())


def join(
    fleet: Connection, *agents: str, start_seconds: float = 3.0, supervised: bool = True
) -> None:
    for agent in agents:
        facts = {"host": "here", "pid": "7", "start_seconds": str(start_seconds)}
        facts |= {"supervised": "1"} if supervised else {}
        pool = agent.partition("-")[0]
        slots = fleet.settings.config.pools[pool].slots
        fleet.routing.agents.register(agent, pool, slots, facts)


def follow(fleet: Connection) -> None:
    """Have a supervisor that starts workers."""
    Orders(fleet.client, fleet.keys, Scripts(fleet.client), "here:1").follow({"codegen": 0})


def statuses(fleet: Connection) -> dict[str, str]:
    return {agent.id: agent.status for agent in fleet.routing.agents.agents()}


def set_size(fleet: Connection, workers: int, until_ms: int | None = None) -> None:
    fleet.policy.store.set_size("codegen", SetSize(workers, until_ms), PERSON)


def state(fleet: Connection, pool: str = "codegen") -> PoolState:
    (found,) = [each for each in Scaler(fleet).look() if each.load.pool == pool]
    return found


def load(fleet: Connection, pool: str = "codegen") -> PoolLoad:
    return state(fleet, pool).load


def let_time_pass(fleet: Connection, agent: str, seconds: float) -> None:
    """Set the times of an agent back."""
    key, ms = fleet.keys.agent(agent), -int(seconds * 1000)
    for field in ("leaving_since", "changed"):
        if fleet.client.hexists(key, field):
            fleet.client.hincrby(key, field, ms)


def claimed(fleet: Connection, task_id: str) -> Lease:
    lease = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 30, task_id, "acme", "")
    assert isinstance(lease, Lease)
    return lease


def test_an_empty_fleet_has_no_load_and_its_least_size(fleet: Connection) -> None:
    found = state(fleet)
    assert (found.load.ready, found.load.running, found.load.queued) == (0, 0, 0)
    assert found.decision.workers == 1


def test_what_waits_and_runs_is_counted_wherever_it_is(
    fleet: Connection, submitter: Submitter
) -> None:
    join(fleet, "codegen-1")
    ids = [submitter.submit(ASK).task_id for _ in range(5)]
    # Two took a slot and wait in the pool's queue, three in the overflow queue.
    assert (load(fleet).queued, load(fleet).running) == (5, 0)
    fleet.client.rpop("{fleet}.codegen")
    claimed(fleet, ids[0])
    found = load(fleet)
    assert (found.queued, found.running, found.ready) == (4, 1, 1)
    assert found.oldest_seconds >= 0


def test_pools_of_one_type_share_the_overflow_queue_by_the_slots_that_they_may_have(
    open_fleet: Callable[[str], Connection],
) -> None:
    fleet = open_fleet(TWO_POOLS)
    join(fleet, "codegen-1", "big-1")
    submitter = fleet.submitter(message_encoder())
    for _ in range(8 + 8):
        submitter.submit(ASK)
    # 2 + 6 have a slot. Of the other 8 a fourth is for codegen.
    assert (load(fleet).queued, load(fleet, "big").queued) == (2 + 2, 6 + 6)
    fleet.routing.pools.maintain("big", True)
    assert (load(fleet).queued, load(fleet, "big").queued) == (2 + 8, 6)


def test_service_times_are_those_of_all_runs_however_they_ended(
    fleet: Connection, submitter: Submitter
) -> None:
    join(fleet, "codegen-1")
    assert load(fleet).service.tasks == 0
    for number in range(4):
        lease = claimed(fleet, submitter.submit(ASK).task_id)
        key = fleet.keys.task(lease.task_id)
        seconds = 2000 if number % 2 else 4000
        fleet.client.hincrby(key, "started", -seconds)
        if number == 3:
            fleet.tasks.records.requeue_on_shutdown(lease, "{fleet}.overflow.code_generator")
        else:
            fleet.tasks.records.finish(lease, "codegen", "succeeded", 60, {"result": "{}"})
    found = load(fleet).service
    assert found.tasks == 4
    assert found.mean == pytest.approx(3.0, abs=0.2)
    assert found.variance == pytest.approx(1.0, abs=0.2)


def test_arrivals_are_counted_between_two_decisions(
    fleet: Connection, submitter: Submitter
) -> None:
    join(fleet, "codegen-1")
    scaler = Scaler(fleet)
    scaler.scale()
    ids = [submitter.submit(ASK).task_id for _ in range(3)]
    fleet.client.rpop("{fleet}.codegen")
    claimed(fleet, ids[0])
    scaler.scale()
    counts = fleet.client.hgetall(fleet.keys.pool("codegen").arrivals)
    for letter in (b"r", b"l"):
        assert sum(int(n) for field, n in counts.items() if field.startswith(letter)) == 3


def test_arrivals_of_long_ago_are_known_and_outdated_ones_dropped(fleet: Connection) -> None:
    key, now = fleet.keys.pool("codegen").arrivals, fleet.policy.store.now_us() // 1_000_000
    old = int(now // LONG_TERM.seconds) - LONG_TERM.kept - 1
    kept = {f"l{int(now // LONG_TERM.seconds) - 2}": 7, f"r{int(now // RECENT.seconds) - 2}": 3}
    fleet.client.hset(key, mapping={**kept, f"l{old}": 5, "r1": 5})
    scaler = Scaler(fleet)
    scaler.scale()
    found = {name.decode() for name in fleet.client.hkeys(key)}
    assert found >= set(kept) and not found & {f"l{old}", "r1"}
    for _ in range(2):
        (state,) = scaler.look()
        assert (state.load.long_term.counts[0], state.load.recent.counts[0]) == (7, 3)


def test_the_start_of_workers_is_measured(fleet: Connection) -> None:
    join(fleet, "codegen-1", start_seconds=1.0)
    Scaler(fleet).scale()
    first = load(fleet).start_seconds
    assert 1.0 < first < 5.0
    # The same worker counts once.
    Scaler(fleet).scale()
    assert load(fleet).start_seconds == pytest.approx(first, abs=0.01)


def test_a_decision_is_written_once_and_kept_in_the_history_if_it_changed_something(
    fleet: Connection,
) -> None:
    scaler, other = Scaler(fleet), Scaler(fleet)
    assert scaler.scale() == {"codegen": 1} or scaler.scale() == {}
    set_size(fleet, 3)
    assert scaler.scale() == {"codegen": 3}
    assert other.scale() == {}
    (newest, *_) = scaler.store.history(10)
    assert (newest.pool, newest.before, newest.workers, newest.policy) == ("codegen", 1, 3, BY_HAND)
    assert "eve" not in newest.reasons[0]
    assert len(scaler.store.history(10)) == 2


def test_of_two_decisions_by_the_same_facts_one_is_written(fleet: Connection) -> None:
    scaler, late = Scaler(fleet), Scaler(fleet)
    reading = late._read()
    late._read = lambda: reading  # type: ignore[method-assign]
    set_size(fleet, 3)
    scaler.scale()
    assert late.scale() == {}
    assert load(fleet).desired == 3


def test_a_decision_takes_one_round_trip_to_read(
    fleet: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    join(fleet, "codegen-1", "codegen-2")
    scaler = Scaler(fleet)
    scaler.scale()
    before = fleet.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    scaler.scale()
    after = fleet.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    # One script reads all pools, and one writes for each pool, together.
    assert after - before == 2


def test_the_size_that_a_person_sets_holds_until_its_time_is_over(fleet: Connection) -> None:
    now_ms = fleet.policy.store.now_us() // 1000
    set_size(fleet, 4, now_ms + 60_000)
    assert state(fleet).decision.workers == 4
    set_size(fleet, 4, now_ms - 1)
    assert state(fleet).decision.workers == 1
    set_size(fleet, 0)
    assert state(fleet).decision.workers == 0


def test_another_policy_decides_at_once(fleet: Connection) -> None:
    assert state(fleet).decision.policy == "square_root"
    fleet.policy.store.set_scaling("", "threshold", PERSON)
    assert state(fleet).decision.policy == "threshold"
    fleet.policy.store.set_scaling("codegen", "square_root", PERSON)
    assert state(fleet).decision.policy == "square_root"


def test_a_pool_whose_money_is_spent_is_told_so_and_held_money_counts_for_what_waits(
    open_fleet: Callable[[str], Connection],
) -> None:
    fleet = open_fleet(CONFIG + "[budgets]\ndaily_usd = 1\n")
    assert load(fleet).out_of_money == ""
    key = LimitKey("all", "day", "dollars")
    fleet.policy.store.set_limits({key: 0}, PERSON)
    assert load(fleet).out_of_money.startswith("Budget exceeded for the whole fleet")


def test_a_pool_that_its_provider_holds_back_is_not_scaled_up(
    fleet: Connection, submitter: Submitter
) -> None:
    join(fleet, "codegen-1", "codegen-2")
    assert load(fleet).provider_slots is None
    leases = [claimed(fleet, submitter.submit(ASK).task_id) for _ in range(4)]
    for lease in leases[:2]:
        fleet.tasks.retries.put_back(lease, "{}", "RateLimited", 60)
    # Three fourths of the four that ran; the second refusal came with the first.
    assert load(fleet).provider_slots == 3
    key = fleet.keys.pool("codegen").facts
    at = fleet.policy.store.now_us() // 1000
    fleet.client.hset(key, "provider", f"3,{at - 20_000}")
    assert load(fleet).provider_slots == 5
    fleet.tasks.retries.put_back(leases[2], "{}", "Unavailable", 60)
    assert load(fleet).provider_slots == 5
    fleet.tasks.retries.put_back(leases[3], "{}", "RateLimited", 60)
    assert load(fleet).provider_slots == 1
    fleet.client.hset(key, "provider", f"3,{at - 601_000}")
    assert load(fleet).provider_slots is None


def test_scale_in_drains_idle_agents_and_ends_them_only_when_they_run_nothing(
    fleet: Connection,
) -> None:
    join(fleet, "codegen-1", "codegen-2")
    fleet.routing.agents.heartbeat("codegen-1", "codegen", 1, 2)
    scaler = Scaler(fleet)
    set_size(fleet, 1)
    scaler.scale()
    assert statuses(fleet) == {"codegen-1": "busy", "codegen-2": "maintenance"}
    key = fleet.keys.agent("codegen-2")
    assert fleet.client.hget(key, "leaving") == b"drained"
    # What it had fetched before has begun.
    fleet.routing.agents.heartbeat("codegen-2", "codegen", 1, 2)
    let_time_pass(fleet, "codegen-2", 20)
    scaler.scale()
    assert fleet.client.hget(key, "leaving") == b"drained"
    fleet.routing.agents.heartbeat("codegen-2", "codegen", 0, 2)
    scaler.scale()
    assert fleet.client.hget(key, "leaving") == b"drained"
    let_time_pass(fleet, "codegen-2", 1)
    scaler.scale()
    assert fleet.client.hget(key, "leaving") == b"ending"


def test_a_burst_takes_draining_agents_back_but_not_those_that_end(fleet: Connection) -> None:
    join(fleet, "codegen-1", "codegen-2", "codegen-3")
    scaler = Scaler(fleet)
    set_size(fleet, 1)
    scaler.scale()
    let_time_pass(fleet, "codegen-1", 5)
    scaler.scale()
    set_size(fleet, 3)
    scaler.scale()
    found = statuses(fleet)
    assert found.pop("codegen-1") == "maintenance"
    assert found == {"codegen-2": "idle", "codegen-3": "idle"}
    with pytest.raises(InvalidRequest, match="about to end"):
        fleet.routing.agents.resume("codegen-1")


def test_a_worker_that_nobody_would_end_is_not_drained_but_counts(fleet: Connection) -> None:
    join(fleet, "codegen-1", "codegen-2", supervised=False)
    join(fleet, "codegen-3", "codegen-4")
    scaler = Scaler(fleet)
    for size, drained in ((3, 1), (1, 2)):
        set_size(fleet, size)
        scaler.scale()
        found = [agent for agent, status in statuses(fleet).items() if status == "maintenance"]
        assert len(found) == drained
        assert set(found) <= {"codegen-3", "codegen-4"}


def test_what_a_person_has_drained_is_neither_taken_back_nor_ended(fleet: Connection) -> None:
    join(fleet, "codegen-1", "codegen-2")
    scaler = Scaler(fleet)
    fleet.routing.agents.drain("codegen-1")
    set_size(fleet, 4)
    scaler.scale()
    let_time_pass(fleet, "codegen-1", 20)
    scaler.scale()
    assert statuses(fleet)["codegen-1"] == "maintenance"
    assert fleet.client.hget(fleet.keys.agent("codegen-1"), "leaving") is None
    assert load(fleet).ready == 1


def test_a_person_may_keep_an_agent_that_the_scaler_has_drained(fleet: Connection) -> None:
    join(fleet, "codegen-1", "codegen-2")
    scaler = Scaler(fleet)
    set_size(fleet, 1)
    scaler.scale()
    fleet.routing.agents.drain("codegen-1")
    let_time_pass(fleet, "codegen-1", 20)
    scaler.scale()
    assert fleet.client.hget(fleet.keys.agent("codegen-1"), "leaving") is None


def test_a_pool_without_workers_takes_tasks_when_somebody_starts_one(
    open_fleet: Callable[[str], Connection],
) -> None:
    fleet = open_fleet(TO_ZERO)
    submitter = fleet.submitter(message_encoder())
    scaler = Scaler(fleet)
    scaler.scale()
    with pytest.raises(NoAgentAvailable):
        submitter.submit(ASK)
    follow(fleet)
    scaler.scale()
    task = submitter.submit(ASK)
    assert task.placed.status == "overflow"
    workers = scaler.scale()["codegen"]
    assert workers >= 1
    ordered = fleet.client.hget(fleet.keys.pool("codegen").scaling, "ordered")
    assert ordered == str(workers).encode()


@pytest.mark.parametrize("toml", [CONFIG, TO_ZERO + '[scaling]\nactuator = "none"\n'])
def test_where_nobody_starts_a_worker_tasks_are_refused(
    toml: str, open_fleet: Callable[[str], Connection]
) -> None:
    fleet = open_fleet(toml)
    follow(fleet)
    Scaler(fleet).scale()
    with pytest.raises(NoAgentAvailable):
        fleet.submitter(message_encoder()).submit(ASK)


def test_a_pool_that_a_person_set_to_zero_takes_no_task(
    open_fleet: Callable[[str], Connection],
) -> None:
    fleet = open_fleet(TO_ZERO)
    follow(fleet)
    set_size(fleet, 0)
    Scaler(fleet).scale()
    with pytest.raises(NoAgentAvailable):
        fleet.submitter(message_encoder()).submit(ASK)
