"""A call that is cut while its answer comes in: its provider hears of it, what came is told."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from context import MODEL
from fake_provider import (
    Behaviour,
    FakeProvider,
    HungUp,
    answer,
    broken_off,
    cut,
    endless,
    filtered,
    hang,
    refused,
    stall,
    stubborn,
    unfinished,
)
from pydantic_ai import ModelResponse, TextPart, ThinkingPart
from pydantic_ai.models.openai import OpenAIStreamedResponse
from pydantic_ai.usage import RequestUsage
from task_runs import eventually, until_all_is_read

from fleet.errors import FleetError, ModelRefused, RateLimited, Unavailable
from fleet.models.calls.call import ModelCaller
from fleet.models.calls.endpoint import Endpoint
from fleet.models.calls.streams import hides_nothing
from fleet.models.rules.choice import Model, Price
from fleet.models.rules.cut_calls import CallProgress, Cut

PRICE = Price.per_thousand(0.0025, 0.01)
NOTHING_TOLD = (0, 0, 0, 0, 0)


def caller(fake: FakeProvider, timeout: float = 30, name: str = "gpt-4o") -> ModelCaller:
    model = Model(name, "openai", PRICE, 0.9, 0.9)
    return ModelCaller(model, Endpoint("openai", "sk-secret", fake.base_url), timeout)


async def cancelled(asking: ModelCaller, fake: FakeProvider, times: int = 5) -> CallProgress:
    """Cancel a call when its provider has said its text so often, and that was read."""
    progress = CallProgress()
    asked = asyncio.create_task(asking.ask("hello", "be brief", 64, 0.0, progress))
    await asyncio.to_thread(fake.wait_for, asking.model.name)
    await asyncio.to_thread(fake.wait_until_said, times)
    await until_all_is_read()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    return progress


def failed(
    fake: FakeProvider, behaviour: Behaviour, timeout: float = 30
) -> tuple[FleetError, Cut | None]:
    """The error of a call that gets this behaviour, and what had come by then."""
    progress = CallProgress()
    fake.script("gpt-4o", behaviour)
    asked = caller(fake, timeout).ask("hello", "be brief", 64, 0.0, progress)
    with pytest.raises(FleetError) as caught:
        asyncio.run(asked)
    assert fake.count("gpt-4o") == 1
    return caught.value, progress.cut


def test_the_provider_hears_at_once_that_a_call_is_cancelled(fake: FakeProvider) -> None:
    fake.script("gpt-4o", endless("gr\u00fc\u00df dich "))
    began = time.monotonic()

    async def cancel() -> tuple[CallProgress, HungUp]:
        progress = await cancelled(caller(fake), fake, 5)
        # While the loop goes on: its end would close every connection.
        return progress, await asyncio.to_thread(fake.wait_for_hang_up)

    progress, gone = asyncio.run(cancel())
    assert progress.cut is not None
    assert progress.cut.shown_bytes is not None
    said = len("gr\u00fc\u00df dich ".encode())
    assert said * 5 <= progress.cut.shown_bytes <= said * (gone.sent + 1)
    assert 0 <= progress.cut.silent_seconds < gone.at - began
    assert progress.cut.told == NOTHING_TOLD


def test_a_cancellation_stays_one_where_what_had_come_cannot_be_read(
    fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the call for nothing then: it is at its worst."""

    def unreadable(*_: object) -> None:
        raise ValueError("no response can be made of it")

    monkeypatch.setattr(OpenAIStreamedResponse, "get", unreadable)
    fake.script("gpt-4o", endless("so "))
    progress = asyncio.run(cancelled(caller(fake), fake))
    assert progress.cut is not None
    assert (progress.cut.shown_bytes, progress.cut.told) == (None, NOTHING_TOLD)


def test_of_a_call_that_is_cancelled_before_its_answer_nothing_is_known(fake: FakeProvider) -> None:
    fake.script("gpt-4o", hang())
    assert asyncio.run(cancelled(caller(fake), fake, 0)).cut is None


@pytest.mark.filterwarnings("ignore:Sampling parameters")
def test_what_a_model_thinks_unseen_is_not_bounded_by_what_it_shows(fake: FakeProvider) -> None:
    fake.script("gpt-5", endless("so "))
    progress = asyncio.run(cancelled(caller(fake, name="gpt-5"), fake))
    assert progress.cut is not None
    assert progress.cut.shown_bytes is None


@pytest.mark.parametrize(
    ("name", "shows_all"),
    [
        ("gpt-4o", True),
        ("claude-sonnet-4-5", True),
        ("gemini-2.0-flash", True),
        ("my-own", True),
        ("o3", False),
        ("openai/gpt-5-mini", False),
        ("gemini-2.5-flash", False),
        ("anthropic/claude-opus-5", False),
    ],
)
def test_a_model_that_thinks_unasked_is_known_by_its_name(
    fake: FakeProvider, name: str, shows_all: bool
) -> None:
    assert caller(fake, name=name).shows_all is shows_all


