"""A worker in a cluster: it lives while Redis is away, and a one-shot worker ends by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Processes, eventually
from tcp_proxy import Proxy


@pytest.fixture
def worker(tmp_path: Path, proxy: Proxy) -> Iterator[Processes]:
    environment = {
        "PATH": os.environ["PATH"],
        "FLEET_BROKER_URL": f"redis://127.0.0.1:{proxy.port}/0",
        "FLEET_NAMESPACE": "idle",
        "FLEET_SOCKET_TIMEOUT": "1",
        "FLEET_IDLE_SECONDS": "6",
    }
    found = Processes(tmp_path, environment)
    yield found
    found.stop_all()


def test_an_idle_worker_lives_while_redis_is_away_and_then_ends_by_itself(
    worker: Processes, proxy: Proxy, tmp_path: Path
) -> None:
    alive = tmp_path / ".fleet" / "alive" / "worker"
    process = worker.start("codegen", "worker", "codegen")
    eventually(alive.exists, what=worker.log("codegen"))
    proxy.drop_packets()
    alive.unlink()
    eventually(alive.exists, what="Redis is away, and the worker shows no more that it lives")
    assert process.poll() is None
    proxy.heal()
    eventually(lambda: process.poll() is not None, what="the worker does not end")
    assert process.returncode == 0
    assert "idle for long enough" in worker.log("codegen")
