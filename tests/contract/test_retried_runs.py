"""Runs that end in an error that time may heal: they give up all that they have, and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from fake_provider import FakeProvider, answer, broken
from task_runs import CONFIG, eventually, runner_of

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from fleet.broker.messages import message_encoder
from fleet.errors import RetryLater, TaskFailed, Unavailable
from fleet.ledger.verification import verify
from fleet.policy.store import Scope
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.dead_letters import find_dead
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.record import TaskRecord
from fleet.tasks.run.runner import AgentRunner
from fleet.tasks.submission.checks import Submission
from fleet.tasks.waiting.release import release_due

RETRIES = "[retries]\nmost = 2\nbase_seconds = 0.05\ncap_seconds = 0.05\n"
QUEUE = "{fleet}.overflow.code_generator"


class Order(Payload):
    instruction: str = "add"
    fails: str = ""
    after: float = 0.0


class Done(Result):
    reply: str = ""


class Fragile:
    """Asks once, and then fails as it is told."""

    async def run(self, payload: Order, context: AgentContext) -> Outcome:
        reply = await context.ask("say hi")
        if payload.fails == "later":
            raise RetryLater("the depot is closed", payload.after)
        if payload.fails:
            raise TaskFailed("it cannot be done")
        return Outcome("succeeded", Done(reply=reply.text), "done")


SPEC = AgentSpec("code_generator", Order, Done, f"{__name__}:Fragile")


@dataclass
class Crew:
    """A worker in this process, and its task."""

    fleet: Connection
    fake: FakeProvider
    runner: AgentRunner
    task_id: str = ""
    order: dict[str, Any] = field(default_factory=dict)

    def submit(self, **order: Any) -> None:
        asked = Submission("code_generation", {"instruction": "add"})
        self.task_id = self.fleet.submitter(message_encoder()).submit(asked).task_id
        self.order = order

    def run(self) -> dict[str, Any] | None:
        delivery = Delivery(self.task_id, self.order, "default", lambda: "")
        return self.runner.run("code_generator", delivery)

    def come_back(self) -> None:
        """Wait until it is queued again."""
        eventually(lambda: release_due(self.fleet) == [self.task_id])

    @property
    def record(self) -> TaskRecord:
        return self.fleet.tasks.records.read(self.task_id)

    @property
    def holds_nothing(self) -> bool:
        fleet, state = self.fleet, self.fleet.client
        reserved = fleet.budgets.usage.reserved()
        slots = state.scard(fleet.keys.pool("codegen").in_flight)
        leases = state.zcard(fleet.keys.leases)
        held = fleet.budgets.usage.scope_usage(["all"])["all"].held
        return not any((slots, leases, reserved.tasks, reserved.steps, *held))


@pytest.fixture
def crew_of(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
    fake: FakeProvider,
) -> Iterator[Callable[[str], Crew]]:
    def make(more: str) -> Crew:
        clean_environment.setenv("FAKE_API_KEY", "sk-secret")
        price = "input_price = 0.004\noutput_price = 0.004"
        text = (more + CONFIG.format(url=fake.base_url)).replace("free = true", price)
        fleet = open_connection(settings_of(text))
        fleet.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
        made.append(fleet)
        return Crew(fleet, fake, runner_of(fleet, SPEC))

    made: list[Connection] = []
    yield make
    for fleet in made:
        assert verify(fleet.ledger).differences == ()


@pytest.fixture
def crew(crew_of: Callable[[str], Crew]) -> Crew:
    return crew_of(RETRIES)


def dead(crew: Crew) -> list[tuple[str, str]]:
    from fleet.tasks.rules import DeadFilter

    return [(each.id, each.dead) for each in find_dead(crew.fleet, DeadFilter())]


def test_a_run_that_is_to_be_tried_again_gives_up_all_it_has_and_says_why(crew: Crew) -> None:
    crew.fake.script("small", answer("hi", 70, 100))
    crew.submit(fails="later", after=30)
    assert crew.run() is None
    record = crew.record
    assert (record.state, record.pool, record.retries, record.error) == ("parked", "", 1, None)
    assert record.retry_error == {
        **{"type": "RetryLater", "message": "the depot is closed", "retry_after": 30}
    }
    assert record.parked_until is not None
    seconds, micros = crew.fleet.client.time()
    assert 29 < record.parked_until - seconds - micros / 1e6 <= 30.05
    assert crew.holds_nothing
    # What was spent stays spent.
    assert record.cost_nanodollars == 680_000
    assert [(m.state, m.attempt, m.by, m.why) for m in record.history] == [
        ("queued", 0, "submit", ""),
        ("running", 1, "codegen-1", ""),
        ("parked", 1, "codegen-1", "retry 1: RetryLater"),
    ]


def test_it_is_not_tried_before_its_time_whatever_changes(crew: Crew) -> None:
    crew.submit(fails="later", after=600)
    assert crew.run() is None
    crew.fleet.policy.store.set_route(Scope(), {"strategy": "least_loaded"})
    assert release_due(crew.fleet) == []
    assert crew.record.state == "parked"
    assert release_due(crew.fleet) == []


def test_it_comes_back_and_ends(crew: Crew) -> None:
    crew.submit(fails="later")
    assert crew.run() is None
    crew.come_back()
    assert crew.fleet.client.llen(QUEUE) == 1
    crew.order = {}
    assert crew.run() == {"reply": "hi"}
    record = crew.record
    assert (record.state, record.attempts, record.retries, record.crashes) == ("succeeded", 2, 1, 0)
    assert crew.holds_nothing
    assert dead(crew) == []


def test_a_provider_that_is_down_for_all_models_is_asked_again(crew: Crew) -> None:
    for model in ("small", "middle", "large", "huge"):
        crew.fake.script(model, *[broken(503)] * 5)
    crew.submit()
    assert crew.run() is None
    assert crew.record.retry_error is not None
    assert crew.record.retry_error["type"] == "Unavailable"
    assert crew.holds_nothing


def test_when_its_retries_are_used_up_it_is_a_dead_letter(crew: Crew) -> None:
    crew.submit(fails="later")
    since = set()
    for _ in range(2):
        assert crew.run() is None
        crew.come_back()
        since.add(crew.fleet.client.hget(crew.fleet.keys.task(crew.task_id), "retrying_since"))
    assert len(since) == 1
    with pytest.raises(RetryLater, match="depot"):
        crew.run()
    record = crew.record
    assert (record.state, record.attempts, record.retries) == ("failed", 3, 2)
    assert dead(crew) == [(crew.task_id, "retries")]
    assert crew.holds_nothing


def test_when_its_time_is_used_up_it_is_a_dead_letter(crew_of: Callable[[str], Crew]) -> None:
    crew = crew_of(RETRIES + "most_age_seconds = 60\n")
    crew.submit(fails="later", after=61)
    with pytest.raises(RetryLater):
        crew.run()
    assert dead(crew) == [(crew.task_id, "age")]


def test_its_time_begins_with_its_first_failure(crew_of: Callable[[str], Crew]) -> None:
    crew = crew_of(RETRIES + "most_age_seconds = 60\n")
    crew.submit(fails="later")
    record = crew.fleet.keys.task(crew.task_id)
    crew.fleet.client.hincrby(record, "submitted", -3_600_000)
    assert crew.run() is None
    crew.come_back()
    crew.fleet.client.hincrby(record, "retrying_since", -61_000)
    with pytest.raises(RetryLater):
        crew.run()
    assert dead(crew) == [(crew.task_id, "age")]


def test_what_no_time_heals_is_a_dead_letter_at_once(crew: Crew) -> None:
    crew.submit(fails="for good")
    with pytest.raises(TaskFailed, match="cannot be done"):
        crew.run()
    assert dead(crew) == [(crew.task_id, "permanent")]


def test_retries_are_no_crashes(crew: Crew) -> None:
    crew.submit(fails="later")
    assert crew.run() is None
    crew.come_back()
    for number in range(1, 4):
        lease = crew.fleet.tasks.records.claim(
            crew.task_id, "codegen-1", "codegen", 0, str(number), "default", ""
        )
        assert not isinstance(lease, str)
        crew.fleet.tasks.records.begin(lease)
        answered = crew.fleet.tasks.records.requeue(crew.record, QUEUE, 3)
        assert answered == ("failed" if number == 3 else "requeued")
    assert (crew.record.retries, crew.record.crashes) == (1, 3)
    assert dead(crew) == [(crew.task_id, "crashes")]


def test_a_task_that_waits_to_be_tried_again_can_be_cancelled(crew: Crew) -> None:
    crew.submit(fails="later", after=600)
    assert crew.run() is None
    assert crew.fleet.tasks.records.cancel(crew.task_id, 600, "ann") == "parked"
    assert crew.record.state == "cancelled"
    assert crew.record.history[-1][1:] == ("cancelled", 1, "ann", "")
    assert crew.fleet.client.zcard(crew.fleet.keys.parked) == 0


def test_what_nothing_could_bring_back_fails_instead(crew: Crew) -> None:
    crew.submit()
    plan = crew.fleet.client.hget(crew.fleet.keys.task(crew.task_id), "plan")
    assert isinstance(plan, bytes)
    crew.task_id = "stranger"
    stranger = Delivery("stranger", {"fails": "later"}, "default", plan.decode)
    with pytest.raises(RetryLater, match="depot"):
        crew.runner.run("code_generator", stranger)
    assert crew.record.state == "failed"


def test_a_failure_that_is_tried_again_counts_for_its_pool(crew: Crew) -> None:
    crew.submit(fails="later")
    assert crew.run() is None
    overall = crew.fleet.routing.pools.counts(["codegen"])["codegen"].overall
    assert (overall.outcomes, overall.successes, overall.failures_in_row) == (1, 0, 1)


def test_without_retries_it_fails_at_once(crew_of: Callable[[str], Crew]) -> None:
    crew = crew_of("[retries]\nmost = 0\n")
    crew.submit(fails="later")
    with pytest.raises(RetryLater):
        crew.run()
    assert dead(crew) == [(crew.task_id, "retries")]


def test_putting_back_is_patient_with_redis_and_is_done_once(crew: Crew) -> None:
    class Flaky:
        """The answer of the first call is lost."""

        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, *arguments: Any, **named: Any) -> Any:
            self.calls += 1
            done = put_back(*arguments, **named)
            if self.calls == 1:
                raise Unavailable("the answer was lost")
            return done

    put_back, flaky = crew.fleet.tasks.retries.put_back, Flaky()
    crew.fleet.tasks.retries.put_back = flaky  # type: ignore[method-assign]
    crew.submit(fails="later", after=600)
    assert crew.run() is None
    assert flaky.calls == 2
    assert (crew.record.state, crew.record.retries) == ("parked", 1)
