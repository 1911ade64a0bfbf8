"""Redis goes away, or accepts no more, while many tasks are submitted: which are, which may be."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import redis
from tcp_proxy import Proxy

from fleet import Fleet, Submission
from fleet.errors import PartlySubmitted, RetryLater, Unavailable
from fleet.settings import load_settings


def asked(count: int, size: int = 1) -> list[Submission]:
    payload = {"instruction": "x" * size}
    return [
        Submission("code_generation", payload, idempotency_key=f"key-{n}") for n in range(count)
    ]


def fleet(patch: pytest.MonkeyPatch, url: str) -> Fleet:
    patch.setenv("FLEET_BROKER_URL", url)
    return Fleet(load_settings())


@pytest.fixture
def direct(clean_environment: pytest.MonkeyPatch, valkey_url: str, client: redis.Redis) -> Fleet:
    found = fleet(clean_environment, valkey_url)
    found._connection.routing.agents.register("codegen-1", "codegen", 10, {})
    return found


@pytest.fixture
def nearly_full(client: redis.Redis) -> Iterator[Callable[[], None]]:
    """Leaves the server room for some 4 MB more."""

    def fill() -> None:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 4_000_000)

    yield fill
    client.config_set("maxmemory", 0)


def test_what_a_server_took_before_it_was_full_is_named(
    direct: Fleet, client: redis.Redis, nearly_full: Callable[[], None]
) -> None:
    many = asked(1000, size=2000)
    nearly_full()
    with pytest.raises(PartlySubmitted, match=r"are, 0 may be, the rest is not") as told:
        direct.submit_many(many)
    client.config_set("maxmemory", 0)
    assert 0 < len(told.value.submitted) < 1000
    written = {each.decode() for each in client.zrange("{fleet}:tasks", 0, -1)}
    assert (set(told.value.submitted), told.value.unsure) == (written, ())
    again = [task.id for task in direct.submit_many(many)]
    assert written < set(again)
    assert client.zcard("{fleet}:tasks") == 1000


def test_whoever_tries_all_again_by_habit_is_not_invited_to(
    direct: Fleet, nearly_full: Callable[[], None]
) -> None:
    nearly_full()
    with pytest.raises(PartlySubmitted) as told:
        direct.submit_many(asked(1000, size=2000))
    # Without keys, that would run the written ones twice.
    assert not isinstance(told.value, RetryLater)
    assert isinstance(told.value.__cause__, Unavailable)


def test_what_was_refused_before_the_server_was_full_is_told_too(
    direct: Fleet, nearly_full: Callable[[], None]
) -> None:
    direct.submit_many(asked(1))
    nearly_full()
    with pytest.raises(PartlySubmitted) as told:
        direct.submit_many(asked(1000, size=2000))
    (note,) = told.value.__notes__
    assert note.startswith("refused: 1, of which the first: idempotency key 'key-0' was used for")


def test_those_whose_answer_was_lost_may_be_written(
    clean_environment: pytest.MonkeyPatch, direct: Fleet, proxy: Proxy, client: redis.Redis
) -> None:
    found = fleet(clean_environment, f"redis://127.0.0.1:{proxy.port}/0")
    found.submit_many([Submission("code_generation", {"instruction": "x"})])
    many = asked(3)
    proxy.take_no_more()
    # The first one says that the script is loaded.
    proxy.lose_an_answer(after=1)
    with pytest.raises(PartlySubmitted, match="0 are, 3 may be") as told:
        found.submit_many(many)
    assert told.value.submitted == ()
    # The server had done it: only the answer was lost.
    assert [direct.task(each).state() for each in told.value.unsure] == ["queued"] * 3
    assert [task.id for task in direct.submit_many(many)] == list(told.value.unsure)
    assert client.zcard("{fleet}:tasks") == 4


def test_a_server_that_was_never_reached_has_written_nothing(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        found = fleet(clean_environment, f"redis://127.0.0.1:{unused.getsockname()[1]}/0")
        with pytest.raises(Unavailable, match="does not answer") as told:
            found.submit_many(asked(3))
    assert not isinstance(told.value, PartlySubmitted)
