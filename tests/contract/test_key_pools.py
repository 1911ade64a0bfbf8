"""Several keys of one provider, keys in secrets, and keys that are replaced while calls run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import redis
from fake_provider import FakeProvider, answer, held, rate_limited, wrong_key
from pydantic_ai.models.openai import OpenAIChatModel
from stores_in_memory import MemoryStore
from task_runs import Run, eventually, start_run

from fleet.errors import OverBudget, RateLimited
from fleet.secrets.secrets import Secrets
from fleet.settings import Settings

MODEL = """
[providers.fake]
base_url = "{url}"
{keys}
[catalogue.small]
provider = "fake"
quality = 0.5
speed = 1.0
input_price = 0.001
output_price = 0.001
context_tokens = 10_000
"""
ONE = 'secret = "providers/fake"\n'
TWO = """
[providers.fake.keys.first]
secret = "providers/fake"
share = 1000000
{first}
[providers.fake.keys.second]
secret = "providers/other"
share = 0.000001
"""
FIRST, SECOND = "fake:first", "fake:second"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(
        {"providers/fake": [{"api_key": "sk-1"}], "providers/other": [{"api_key": "sk-other"}]}
    )


@pytest.fixture
def start(
    fake: FakeProvider,
    loop: asyncio.Runner,
    client: redis.Redis,
    store: MemoryStore,
    settings_of: Callable[[str], Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Run]:
    secrets = Secrets([store], lambda path: None, 600.0, lambda: 0.0)
    monkeypatch.setattr("fleet.tasks.connection.secrets_of", lambda *given: secrets)

    def started(keys: str) -> Run:
        settings = settings_of(MODEL.format(url=fake.base_url, keys=keys))
        return start_run(settings, fake, loop, limit=1.0)

    return started


def keys_used(run: Run) -> list[str]:
    return [each.key for each in run.fake.requests()]


def test_a_new_version_is_used_by_the_next_call_without_a_restart(
    start: Callable[[str], Run], store: MemoryStore
) -> None:
    run = start(ONE)
    run.ask()
    store.write("providers/fake", {"api_key": "sk-2"}, 1)
    run.fleet.secrets.forget("providers/fake")
    run.ask()
    assert keys_used(run) == ["sk-1", "sk-2"]
    assert store.reads == 2


def test_a_call_keeps_its_version_and_counts_as_its_use_until_it_has_ended(
    start: Callable[[str], Run], store: MemoryStore
) -> None:
    run = start(ONE)
    run.fake.script("small", held(answer("slow")))
    caller = run.session.services.callers.caller("small", run.fleet.models.keys.of("fake")[0])

    async def both() -> str:
        old = caller.clients.first()
        assert isinstance(old, OpenAIChatModel)
        slow = asyncio.ensure_future(run.context.ask("say hi"))
        await asyncio.to_thread(run.fake.wait_for, "small")
        store.write("providers/fake", {"api_key": "sk-2"}, 1)
        run.fleet.secrets.forget("providers/fake")
        await run.context.ask("say hi")
        assert run.fleet.secrets.in_use() == {("providers/fake", 1): 1}
        assert not old.client.is_closed()
        run.fake.let_go()
        text = (await slow).text
        assert old.client.is_closed()
        return text

    assert run.loop.run(both()) == "slow"
    assert keys_used(run) == ["sk-1", "sk-2"]
    assert run.fleet.secrets.in_use() == {}


def test_a_key_that_was_replaced_is_read_again_before_it_counts_as_refused(
    start: Callable[[str], Run], store: MemoryStore
) -> None:
    run = start(ONE)
    run.ask()
    store.write("providers/fake", {"api_key": "sk-2"}, 1)
    run.fake.script("small", wrong_key("sk-1"))
    run.ask()
    assert keys_used(run) == ["sk-1", "sk-1", "sk-2"]
    assert run.cooling == {}
    assert [call.ended for call in run.record.model_calls] == ["ok", "ok"]


def test_a_refused_key_cools_down_while_the_other_key_serves(start: Callable[[str], Run]) -> None:
    run = start(TWO.format(first=""))
    run.fake.script("small", wrong_key("sk-1"))
    run.ask()
    run.ask()
    assert keys_used(run) == ["sk-1", "sk-other", "sk-other"]
    ((key, model),) = run.fleet.models.state.read().cooldowns
    assert (key, model) == (FIRST, "")
    assert [call.why for call in run.record.model_calls][1] == (
        "failover: small: a refused key (HTTP 401, invalid_request_error, invalid_api_key)"
    )


def test_a_new_version_of_a_refused_key_serves_at_once(
    start: Callable[[str], Run], store: MemoryStore
) -> None:
    run = start(TWO.format(first=""))
    run.fake.script("small", wrong_key("sk-1"))
    run.ask()
    store.write("providers/fake", {"api_key": "sk-2"}, 1)
    run.fleet.secrets.forget("providers/fake")
    run.ask()
    assert keys_used(run) == ["sk-1", "sk-other", "sk-2"]
    assert run.fleet.models.state.read().cooldowns == {}


def test_a_rate_limit_of_one_key_leaves_the_model_to_the_other(start: Callable[[str], Run]) -> None:
    run = start(TWO.format(first=""))
    run.fake.script("small", rate_limited(retry_after=60))
    run.ask()
    assert keys_used(run) == ["sk-1", "sk-other"]
    assert list(run.fleet.models.state.read().cooldowns) == [(FIRST, "small")]
    decision = run.fleet.models.catalogue[0]
    assert run.fleet.models.state.read().cool_down(decision.key_ids, "small") is None


def test_a_key_whose_budget_is_spent_leaves_calls_to_the_other(start: Callable[[str], Run]) -> None:
    run = start(TWO.format(first="daily_usd = 0.0015"))
    run.fake.script("small", answer("hi", 400, 200))
    run.ask(times=2)
    # The upper bound of a second call does not fit beside the first one's $0.0006.
    assert keys_used(run) == ["sk-1", "sk-other"]
    spent = run.fleet.client.hgetall(run.fleet.keys.places(FIRST, "small").facts)
    assert (spent[b"spent"], spent[b"held"]) == (b"600000", b"0")


def test_a_budget_of_the_only_key_refuses_the_call(start: Callable[[str], Run]) -> None:
    only = '[providers.fake.keys.first]\nsecret = "providers/fake"\ndaily_usd = 0.0001\n'
    run = start(only)
    run.fails(OverBudget, r"Budget exceeded for key fake:first: limit \$0.0001 per UTC day")
    assert run.fake.count() == 0


def test_calls_beyond_the_keys_concurrency_wait_for_a_place(start: Callable[[str], Run]) -> None:
    only = '[providers.fake.keys.first]\nsecret = "providers/fake"\nconcurrency = 1\n'
    run = start(only)
    run.fake.script("small", held(answer("one")), answer("two"))

    async def both() -> list[str]:
        first = asyncio.ensure_future(run.context.ask("say hi"))
        await asyncio.to_thread(run.fake.wait_for, "small")
        second = asyncio.ensure_future(run.context.ask("say hi"))
        queue = run.fleet.keys.places(FIRST, "small").queue
        await asyncio.to_thread(eventually, lambda: run.fleet.client.zcard(queue))
        assert run.fake.count() == 1
        run.fake.let_go()
        return [(await first).text, (await second).text]

    assert run.loop.run(both()) == ["one", "two"]


def test_a_cancelled_call_leaves_the_queue(start: Callable[[str], Run]) -> None:
    only = '[providers.fake.keys.first]\nsecret = "providers/fake"\nconcurrency = 1\n'
    run = start(only)
    run.fake.script("small", held(answer("one")))
    queue = run.fleet.keys.places(FIRST, "small").queue

    async def cancelled() -> None:
        first = asyncio.ensure_future(run.context.ask("say hi"))
        await asyncio.to_thread(run.fake.wait_for, "small")
        second = asyncio.ensure_future(run.context.ask("say hi"))
        await asyncio.to_thread(eventually, lambda: run.fleet.client.zcard(queue))
        second.cancel()
        await asyncio.wait({second})
        run.fake.let_go()
        await first

    run.loop.run(cancelled())
    assert not run.fleet.client.exists(queue)


def test_a_provider_that_serves_others_is_asked_again_and_nothing_cools_down(
    start: Callable[[str], Run],
) -> None:
    run = start(ONE)
    run.ask()
    run.fake.script("small", rate_limited(milliseconds=1), answer("hi"))
    assert run.ask().text == "hi"
    assert [call.ended for call in run.record.model_calls] == ["ok", "rate limited", "ok"]
    assert run.cooling == {}


def test_a_provider_that_has_served_nothing_cools_down(start: Callable[[str], Run]) -> None:
    run = start(ONE)
    run.fake.script("small", rate_limited(retry_after=60))
    run.fails(RateLimited, "accepts no more calls")
    assert run.cooling["small"] == pytest.approx(60, abs=5)


def test_no_place_is_left_after_calls_that_failed(start: Callable[[str], Run]) -> None:
    run = start(TWO.format(first=""))
    run.fake.script("small", wrong_key("sk-1"), rate_limited(retry_after=60))
    run.fails(RateLimited, "accepts no more calls")
    for key in (FIRST, SECOND):
        places = run.fleet.keys.places(key, "small")
        assert run.fleet.client.zcard(places.calls) == 0
        assert run.fleet.client.hmget(places.facts, "n|small", "held") == [b"0", b"0"]
