"""A provider, or a proxy in front of it, that repeats the key in each field of its answers."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from fake_provider import Behaviour, FakeProvider, answer, stubborn
from task_runs import Run

from fleet.agent import ModelReply
from fleet.errors import FleetError
from fleet.models.calls.call import ModelCaller
from fleet.models.calls.endpoint import Endpoint
from fleet.models.rules.choice import Model
from fleet.tasks.run.outcome import failed

MODEL = Model("gpt-4o", "openai", None, 0.9, 0.9)

# The second looks like a code of three words.
KEYS = ["sk-proj-Zx81kQm2Lr9vTb47HsWd", "correct_horse_battery"]

FIELDS = ["message", "type", "code", "param", "status", "metadata"]
HEADERS = ["Retry-After", "retry-after-ms", "x-request-id", "x-ratelimit-reset", "www-authenticate"]
STATUSES = [200, 400, 401, 402, 403, 404, 413, 429, 500, 529]


class Proxy:
    """A provider, and a caller of it for each key."""

    def __init__(self, fake: FakeProvider, loop: asyncio.Runner) -> None:
        self.fake, self.loop = fake, loop
        self.callers = {
            key: ModelCaller(MODEL, Endpoint("openai", key, fake.base_url), 30) for key in KEYS
        }

    def reply(self, key: str, behaviour: Behaviour) -> ModelReply:
        self.fake.script(MODEL.name, behaviour)
        return self.loop.run(self.callers[key].ask("hello", "", 64, 0.0))

    def error(self, key: str, behaviour: Behaviour) -> FleetError:
        with pytest.raises(FleetError) as caught:
            self.reply(key, behaviour)
        assert self.fake.requests(MODEL.name)[-1].key == key
        return caught.value


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with FakeProvider() as fake, asyncio.Runner() as loop:
        yield Proxy(fake, loop)


def shown(error: FleetError) -> str:
    """All that is logged, stored and shown of an error."""
    stored = failed(error).fields
    return "".join(traceback.format_exception(error)) + error.reason + repr(error) + str(stored)


def error_body(field: str, key: str) -> Mapping[str, Any]:
    told: dict[str, Any] = {"message": "no", "type": "a_type", "param": None, "code": "a_code"}
    return {"error": told | {field: {"raw": key} if field == "metadata" else key}}


@pytest.mark.parametrize("key", KEYS, ids=["random", "words"])
@pytest.mark.parametrize("field", FIELDS)
def test_no_field_of_an_error_shows_the_key(
    proxy: Proxy, key: str, field: str
) -> None:
    for status in STATUSES:
        error = proxy.error(key, Behaviour(status, error_body(field, key)))
        assert key not in shown(error), status


@pytest.mark.parametrize("key", KEYS, ids=["random", "words"])
@pytest.mark.parametrize("form", ["bad:{}", "{}_refused", "{}"], ids=["before", "after", "upper"])
def test_no_code_shows_a_part_of_the_key(
    proxy: Proxy, key: str, form: str
) -> None:
    echoed = key.upper() if form == "{}" else form.format(key[2:-2])
    error = proxy.error(key, Behaviour(401, error_body("code", echoed)))
    assert echoed not in shown(error)


def test_other_codes_are_still_shown(proxy: Proxy) -> None:
    error = proxy.error(KEYS[0], Behaviour(401, error_body("code", "a_code")))
    assert "(HTTP 401, a_type, a_code)" in str(error)


@pytest.mark.parametrize("key", KEYS, ids=["random", "words"])
def test_no_header_of_an_error_shows_the_key(
    proxy: Proxy, key: str
) -> None:
    headers = dict.fromkeys(HEADERS, key)
    for status in (401, 429, 503):
        reply = Behaviour(status, error_body("param", ""), headers)
        assert key not in shown(proxy.error(key, reply))


@pytest.mark.parametrize("key", KEYS, ids=["random", "words"])
@pytest.mark.parametrize("field", ["id", "system_fingerprint", "service_tier", "created", "object"])
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_only_the_text_of_an_answer_can_show_the_key(
    proxy: Proxy, key: str, field: str, streamed: bool
) -> None:
    given = answer("good day", finish=key)
    reply = Behaviour(body={"created": 1, "id": "x", **given.body, field: key})

    found = proxy.reply(key, reply if streamed else stubborn(reply))

    assert found.text == "good day"
    assert found.finish_reason == "unknown"
    assert key not in found.model_dump_json()


def test_a_run_knows_the_key_that_its_call_has_used(start: Callable[..., Run]) -> None:
    run = start()
    for model in run.fleet.models.catalogue:
        run.fake.script(model.name, Behaviour(400, error_body("code", "bad_sk-secret")))
    with pytest.raises(FleetError) as caught:
        run.loop.run(run.context.ask("hello"))
    assert {each.key for each in run.fake.requests()} == {"sk-secret"}
    assert "sk-secret" not in shown(caught.value)


def test_a_wait_of_centuries_counts_as_a_week(proxy: Proxy) -> None:
    reply = Behaviour(503, error_body("code", "busy"), {"Retry-After": "99999999999"})
    error = proxy.error(KEYS[0], reply)
    assert getattr(error, "retry_after", None) == 7 * 86_400
