"""What a run teaches the fleet of the model that answered: by its outcome, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import redis
from fake_provider import FakeProvider
from task_runs import runner_of

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from fleet.broker.messages import message_encoder
from fleet.errors import FleetError, InvalidRequest
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.submission.checks import Submission

CONFIG = """
[providers.fake]
base_url = "{url}"
key_variable = "FAKE_API_KEY"

[catalogue.only]
provider = "fake"
quality = 0.5
speed = 1.0
free = true
"""


class Order(Payload):
    instruction: str = "add"
    asks: bool = True
    state: Literal["succeeded", "unverified", "refused"] = "succeeded"
    quality: float | None = None
    keeps: str = ""


class Done(Result):
    pass


class Obedient:
    async def run(self, payload: Order, context: AgentContext) -> Outcome:
        if payload.asks:
            await context.ask("hello")
        if payload.state == "refused":
            raise InvalidRequest("not this; ask for something else")
        return Outcome(payload.state, Done(), "done", payload.quality, payload.keeps)


SPEC = AgentSpec("code_generator", Order, Done, f"{__name__}:Obedient")


@pytest.fixture
def fleet(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
) -> Iterator[Connection]:
    clean_environment.setenv("FAKE_API_KEY", "sk-secret")
    with FakeProvider() as fake:
        found = open_connection(settings_of(CONFIG.format(url=fake.base_url)))
        found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
        yield found


def rewards(fleet: Connection, request_type: str = "code_generation", **order: object) -> float:
    """Run a task as a worker does; the rewards that were counted, as their sum (-1: none)."""
    asked = Submission("code_generation", {"instruction": "add"})
    task_id = fleet.submitter(message_encoder()).submit(asked).task_id
    runner = runner_of(fleet, SPEC)
    try:
        runner.run("code_generator", Delivery(task_id, order, "acme", lambda: "{}"))
    except FleetError as error:
        assert type(error).__name__ in ("TaskUnverified", "InvalidRequest")
    evidence = fleet.models.state.read().evidence.get(("only", request_type))
    if evidence is None or evidence.rewards == 0:
        return -1
    assert evidence.rewards == 1
    return evidence.reward


@pytest.mark.parametrize(
    ("order", "reward"),
    [
        ({}, 1.0),
        ({"quality": 0.25}, 0.25),
        ({"state": "unverified"}, 0.0),
        ({"state": "unverified", "quality": 0.5}, 0.5),
    ],
)
def test_an_outcome_is_the_reward_of_the_model_that_answered(
    fleet: Connection, order: dict[str, object], reward: float
) -> None:
    assert rewards(fleet, **order) == reward


@pytest.mark.parametrize("state", ["succeeded", "unverified"])
def test_a_result_is_put_down_to_the_model_whose_answer_it_holds(
    fleet: Connection, state: str
) -> None:
    assert rewards(fleet, state=state, quality=0.25, keeps="earlier") == 0.25
    (record,) = fleet.tasks.records.newest(1)
    assert (record.state, record.model, record.answered_by) == (state, "earlier", "earlier")
    assert [step.model for step in record.model_calls] == ["only"]


@pytest.mark.parametrize("order", [{"asks": False}, {"state": "refused"}])
def test_a_run_that_asked_no_model_or_failed_for_another_reason_teaches_nothing(
    fleet: Connection, order: dict[str, object]
) -> None:
    assert rewards(fleet, **order) == -1


@pytest.mark.parametrize("quality", [-0.1, 1.5])
def test_an_outcome_of_impossible_quality_is_an_agents_mistake(quality: float) -> None:
    with pytest.raises(ValueError, match="give 0 to 1, or None"):
        Outcome("succeeded", Done(), "done", quality)
