"""A hand-written message is one that Celery reads."""

from __future__ import annotations

import json

import pytest

from fleet.runtime.messages import message_encoder
from fleet.services.requests import Checked


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
