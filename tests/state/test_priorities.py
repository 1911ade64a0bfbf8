"""What quality and speed count is each task's own: from its submission to its record."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from fleet import Fleet
from fleet.broker.messages import HEADER, message_encoder
from fleet.broker.router import FleetRouter, TaskPlacer
from fleet.broker.submission import DeliveredRequest
from fleet.cli.decision import model_json, model_view
from fleet.cli.main import app
from fleet.cli.output import console
from fleet.cli.task_view import record_json
from fleet.errors import InvalidRequest
from fleet.models.rules.priorities import Priorities
from fleet.money import Tokens
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.tasks.dead_letters import retry_id
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission
from fleet.tasks.submission.model_planning import choose_model
from fleet.worker.agent_tasks import _plan

GOOD, QUICK = "gpt-5", "gpt-4o"
CONFIG = """
[pools.codegen]
agent_type = "code_generator"
slots = 1000

[catalogue."gpt-5"]
provider = "openai"
quality = 0.95
speed = 0.80

[catalogue."gpt-4o"]
provider = "openai"
quality = 0.80
speed = 0.90

[request_types.code_generation]
agent_type = "code_generator"

[request_types.quick]
agent_type = "code_generator"
quality_priority = 0.1
speed_priority = 0.9

[models.tenants.hasty]
quality_priority = 0.1
speed_priority = 0.8

