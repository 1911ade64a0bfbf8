"""Runs whose next call is to wait: they give up all that they have, and come back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis
from fake_provider import FakeProvider, answer, held
from task_runs import CONFIG, runner_of

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from fleet.broker.messages import message_encoder
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import LeaseLost, OverBudget, TaskFailed
from fleet.ledger.verification import verify
from fleet.policy.rules import LimitKey, Window
from fleet.policy.store import AuditActor
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.requeue import Requeued
from fleet.tasks.record import TaskRecord
from fleet.tasks.run.runner import AgentRunner
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission
from fleet.tasks.waiting.release import release_due

WAIT = '[budgets]\nover = "wait"\n\n[leases]\nlease_seconds = 20\n'
QUEUE = "{fleet}.overflow.code_generator"


class Order(Payload):
    instruction: str = "add"
    asks: int = 2
    swallows: str = ""
    """What the agent makes of an error: an outcome, or another error."""


class Done(Result):
    replies: tuple[str, ...] = ()


class Asker:
    """Asks as often as it is told."""

    async def run(self, payload: Order, context: AgentContext) -> Outcome:
        replies: list[str] = []
        try:
            replies += [(await context.ask("say hi")).model for _ in range(payload.asks)]
        except Exception as error:
            if payload.swallows == "error":
                raise TaskFailed("no model") from error
            if not payload.swallows:
                raise
        return Outcome("succeeded", Done(replies=tuple(replies)), "done")


SPEC = AgentSpec("code_generator", Order, Done, f"{__name__}:Asker")


@dataclass
class Crew:
    """A worker in this process, and its task. small is $0.004 for a thousand tokens."""

    fleet: Connection
    fake: FakeProvider
    runner: AgentRunner
    order: dict[str, Any] = field(default_factory=dict)
    task_id: str = ""

    def submit(self, **order: Any) -> None:
        asked = Submission("code_generation", {"instruction": "add"})
        self.task_id = self.fleet.submitter(message_encoder()).submit(asked).task_id
        self.order = order

    def run(self) -> dict[str, Any] | None:
        delivery = Delivery(self.task_id, self.order, "default", lambda: "")
        return self.runner.run("code_generator", delivery)

    def limit(self, most: int, scope: str = "tenant:default", window: Window = "month") -> None:
        key = LimitKey(scope, window, "dollars")
        self.fleet.policy.store.set_limits({key: most}, AuditActor("ann", "test"))

    @property
    def record(self) -> TaskRecord:
        return self.fleet.tasks.records.read(self.task_id)

    @property
    def holds_nothing(self) -> bool:
        """No slot, no lease, no money."""
        fleet, state = self.fleet, self.fleet.client
        reserved = fleet.budgets.usage.reserved()
        slots = state.scard(fleet.keys.pool("codegen").in_flight)
        leases = state.zcard(fleet.keys.leases)
        held = fleet.budgets.usage.scope_usage(["all"])["all"].held
        return not any((slots, leases, reserved.tasks, reserved.steps, *held))


@pytest.fixture
def crew(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
    fake: FakeProvider,
) -> Iterator[Crew]:
    clean_environment.setenv("FAKE_API_KEY", "sk-secret")
    price = "input_price = 0.004\noutput_price = 0.004"
    text = (WAIT + CONFIG.format(url=fake.base_url)).replace("free = true", price)
    fleet = open_connection(settings_of(text.replace("call_seconds = 1", "call_seconds = 20")))
    fleet.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    yield Crew(fleet, fake, runner_of(fleet, SPEC))
    assert verify(fleet.ledger).differences == ()


@contextmanager
def while_it_asks(crew: Crew, do: Callable[[], object]) -> Iterator[None]:
    """Do something while the first call of a task's run is under way."""

    def when_asked() -> None:
        crew.fake.wait_for("small")
        done.append(do())
        crew.fake.let_go()

    done: list[object] = []
    crew.fake.script("small", held(answer("hi", 70, 1000)))
    thread = threading.Thread(target=when_asked)
    thread.start()
    yield
    thread.join()
    assert done


def lease_of(crew: Crew) -> Lease:
    """What a renewal needs to know of the lease of its run."""
    fence = crew.record.fence
    return Lease(crew.task_id, fence, "code_generation", "default", 0.5, "small", 1)


def lower(crew: Crew) -> None:
    """Leave too little of the month for a second call."""
    crew.limit(5_000_000)


def let_it_park(crew: Crew, **order: Any) -> None:
    """Run a task whose second call does not fit what the first has left of the month."""
    crew.submit(**order)
    with while_it_asks(crew, lambda: lower(crew)):
        assert crew.run() is None


def test_a_run_that_is_to_wait_is_parked_and_gives_up_all_it_has(crew: Crew) -> None:
    let_it_park(crew)
    record = crew.record
    assert (record.state, record.pool, record.cost_nanodollars) == ("parked", "", 4_280_000)
    waits_for = Refusal.parse(record.parked_for)
    assert (waits_for.scope, waits_for.window, waits_for.limit) == (
        *("tenant:default", "m", 5_000_000),
    )
    assert record.parked_until is not None
    seconds, micros = crew.fleet.client.time()
    left = record.parked_until - seconds - micros / 1e6
    assert left == pytest.approx((waits_for.retry_after or 0), abs=5)
    assert crew.holds_nothing
    assert crew.fleet.client.llen(QUEUE) == 0


