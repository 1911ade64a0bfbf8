"""A hand-written message is one that Celery reads, and a delivered one can be sent again."""

from __future__ import annotations

import json

import pytest
from celery import Celery
from celery.app.task import Context

from fleet.broker.messages import message_encoder
from fleet.tasks.submission.checks import Checked


def encoded(payload: str) -> dict[str, object]:
    checked = Checked(
        "code_generation", "code_generator", payload, "acme", 0.25, None, None, None, None
    )
    return dict(json.loads(message_encoder()("the-id", checked)))


PAYLOADS = ['{"a": 1}', '{"text": "say \\"hi\\" \\u2603 \\n"}', '{"é": "☃"}']


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_payload_arrives_as_it_was(payload: str) -> None:
    (args, kwargs, _) = json.loads(str(encoded(payload)["body"]))
    assert args == [json.loads(payload)]
    assert kwargs == {"request_type": "code_generation", "tenant": "acme", "complexity": 0.25}


def test_the_headers_name_the_task_and_never_show_the_payload() -> None:
    message = encoded('{"secret": "hunter2"}')
    headers = message["headers"]
    assert isinstance(headers, dict)
    assert (headers["task"], headers["id"]) == ("agents.code_generator", "the-id")
    assert "hunter2" not in json.dumps(headers)


def test_a_delivered_message_can_be_sent_again_with_all_that_follows_it() -> None:
    app = Celery(set_as_current=False)
    follows = [app.signature("shop.bill", args=[1])]
    sent = app.amqp.as_task_v2(
        "the-id",
        "agents.napper",
        args=[{"note": "☃"}],
        kwargs={"tenant": "acme"},
        countdown=5,
        expires=600,
        group_id="a-group",
        group_index=2,
        chord=app.signature("shop.sum"),
        callbacks=follows,
        errbacks=follows,
        chain=follows,
        root_id="a-root",
        parent_id="a-parent",
        time_limit=9,
        reply_to="an-answer",
    )
    args, kwargs, embedded = sent.body
    delivered = Context(
        {**sent.headers, "traceparent": "00-1", "fleet": {"tenant": "acme"}},
        args=list(args),
        kwargs=kwargs,
        **embedded,
        delivery_info={"exchange": "", "routing_key": "there", "priority": 3},
        **sent.properties,
    )
    again = json.loads(message_encoder().of_delivery(delivered))
    assert json.loads(again["body"]) == json.loads(json.dumps(sent.body))
    asked = {"traceparent": "00-1", "fleet": {"tenant": "acme"}}
    assert again["headers"] == json.loads(json.dumps({**sent.headers, "eta": None, **asked}))
    assert again["properties"]["reply_to"] == "an-answer"
    assert again["properties"]["priority"] == 3
