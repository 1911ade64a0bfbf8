"""Tasks whose publisher wrote no record and held no money: a worker does both, or refuses them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import redis
from fake_provider import FakeProvider
from task_runs import CONFIG, runner_of
from test_parked_runs import SPEC

from fleet.broker.messages import message_encoder
from fleet.broker.submission import DeliveredRequest
from fleet.budgets.reservation import CallLimits
from fleet.errors import FleetError, InEmergency, InvalidRequest, OverBudget, OverLimit
from fleet.ledger.verification import verify
from fleet.models.complexity import Complexity
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.run.runner import AgentRunner
from fleet.tasks.submission.checks import RequestChecks, Submission
from fleet.tasks.submission.reservation import call_limits
from fleet.worker.agent_tasks import _plan

CAUSE = AuditActor("ann", "test")


class Stranger:
    """A publisher of another application, and a worker in this process that gets its messages."""

    def __init__(self, fleet: Connection, runner: AgentRunner) -> None:
        self.fleet, self.runner = fleet, runner

    def delivered(self, task_id: str, priority: Any = 5, asks: int = 1, **more: Any) -> Any:
        order = {"instruction": "add", "asks": asks}
        asked = {"request_type": "code_generation", "priority": priority, **more}
        return self.delivered_as(task_id, [order], asked)

    def asks(self, args: list[Any], asked: dict[str, Any]) -> DeliveredRequest:
        complexity = Complexity(self.fleet.policy.store)
        checks = RequestChecks(self.fleet.settings, {"code_generator": SPEC}, complexity)
        return DeliveredRequest(checks, "code_generator", args, asked)

    def delivered_as(
        self, task_id: str, args: list[Any], asked: dict[str, Any], message: str = ""
    ) -> Any:
        found = self.asks(args, asked)
        delivery = Delivery(
            task_id,
            args[0] if len(args) == 1 else None,
            found.tenant,
            partial(_plan, self.fleet, found),
            found.priority,
            message=lambda: message,
            refused=lambda: found.refused,
        )
        return self.runner.run("code_generator", delivery)

    def refused(self, task_id: str, error: type[FleetError], match: str) -> None:
        with pytest.raises(error, match=match):
            self.delivered(task_id)
        assert self.fleet.tasks.records.read(task_id).state == "failed"
        assert not self.fleet.budgets.usage.reserved().all
        assert not any(any(held) for held in self.fleet.budgets.usage.read().held.values())

    def limit(self, window: Any, quantity: Any, most: int) -> None:
        key = LimitKey("tenant:default", window, quantity)
        self.fleet.policy.store.set_limits({key: most}, CAUSE)


@pytest.fixture
def stranger(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
    fake: FakeProvider,
) -> Iterator[Stranger]:
    clean_environment.setenv("FAKE_API_KEY", "sk-secret")
    price = "input_price = 0.004\noutput_price = 0.004"
    text = CONFIG.format(url=fake.base_url).replace("free = true", price)
    fleet = open_connection(settings_of(text + "\n[budgets]\ntask_requests = 2\n"))
    fleet.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    yield Stranger(fleet, runner_of(fleet, SPEC))
    assert verify(fleet.ledger).differences == ()


def test_its_money_is_held_when_it_is_claimed(stranger: Stranger) -> None:
    assert stranger.delivered("first")
    record = stranger.fleet.tasks.records.read("first")
    assert (record.state, record.model_call_count) == ("succeeded", 1)
    assert not stranger.fleet.budgets.usage.reserved().all


def test_what_fits_no_budget_is_refused(stranger: Stranger, fake: FakeProvider) -> None:
    stranger.limit("day", "dollars", 1)
    stranger.refused("first", OverBudget, "Budget exceeded for tenant default")
    assert fake.count() == 0


def test_tasks_at_once_are_bounded_for_it_too(stranger: Stranger, fake: FakeProvider) -> None:
    stranger.limit("now", "tasks", 1)
    plan = _plan(stranger.fleet, stranger.asks([{"instruction": "add"}], {}))
    other = stranger.fleet.tasks.records.claim(
        *("other", "codegen-1", "codegen", 30, "a", "default", plan),
        _limits(stranger),
    )
    assert not isinstance(other, str)
    with pytest.raises(OverLimit, match="1 tasks at once"):
        stranger.delivered("first")
    assert stranger.fleet.tasks.records.finish(other, "codegen", "failed", 60, {}).kept
    assert stranger.delivered("second")
    assert fake.count() == 1


def _limits(stranger: Stranger) -> CallLimits:
    stranger.runner.models.policy.follow()
    version, controls = next(stranger.runner.models.policy.versions())
    return call_limits(controls, version, "default", "code_generator", "small")


def test_in_an_emergency_only_what_is_urgent_passes(stranger: Stranger, fake: FakeProvider) -> None:
    stranger.fleet.policy.store.set_emergency([], CAUSE)
    stranger.refused("first", InEmergency, "test")
    assert fake.count() == 0
    assert stranger.delivered("second", priority=0)


def test_a_task_may_make_only_so_many_calls(stranger: Stranger, fake: FakeProvider) -> None:
    with pytest.raises(OverBudget, match="2 requests in total"):
        stranger.delivered("first", asks=3)
    assert fake.count() == 2
    assert stranger.delivered("second", asks=2)


ORDER = {"instruction": "add", "asks": 0}
STRANGE: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "a tenant of 100 kB": ([ORDER], {"tenant": "x" * 100_000}),
    "a tenant that is none": ([ORDER], {"tenant": "no tenant!"}),
    "a tenant that is a list": ([ORDER], {"tenant": ["acme"]}),
    "a complexity of NaN": ([ORDER], {"complexity": math.nan}),
    "an endless complexity": ([ORDER], {"complexity": math.inf}),
    "a complexity that is a string": ([ORDER], {"complexity": "hard"}),
    "a complexity that is true": ([ORDER], {"complexity": True}),
    "a complexity over 1": ([ORDER], {"complexity": 10**400}),
    "a quality that is NaN": ([ORDER], {"quality": math.nan}),
    "a speed that is an object": ([ORDER], {"speed": {}}),
    "a priority that is a string": ([ORDER], {"priority": "urgent"}),
    "a priority over 9": ([ORDER], {"priority": 99}),
    "a request type that is unknown": ([ORDER], {"request_type": "x" * 1000}),
    "a request type that is a list": ([ORDER], {"request_type": ["code_generation"]}),
    "a request type of another agent": ([ORDER], {"request_type": "security_analysis"}),
    "a keyword that is unknown": ([ORDER], {"tenants": "acme"}),
    "no payload": ([], {}),
    "two payloads": ([ORDER, ORDER], {}),
    "a payload that is a list": ([[ORDER]], {}),
    "a payload that is null": ([None], {}),
    "a payload that does not suit": ([{"instruction": 5}], {}),
    "a payload that is too large": ([{"instruction": "x" * 2_000_000}], {}),
}


@pytest.mark.parametrize(("args", "asked"), STRANGE.values(), ids=STRANGE)
def test_what_no_submission_may_say_no_message_may(
    stranger: Stranger, args: list[Any], asked: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        stranger.delivered_as("strange", args, asked, "its message")
    assert len(str(refused.value)) < 500
    record = stranger.fleet.tasks.records.read("strange")
    assert (record.state, record.tenant) == ("failed", "default")
    assert record.error == {"type": "InvalidRequest", "message": str(refused.value)}
    assert record.model_call_count == 0
    assert stranger.fleet.tasks.dead_letters.letter("strange").message == ""
    assert not any(any(held) for held in stranger.fleet.budgets.usage.read().held.values())


def test_a_tenant_that_is_not_configured_reserves_nothing(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidRequest, match="no tenant is called 'evil'; use one of: acme"):
        config = stranger.fleet.settings.config.model_copy(update={"tenants": ("acme",)})
        settings = replace(stranger.fleet.settings, config=config)
        stranger.fleet = replace(stranger.fleet, settings=settings)
        stranger.delivered("strange", tenant="evil")
    scopes = {scope for scope in stranger.fleet.budgets.usage.read().held if "evil" in scope}
    assert not scopes


def test_a_message_that_names_a_known_task_carries_no_larger_payload_either(
    stranger: Stranger, fake: FakeProvider
) -> None:
    submitter = stranger.fleet.submitter(message_encoder())
    task_id = submitter.submit(Submission("code_generation", {"instruction": "add"})).task_id
    with pytest.raises(InvalidRequest, match=r"the payload has 2,000,0\d\d bytes, more than the"):
        stranger.delivered_as(task_id, [{"instruction": "x" * 2_000_000}], {})
    assert stranger.fleet.tasks.records.read(task_id).state == "failed"
    assert fake.count() == 0