def test_a_limit_that_is_raised_brings_it_back_and_it_ends(crew: Crew) -> None:
    let_it_park(crew)
    assert release_due(crew.fleet) == []
    crew.limit(10**9)
    assert release_due(crew.fleet) == [crew.task_id]
    record = crew.record
    assert (record.state, record.parked_for, record.parked_until) == ("queued", "", None)
    assert crew.fleet.client.llen(QUEUE) == 1
    assert crew.run() == {"replies": ["small", "small"]}
    assert (crew.record.state, crew.record.attempts) == ("succeeded", 2)
    assert crew.holds_nothing


def test_a_limit_that_still_has_no_room_has_it_wait_on(crew: Crew) -> None:
    let_it_park(crew)
    crew.limit(6_000_000)
    assert release_due(crew.fleet) == []
    assert (crew.record.state, Refusal.parse(crew.record.parked_for).limit) == ("parked", 6_000_000)


def test_runs_that_were_parked_are_no_crashes(crew: Crew) -> None:
    let_it_park(crew)
    for number in range(1, 4):
        crew.limit(10**9)
        assert release_due(crew.fleet) == [crew.task_id]
        # The first call of this run fits just so, and the second does not.
        crew.limit(crew.record.cost_nanodollars + 4_376_000)
        assert crew.run() is None
        assert (crew.record.state, crew.record.attempts) == ("parked", number + 1)
    crew.limit(10**9)
    assert release_due(crew.fleet) == [crew.task_id]
    fleet = crew.fleet
    lease = fleet.tasks.records.claim(crew.task_id, "codegen-1", "codegen", 0, "x", "default", "")
    assert not isinstance(lease, str)
    assert fleet.tasks.records.requeue(crew.record, QUEUE, 3) == "requeued"


@pytest.mark.parametrize("swallows", ["outcome", "error"])
def test_an_agent_that_swallows_the_wait_waits_all_the_same(crew: Crew, swallows: str) -> None:
    let_it_park(crew, swallows=swallows)
    assert (crew.record.state, crew.record.result, crew.record.error) == ("parked", None, None)
    assert crew.holds_nothing


def test_a_parked_task_can_be_cancelled(crew: Crew) -> None:
    let_it_park(crew)
    assert crew.fleet.tasks.records.cancel(crew.task_id, 600) == "parked"
    assert crew.record.state == "cancelled"
    assert crew.fleet.client.zcard(crew.fleet.keys.parked) == 0
    crew.limit(10**9)
    assert release_due(crew.fleet) == []


def test_a_run_that_is_cancelled_when_it_parks_is_cancelled(crew: Crew) -> None:
    def cancel() -> None:
        lower(crew)
        assert crew.fleet.tasks.records.cancel(crew.task_id, 600) == "running"

    crew.submit()
    with while_it_asks(crew, cancel):
        assert crew.run() is None
    assert crew.record.state == "cancelled"
    assert crew.fleet.client.scard(crew.fleet.keys.cancelled) == 0
    assert crew.holds_nothing


def test_parking_is_patient_with_redis(crew: Crew) -> None:
    away = open_connection(crew.fleet.settings).tasks.on_hold
    away.client.connection_pool.connection_kwargs["port"] = 1
    outcomes = crew.runner.outcomes
    outcomes.tasks = replace(crew.fleet.tasks, on_hold=away)
    back = threading.Timer(1.0, setattr, (outcomes, "tasks", crew.fleet.tasks))
    back.start()
    let_it_park(crew)
    back.join()
    assert crew.record.state == "parked"


def test_a_delivery_that_could_not_be_claimed_goes_back(crew: Crew) -> None:
    away = open_connection(crew.fleet.settings).tasks.records
    away.client.connection_pool.connection_kwargs["port"] = 1
    crew.submit()
    crew.runner.claims.tasks, crew.runner.claims.lease_seconds = away, 0.1
    with pytest.raises(Requeued) as raised:
        crew.run()
    assert not raised.value.is_queued
    assert crew.record.state == "queued"


def test_a_run_that_lost_its_lease_before_it_parks_writes_nothing(crew: Crew) -> None:
    fences: list[int] = []

    def lose() -> None:
        fences.append(crew.record.fence)
        assert crew.fleet.tasks.records.renew(lease_of(crew), 0)
        assert crew.fleet.tasks.records.requeue(crew.record, QUEUE, 3) == "requeued"

    crew.submit()
    with while_it_asks(crew, lose), pytest.raises(LeaseLost, match="another run has task"):
        crew.run()
    assert (crew.record.state, crew.record.fence) == ("queued", fences[0] + 1)


def test_what_nothing_could_bring_back_is_refused_instead(crew: Crew) -> None:
    crew.submit()
    plan = crew.fleet.client.hget(crew.fleet.keys.task(crew.task_id), "plan")
    assert isinstance(plan, bytes)
    # One whose publisher has written no record, nor its message into it.
    crew.task_id = "stranger"
    stranger = Delivery("stranger", crew.order, "default", plan.decode)
    refused = pytest.raises(OverBudget, match="Budget exceeded for tenant default")
    with while_it_asks(crew, lambda: lower(crew)), refused:
        crew.runner.run("code_generator", stranger)
    assert (crew.record.state, crew.record.error and crew.record.error["type"]) == (
        *("failed", "OverBudget"),
    )
