"""A client that was made before a fork, as those of prefork workers are."""

from __future__ import annotations

import os
import signal
import threading

from fleet.redis.client import connect


def test_a_child_can_ask_redis_though_a_thread_was_taking_a_connection_at_the_fork(
    valkey_url: str,
) -> None:
    client = connect(valkey_url, 5)
    client.ping()
    holds, forked = threading.Event(), threading.Event()

    def take_a_connection() -> None:
        with client.connection_pool._lock:
            holds.set()
            forked.wait(60)

    thread = threading.Thread(target=take_a_connection)
    thread.start()
    assert holds.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if client.ping() else 1)
    forked.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert client.ping()
    client.close()
