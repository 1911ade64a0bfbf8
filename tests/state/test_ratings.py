"""What users think of results: one rating a task, counted for the model that answered last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.errors import InvalidRequest, TaskNotFound
from fleet.models.rules.learning import ModelEvidence
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.ratings import rate
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

TWO_ANSWERED = (
    ModelCall("weak", "local", "first", "ok", output_tokens=5),
    ModelCall("strong", "local", "escalation: it failed", "ok", output_tokens=5),
    ModelCall("late", "local", "failover: strong unavailable", "unavailable"),
)


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    return found


def ran(fleet: Connection, *steps: ModelCall, end: bool = True) -> str:
    """The id of a task that took these steps."""
    asked = Submission("code_generation", {"instruction": "add"})
    task_id = fleet.submitter(message_encoder()).submit(asked).task_id
    lease = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 30, "a", "acme", "")
    assert isinstance(lease, Lease)
    for number, step in enumerate(steps, start=1):
        fleet.tasks.model_calls.settle(lease, number, step)
    if end:
        fleet.tasks.records.finish(lease, "codegen", "succeeded", 60, {"result": "{}"})
    return task_id


def evidence(fleet: Connection) -> ModelEvidence:
    (found,) = fleet.models.state.read().evidence.items()
    assert found[0] == ("strong", "code_generation")
    return found[1]


def test_a_rating_counts_twice_for_the_model_that_answered_last(fleet: Connection) -> None:
    task_id = ran(fleet, *TWO_ANSWERED)
    rate(fleet, task_id, 0.75)
    assert fleet.tasks.records.read(task_id).rating == 0.75
    assert (evidence(fleet).rewards, evidence(fleet).reward) == (2, 1.5)


def test_the_same_rating_again_changes_nothing(fleet: Connection) -> None:
    task_id = ran(fleet, *TWO_ANSWERED)
    for _ in range(3):
        rate(fleet, task_id, 0.75)
    assert evidence(fleet).rewards == pytest.approx(2)
    assert evidence(fleet).reward == pytest.approx(1.5)


def test_another_rating_takes_the_place_of_the_first(fleet: Connection) -> None:
    task_id = ran(fleet, *TWO_ANSWERED)
    for rating in (0.75, 0.0, 1):
        rate(fleet, task_id, rating)
    assert fleet.tasks.records.read(task_id).rating == 1
    assert evidence(fleet).rewards == pytest.approx(2, rel=1e-6)
    assert evidence(fleet).reward == pytest.approx(2, rel=1e-6)


def test_a_changed_rating_changes_what_is_left_of_its_weight(
    fleet: Connection, client: redis.Redis
) -> None:
    task_id = ran(fleet, *TWO_ANSWERED)
    rate(fleet, task_id, 1.0)
    half_life = fleet.models.state.half_life_ms
    rated = int(client.hget(f"{{fleet}}:task:{task_id}", "rated") or 0)
    client.hset(f"{{fleet}}:task:{task_id}", "rated", rated - half_life)
    field = "learned|strong|code_generation"
    client.hset("{fleet}:models", field, f"10,8,0,0,0,{rated}")
    rate(fleet, task_id, 0.0)
    assert evidence(fleet).rewards == pytest.approx(10, rel=1e-4)
    assert evidence(fleet).reward == pytest.approx(8 - 1, rel=1e-4)


@pytest.mark.parametrize("rating", [-0.1, 1.1, float("nan"), "good", None])
def test_a_rating_out_of_range_is_refused(fleet: Connection, rating: Any) -> None:
    task_id = ran(fleet, *TWO_ANSWERED)
    with pytest.raises(InvalidRequest, match="give a number from 0 to 1"):
        rate(fleet, task_id, rating)
    assert fleet.tasks.records.read(task_id).rating is None


def test_only_an_ended_task_that_a_model_answered_can_be_rated(fleet: Connection) -> None:
    with pytest.raises(InvalidRequest, match="is running; rate it when it has ended"):
        rate(fleet, ran(fleet, *TWO_ANSWERED, end=False), 1.0)
    with pytest.raises(InvalidRequest, match="no model has answered"):
        rate(fleet, ran(fleet, TWO_ANSWERED[2]), 1.0)
    with pytest.raises(TaskNotFound):
        rate(fleet, "unknown", 1.0)
    assert fleet.models.state.read().evidence == {}