def test_a_model_whose_answer_took_more_than_it_showed_is_not_bounded_any_more(
    fake: FakeProvider,
) -> None:
    fake.script("gpt-4o", answer("hi", 10, 66), answer("hi", 10, 67), endless("so "))
    asking = caller(fake)

    async def ask() -> CallProgress:
        await asking.ask("hello", "", 64, 0.0)
        assert asking.shows_all
        await asking.ask("hello", "", 64, 0.0)
        return await cancelled(asking, fake)

    progress = asyncio.run(ask())
    assert not asking.shows_all
    assert progress.cut is not None
    assert progress.cut.shown_bytes is None


def shows_all_after(fake: FakeProvider, behaviour: Behaviour) -> bool:
    """Whether the model is taken to show all that it writes, after this answer."""
    fake.script("gpt-4o", behaviour)
    asking = caller(fake)
    with suppress(ModelRefused):
        asyncio.run(asking.ask("hello", "", 4096, 0.0))
    return asking.shows_all


def test_a_model_that_is_told_to_reason_and_shows_no_thought_of_it_is_not_bounded_any_more(
    fake: FakeProvider,
) -> None:
    """Though its words have more bytes than all of its tokens are."""
    assert shows_all_after(fake, answer("so on " * 400, 10, 600))
    assert not shows_all_after(fake, answer("so on " * 400, 10, 1600, reasoning_tokens=1000))


def test_thoughts_that_are_shown_account_for_what_was_told_of_the_reasoning() -> None:
    told = RequestUsage(input_tokens=10, output_tokens=30, details={"reasoning_tokens": 20})
    parts = [ThinkingPart("t" * 20), TextPart("so on")]
    assert hides_nothing(ModelResponse(parts, usage=told))
    assert not hides_nothing(ModelResponse([ThinkingPart("t" * 19), *parts[1:]], usage=told))


@pytest.mark.parametrize("behaviour", [filtered(), refused()], ids=["filtered", "refused"])
def test_an_answer_that_is_held_back_says_nothing_of_what_its_model_shows(
    fake: FakeProvider, behaviour: Behaviour
) -> None:
    usage = answer("", 10, 500).body["usage"]
    assert shows_all_after(fake, replace(behaviour, body={**behaviour.body, "usage": usage}))


@pytest.mark.parametrize("behaviour", [cut("one two three four"), unfinished("one two ")])
def test_a_connection_that_breaks_tells_what_had_come(
    fake: FakeProvider, behaviour: Behaviour
) -> None:
    error, found = failed(fake, behaviour)
    assert type(error) is Unavailable
    assert error.may_be_served
    assert found is not None
    assert found.shown_bytes == len("one two ")


def test_a_stream_that_stops_is_given_up_and_was_silent_for_as_long(fake: FakeProvider) -> None:
    began = time.monotonic()
    error, found = failed(fake, stall("one two three four"), timeout=3)
    assert type(error) is Unavailable
    assert found is not None
    assert found.shown_bytes == len("one two ")
    assert 2.5 < found.silent_seconds < time.monotonic() - began


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (broken_off(), Unavailable),
        (broken_off("rate_limit_error", "rate_limit_exceeded"), RateLimited),
    ],
)
def test_a_fault_in_the_middle_of_a_stream_is_told_as_before_it(
    fake: FakeProvider, behaviour: Behaviour, kind: type[FleetError]
) -> None:
    error, found = failed(fake, behaviour)
    assert type(error) is kind
    assert found is not None
    assert found.shown_bytes == len("this never ends")


def test_the_answer_of_a_server_that_does_not_stream_is_read(fake: FakeProvider) -> None:
    progress = CallProgress()
    fake.script("gpt-4o", stubborn(answer("hi")))
    reply = asyncio.run(caller(fake).ask("hello", "be brief", 64, 0.0, progress))
    assert (reply.text, reply.finish_reason, reply.usage_missing) == ("hi", "stop", False)
    assert progress.cut is None


def test_the_local_model_stops_writing_when_its_call_is_cancelled(local_model_url: str) -> None:
    model = Model(MODEL, "local", None, 0.3, 0.6, free=True)
    asking = ModelCaller(model, Endpoint("openai", "local", local_model_url), 120)
    progress = CallProgress()

    async def cancel() -> None:
        long = asking.ask("Write a long story about a lighthouse.", "", 2000, 0.0, progress)
        asked = asyncio.create_task(long)
        # It is served by threads of this process, which by then have written a hundred words.
        enough = time.process_time() + 4
        while time.process_time() < enough:
            assert not asked.done(), "it has nothing more to write: this checks nothing"
            await asyncio.sleep(0.05)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(cancel())
    assert progress.cut is not None
    assert progress.cut.shown_bytes
    eventually(lambda: busy_share(0.5) < 0.3, 5.0)


def busy_share(seconds: float) -> float:
    """The share of a processor that this process takes while it waits so long."""
    before = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - before) / seconds
