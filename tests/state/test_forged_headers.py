"""The header that says what is asked of Fleet: trusted from a router, checked from all others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import redis
from malformed_messages import good_message

from fleet.broker.app import fleet_of, make_app
from fleet.errors import InvalidRequest
from fleet.settings import Settings
from fleet.tasks.submission.checks import RequestChecks

QUEUE = "{fleet}.codegen"
NAME = "agents.code_generator"
ORDER = {"instruction": "add"}


@pytest.fixture
def app(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Any:
    pool = '[pools.codegen]\nagent_type = "code_generator"\nslots = 2'
    found = make_app(settings_of(f'tenants = ["acme", "default"]\n{pool}'))
    fleet_of(found).routing.agents.register("codegen-1", "codegen", 2, {})
    return found


def put(app: Any, asked: Any, order: Any = ORDER, name: str = NAME) -> str:
    """Put a message with a header of one's own into a queue, by Kombu."""
    message = good_message(name, [order], QUEUE)
    message["headers"]["fleet"] = asked
    with app.connection_for_write() as connection:
        connection.default_channel._put(QUEUE, message)
    return str(message["headers"]["id"])


def test_what_a_router_has_checked_is_not_checked_again(app: Any) -> None:
    with patch.object(RequestChecks, "check", autospec=True, side_effect=RequestChecks.check) as c:
        sent = app.send_task(NAME, args=[ORDER], kwargs={"tenant": "acme"})
    assert c.call_count == 1
    assert fleet_of(app).tasks.records.read(sent.id).tenant == "acme"


def test_a_header_of_ones_own_is_taken_where_it_is_in_order(app: Any) -> None:
    task_id = put(app, {"tenant": "acme", "complexity": 0.5, "priority": 0})
    record = fleet_of(app).tasks.records.read(task_id)
    assert (record.tenant, record.complexity, record.state) == ("acme", 0.5, "queued")


@pytest.mark.parametrize(
    "asked",
    [
        {"tenant": "evil"},
        {"tenant": "x" * 100_000},
        {"complexity": math.nan},
        {"complexity": "hard"},
        {"priority": 100},
        {"request_type": []},
        {"request_type": "security_analysis"},
    ],
)
def test_and_refused_where_it_is_not(app: Any, asked: dict[str, Any], client: redis.Redis) -> None:
    with pytest.raises(InvalidRequest):
        put(app, asked)
    assert not client.keys("{fleet}:task:*")
    assert not client.llen(QUEUE)


@pytest.mark.parametrize("order", [{"instruction": 5}, {"instruction": "x" * 2_000_000}, [], None])
def test_a_payload_behind_such_a_header_is_checked_too(
    app: Any, order: Any, client: redis.Redis
) -> None:
    with pytest.raises(InvalidRequest):
        put(app, {"tenant": "acme"}, order)
    assert not client.keys("{fleet}:task:*")


def test_such_a_header_on_a_plain_task_means_nothing(app: Any, client: redis.Redis) -> None:
    put(app, {"request_type": "code_generation", "tenant": "evil"}, name="shop.add")
    assert not client.keys("{fleet}:task:*")
    assert json.loads(client.lpop(QUEUE) or b"")["headers"]["task"] == "shop.add"


def test_a_task_is_sent_under_its_own_name(app: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"answered by security_scanner.*send agents\."):
        app.send_task(NAME, args=[ORDER], kwargs={"request_type": "security_analysis"})
