"""Tasks whose publisher wrote no record and held no money: a worker does both, or refuses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from fake_provider import FakeProvider
from task_runs import CONFIG, runner_of
from test_parked_runs import SPEC

from fleet.core.limits import LimitKey
from fleet.errors import FleetError, InEmergency, OverBudget, OverLimit
from fleet.runtime.agent_tasks import _plan
from fleet.services.claims import Delivery
from fleet.services.connection import Connection, open_connection
from fleet.services.ledger_verify import verify
from fleet.services.money_rules import step_limits
from fleet.services.run import AgentRunner
from fleet.settings import Settings
from fleet.state.money import StepLimits
from fleet.state.policy import Cause

CAUSE = Cause("ann", "test")


class Stranger:
    """A publisher of another application, and a worker in this process that gets its messages."""

    def __init__(self, fleet: Connection, runner: AgentRunner) -> None:
        self.fleet, self.runner = fleet, runner

    def delivered(self, task_id: str, priority: int = 5, asks: int = 1) -> Any:
        order = {"instruction": "add", "asks": asks}

        def plan() -> str:
            return _plan(self.fleet, "code_generator", order, {"request_type": "code_generation"})

        delivery = Delivery(task_id, order, "default", plan, priority)
        return self.runner.run("code_generator", delivery)

    def refused(self, task_id: str, error: type[FleetError], match: str) -> None:
        with pytest.raises(error, match=match):
            self.delivered(task_id)
        assert self.fleet.tasks.read(task_id).state == "failed"
        assert not self.fleet.book.reserved().all
        assert not any(any(held) for held in self.fleet.book.read().held.values())

    def limit(self, window: Any, quantity: Any, most: int) -> None:
        key = LimitKey("tenant:default", window, quantity)
        self.fleet.policies.set_limits({key: most}, CAUSE)


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
    fleet.registry.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    yield Stranger(fleet, runner_of(fleet, SPEC))
    assert verify(fleet).differences == ()


def test_its_money_is_held_when_it_is_claimed(stranger: Stranger) -> None:
    assert stranger.delivered("first")
    record = stranger.fleet.tasks.read("first")
    assert (record.state, record.model_calls) == ("succeeded", 1)
    assert not stranger.fleet.book.reserved().all


def test_what_fits_no_budget_is_refused(stranger: Stranger, fake: FakeProvider) -> None:
    stranger.limit("day", "dollars", 1)
    stranger.refused("first", OverBudget, "tenant:default may take")
    assert fake.count() == 0


def test_tasks_at_once_are_bounded_for_it_too(stranger: Stranger, fake: FakeProvider) -> None:
    stranger.limit("now", "tasks", 1)
    plan = _plan(stranger.fleet, "code_generator", {"instruction": "add"}, {})
    other = stranger.fleet.tasks.claim(
        *("other", "codegen-1", "codegen", 30, "a", "default", plan),
        _limits(stranger),
    )
    assert not isinstance(other, str)
    with pytest.raises(OverLimit, match="1 tasks at once"):
        stranger.delivered("first")
    assert stranger.fleet.tasks.finish(other, "codegen", "failed", 60, {}).kept
    assert stranger.delivered("second")
    assert fake.count() == 1


def _limits(stranger: Stranger) -> StepLimits:
    stranger.runner.policy.follow()
    version, controls = stranger.runner.policy.now
    return step_limits(controls, version, "default", "code_generator", "small")


def test_in_an_emergency_only_what_is_urgent_passes(stranger: Stranger, fake: FakeProvider) -> None:
    stranger.fleet.policies.set_emergency([], CAUSE)
    stranger.refused("first", InEmergency, "test")
    assert fake.count() == 0
    assert stranger.delivered("second", priority=0)


def test_a_task_may_make_only_so_many_calls(stranger: Stranger, fake: FakeProvider) -> None:
    with pytest.raises(OverBudget, match="2 requests in all"):
        stranger.delivered("first", asks=3)
    assert fake.count() == 2
    assert stranger.delivered("second", asks=2)