[models.tenants.thrifty]
speed_priority = 0.1
"""
BASE = Tokens(500, 2000)
PAYLOAD = {"instruction": "add"}


@pytest.fixture
def fleet(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
) -> Fleet:
    clean_environment.setenv("OPENAI_API_KEY", "sk-not-a-real-one")
    fleet = Fleet(settings_of(CONFIG))
    state(fleet).routing.agents.register("codegen-1", "codegen", 1000, {})
    return fleet


def state(fleet: Fleet) -> Connection:
    return fleet._connection


@pytest.mark.parametrize(
    ("request_type", "tenant", "asked", "model", "found"),
    [
        ("code_generation", "acme", {}, GOOD, (0.7, 0.3, "configuration", "configuration")),
        ("code_generation", "hasty", {}, QUICK, (0.1, 0.8, "tenant hasty", "tenant hasty")),
        ("code_generation", "thrifty", {}, GOOD, (0.7, 0.1, "configuration", "tenant thrifty")),
        ("quick", "acme", {}, QUICK, (0.1, 0.9, "request type quick", "request type quick")),
        ("quick", "hasty", {}, QUICK, (0.1, 0.9, "request type quick", "request type quick")),
        (
            *("quick", "hasty", {"quality": 1, "speed": 0.0}, GOOD),
            (1.0, 0.0, "submission", "submission"),
        ),
        (
            *("code_generation", "hasty", {"speed": 0.9}, QUICK),
            (0.1, 0.9, "tenant hasty", "submission"),
        ),
    ],
)
def test_submission_then_request_type_then_tenant_then_configuration_decide(
    fleet: Fleet,
    request_type: str,
    tenant: str,
    asked: dict[str, float],
    model: str,
    found: tuple[float, float, str, str],
) -> None:
    record = fleet.submit(request_type, PAYLOAD, tenant=tenant, **asked).record()  # type: ignore[arg-type]
    assert (record.model, record.priorities) == (model, Priorities(*found))
    assert record_json(record)["priorities"]["quality_origin"] == found[2]


def test_one_tasks_priorities_are_no_other_tasks(fleet: Fleet) -> None:
    models = [
        fleet.submit("code_generation", PAYLOAD, **asked).record().model
        for asked in ({}, {"quality": 0.1, "speed": 0.9}, {}, {"tenant": "hasty"}, {})
    ]
    assert models == [GOOD, QUICK, GOOD, QUICK, GOOD]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"quality": 1.1}, r"quality priority \(submission\) is 1.1; give a number from 0 to 1"),
        ({"speed": -0.1}, r"speed priority \(submission\) is -0.1; give a number"),
        ({"speed": float("nan")}, r"speed priority \(submission\) is nan; give a number"),
        ({"quality": "high"}, r"quality priority \(submission\) is 'high'; give a number"),
        ({"quality": True}, r"is True; give a number"),
        ({"quality": [1]}, r"is a list; give a number"),
        ({"quality": 0.9}, r"0.9 \(submission\) and speed .* 0.3 \(configuration\) are 1.2 toge"),
        ({"quality": 0.6, "speed": 0.5}, "are 1.1 together, and may be at most 1; give both"),
    ],
)
def test_priorities_that_cannot_be_are_refused_before_anything_is_written(
    fleet: Fleet, client: redis.Redis, asked: dict[str, Any], says: str
) -> None:
    before = sorted(client.keys("*"))
    with pytest.raises(InvalidRequest, match=says):
        fleet.submit("code_generation", PAYLOAD, **asked)
    assert sorted(client.keys("*")) == before


def test_a_task_of_any_celery_application_names_them_beside_its_tenant(fleet: Fleet) -> None:
    submitter = fleet._submitter
    options: dict[str, Any] = {}
    asked = {"tenant": "acme", "quality": 0.1, "speed": 0.9}
    routed = FleetRouter(fleet.settings, submitter)(
        "agents.code_generator", [PAYLOAD], asked, options
    )
    assert routed is not None
    headers = {**options["headers"], "id": "the-task", "task": "agents.code_generator"}
    message = {"headers": headers}
    assert TaskPlacer(submitter)(message, json.dumps(message))
    record = state(fleet).tasks.records.read("the-task")
    assert record.model == QUICK
    assert record.priorities == Priorities(0.1, 0.9, "submission", "submission")
    with pytest.raises(InvalidRequest, match="use request_type, tenant, complexity, quality, spee"):
        FleetRouter(fleet.settings, submitter)("agents.code_generator", [PAYLOAD], {"x": 1}, {})


def test_a_worker_that_plans_for_a_foreign_publisher_goes_by_them(fleet: Fleet) -> None:
    checks = fleet._submitter.checks

    def delivered(asked: dict[str, float]) -> DeliveredRequest:
        return DeliveredRequest(checks, "code_generator", [PAYLOAD], asked)

    for asked, model in (({}, GOOD), ({"quality": 0.1, "speed": 0.9}, QUICK)):
        planned = json.loads(_plan(state(fleet), delivered(asked)))
        assert planned["model"] == model
    refused = delivered({"quality": 0.9, "speed": 0.8}).refused
    assert isinstance(refused, InvalidRequest)
    assert "are 1.7 together" in str(refused)


def test_the_message_has_what_was_asked_and_nothing_else(fleet: Fleet) -> None:
    encode = message_encoder()
    checks = fleet._submitter.checks
    for asked in ({}, {"speed": 0.2}, {"quality": 0.5, "speed": 0}):
        checked = checks.check(Submission("code_generation", PAYLOAD, **asked))  # type: ignore[arg-type]
        message = json.loads(encode("id", checked))
        kwargs = json.loads(message["body"])[1]
        assert {name: kwargs[name] for name in ("quality", "speed") if name in kwargs} == asked
    assert HEADER not in message["headers"]


def test_a_run_fails_over_in_the_order_of_its_own_priorities(fleet: Fleet) -> None:
    quick = fleet.submit("code_generation", PAYLOAD, quality=0.1, speed=0.9)
    good = fleet.submit("code_generation", PAYLOAD)
    orders = []
    for task in (quick, good):
        lease = state(fleet).tasks.records.claim(
            task.id, "codegen-1", "codegen", 30, f"claim-{task.id}", "default", ""
        )
        assert isinstance(lease, Lease)
        orders.append([each.model for each in lease.candidates])
    assert orders == [[QUICK, GOOD], [GOOD, QUICK]]


def test_another_priority_is_another_request_for_the_same_key(fleet: Fleet) -> None:
    first = fleet.submit("code_generation", PAYLOAD, idempotency_key="k", quality=0.1, speed=0.2)
    again = fleet.submit("code_generation", PAYLOAD, idempotency_key="k", quality=0.1, speed=0.2)
    assert again.id == first.id
    with pytest.raises(InvalidRequest, match="was used for another request"):
        fleet.submit("code_generation", PAYLOAD, idempotency_key="k", quality=0.1, speed=0.3)


def test_a_dead_letter_is_retried_with_what_its_submission_asked(fleet: Fleet) -> None:
    task = fleet.submit("code_generation", PAYLOAD, tenant="hasty", speed=0.7)
    tasks = state(fleet).tasks.records
    lease = tasks.claim(task.id, "codegen-1", "codegen", 30, "claim", "hasty", "")
    assert isinstance(lease, Lease)
    tasks.begin(lease)
    broken = {"error": json.dumps({"type": "TaskFailed", "message": "it is broken"})}
    tasks.finish(lease, "codegen", "failed", 60, broken)
    fleet.retry_dead(task.id)
    again = tasks.read(retry_id(task.id))
    assert again.priorities == Priorities(0.1, 0.7, "tenant hasty", "submission")


def test_the_command_line_takes_them_and_explains_whose_word_they_are(fleet: Fleet) -> None:
    asked = ["--set", "instruction=add", "--tenant", "hasty", "--quality", "0.2", "--json"]
    done = CliRunner().invoke(app, ["submit", "code_generation", *asked])
    told = json.loads(done.stdout)
    assert told["model"] == QUICK
    text = " ".join(CliRunner().invoke(app, ["explain", told["id"]]).stdout.split())
    assert "quality priority 0.2 (from: submission)" in text
    assert "speed priority 0.8 (from: tenant hasty)" in text
    tried = ["route", "--dry-run", "quick", "--set", "instruction=add", "--quality", "0.9"]
    refused = CliRunner().invoke(app, tried).exception
    assert isinstance(refused, InvalidRequest)
    assert "0.9 (request type quick) are 1.8 together" in str(refused)


def test_explain_shows_them_with_their_origin(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    decision = choose_model(
        fleet.settings.config,
        state(fleet).models.catalogue,
        "quick",
        0.5,
        base=BASE,
        tenant="acme",
        speed=0.5,
    )
    for part in model_view(decision):
        console().print(part)
    shown = " ".join(capsys.readouterr().out.split())
    assert "quality priority 0.1 (from: request type quick)" in shown
    assert "speed priority 0.5 (from: submission)" in shown
    assert model_json(decision)["priorities"]["speed"] == 0.5
