"""Simultaneous calls of threads share a round trip, and each gets its own answer."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from weakref import ref

import pytest
import redis

from fleet.redis.auto_pipelining import AutoPipelining, Undelivered
from fleet.redis.client import connect
from fleet.redis.scripts import Scripts

PATIENCE_SECONDS = 30.0


@pytest.fixture
def pipelining(valkey_url: str) -> AutoPipelining:
    return AutoPipelining(connect(valkey_url, 60).connection_pool)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(12) as found:
        yield found


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def together(
    threads: ThreadPoolExecutor,
    pipelining: AutoPipelining,
    client: redis.Redis,
    *commands: tuple[str, ...],
) -> list[Future[object]]:
    """Call them while a call that leads is not answered; the client's `gate` answers it."""
    threads.submit(pipelining.call, "BLPOP", "gate", 0)
    eventually(lambda: client.info("clients")["blocked_clients"] == 1)
    waiting = [threads.submit(pipelining.call, *command) for command in commands]
    eventually(lambda: len(pipelining._calls) == len(commands))
    return waiting


def test_what_is_called_while_another_call_is_under_way_is_one_round_trip(
    pipelining: AutoPipelining, threads: ThreadPoolExecutor, client: redis.Redis
) -> None:
    waiting = together(threads, pipelining, client, *[("INCR", "n")] * 10)
    before = client.info("stats")["total_reads_processed"]
    client.lpush("gate", "open")
    answers = [call.result(PATIENCE_SECONDS) for call in waiting]
    # The push, the bundle, and this very question.
    assert client.info("stats")["total_reads_processed"] - before == 3
    assert sorted(answers) == list(range(1, 11))


def test_an_error_is_that_of_its_own_call(
    pipelining: AutoPipelining, threads: ThreadPoolExecutor, client: redis.Redis
) -> None:
    client.set("word", "no number")
    asked = [("ECHO", "a"), ("INCR", "word"), ("ECHO", "b")]
    first, wrong, last = together(threads, pipelining, client, *asked)
    client.lpush("gate", "open")
    assert (first.result(PATIENCE_SECONDS), last.result(PATIENCE_SECONDS)) == (b"a", b"b")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        wrong.result(PATIENCE_SECONDS)


def test_an_error_keeps_nothing_of_its_callers(
    pipelining: AutoPipelining, client: redis.Redis
) -> None:
    class Thing:
        """What a caller has in a variable."""

    def ask() -> ref[Thing]:
        thing = Thing()
        with suppress(redis.ResponseError):
            pipelining.call("INCR", "word")
        return ref(thing)

    client.set("word", "no number")
    # It would find the cycle, sooner or later.
    gc.disable()
    try:
        assert ask()() is None
    finally:
        gc.enable()


def test_a_late_answer_is_never_taken_for_that_of_the_next_call(
    valkey_url: str, client: redis.Redis
) -> None:
    pipelining = AutoPipelining(connect(valkey_url, 0.2).connection_pool)
    with pytest.raises(redis.TimeoutError):
        pipelining.call("BLPOP", "gate", 0)
    client.lpush("gate", "late")
    assert pipelining.call("ECHO", "mine") == b"mine"


class Interrupted(Exception):
    """What a signal's handler raises here."""


def interrupt(*_: object) -> None:
    raise Interrupted


def test_who_is_interrupted_while_waiting_holds_up_nobody(
    pipelining: AutoPipelining, threads: ThreadPoolExecutor, client: redis.Redis
) -> None:
    together(threads, pipelining, client)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interrupted):
            pipelining.call("ECHO", "never mind")
    finally:
        signal.signal(signal.SIGALRM, before)
    waiting = [threads.submit(pipelining.call, "ECHO", str(n)) for n in range(2)]
    eventually(lambda: len(pipelining._calls) == 2)
    client.lpush("gate", "open")
    assert [call.result(PATIENCE_SECONDS) for call in waiting] == [b"0", b"1"]


def test_who_is_interrupted_while_leading_holds_up_nobody(
    pipelining: AutoPipelining, threads: ThreadPoolExecutor, client: redis.Redis
) -> None:
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interrupted):
            pipelining.call("BLPOP", "gate", 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert threads.submit(pipelining.call, "ECHO", "x").result(PATIENCE_SECONDS) == b"x"


def test_a_script_is_sent_again_where_the_connection_broke(
    valkey_url: str, client: redis.Redis
) -> None:
    push = Scripts(connect(valkey_url, 60)).push
    for number in range(2):
        push(keys=["list", "wake", f"pushed-{number}"], args=["text", 60])
        client.client_kill_filter(_type="normal", skipme=True)
    assert client.llen("list") == 2


def test_a_script_that_redis_has_forgotten_is_loaded_again(
    valkey_url: str, client: redis.Redis
) -> None:
    push = Scripts(connect(valkey_url, 60)).push
    for number in range(2):
        push(keys=["list", "wake", f"pushed-{number}"], args=["text", 60])
        client.script_flush()
    assert client.llen("list") == 2


def test_where_nobody_listens_every_call_fails(threads: ThreadPoolExecutor) -> None:
    pipelining = AutoPipelining(connect("redis://127.0.0.1:1/0", 1).connection_pool)
    for call in [threads.submit(pipelining.call, "PING") for _ in range(6)]:
        with pytest.raises(redis.ConnectionError, match="refused"):
            call.result(PATIENCE_SECONDS)


def test_a_child_has_a_connection_of_its_own(pipelining: AutoPipelining) -> None:
    mine = pipelining.call("CLIENT", "ID")
    child = os.fork()
    if child == 0:
        os._exit(0 if pipelining.call("CLIENT", "ID") not in (mine, None) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert pipelining.call("CLIENT", "ID") == mine


def test_a_handler_of_signals_can_call_while_its_own_thread_is_in_a_call(
    valkey_url: str, client: redis.Redis, threads: ThreadPoolExecutor
) -> None:
    pipelining = AutoPipelining(connect(valkey_url, 60).connection_pool)
    refused: list[Exception] = []

    def handle(*_: object) -> None:
        try:
            pipelining.call("PING")
        except Undelivered as error:
            refused.append(error)
        client.lpush("gate", "open")

    def interrupt() -> None:
        eventually(lambda: client.info("clients")["blocked_clients"] == 1)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        threads.submit(interrupt)
        assert pipelining.call("BLPOP", "gate", 0) == [b"gate", b"open"]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(refused) == 1
    assert pipelining.call("PING")
