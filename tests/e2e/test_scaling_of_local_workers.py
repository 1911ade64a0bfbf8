"""`fleet up` starts workers when tasks come, and ends them without cutting a run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import ROOT, eventually
from test_up_down import Place, make_place

from fleet import Fleet
from fleet.client import Task
from fleet.errors import NoAgentAvailable, RetryLater
from fleet.local.run_file import running
from fleet.scaling.administration import PoolSize

PATIENCE = 90.0
CONFIG = """
[agent_types.napper]

[pools.naps]
agent_type = "napper"
slots = 1
min = 0
max = 2

[request_types.nap]
agent_type = "napper"

[leases]
heartbeat_seconds = 1

[scaling]
seconds = 1
"""
# What the test does not need.
PROCFILE = "flower: exec sleep 600\nops: exec sleep 600\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = make_place(tmp_path)
    (place.folder / "fleet.toml").write_text(CONFIG)
    (place.folder / "Procfile").write_text(PROCFILE)
    napper = Path(__file__).parent / "napper"
    monkeypatch.syspath_prepend(str(napper))
    place.environment["PYTHONPATH"] = os.pathsep.join((str(napper), str(ROOT)))
    place.environment["FLEET_MODEL_URL"] = "http://127.0.0.1:1/v1"
    for name in [name for name in os.environ if name.startswith("FLEET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(place.folder)
    process = place.start()
    try:
        eventually(lambda: running(place.folder / ".fleet"), PATIENCE, "a run file")
        yield place
    finally:
        process.terminate()
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def size(fleet: Fleet) -> PoolSize:
    (found,) = fleet.sizes()
    return found


def submitted(fleet: Fleet, seconds: float) -> Task:
    """A task, as soon as beat has said that a worker would be started for it."""
    found: list[Task] = []

    def is_accepted() -> bool:
        try:
            found.append(fleet.submit("nap", {"seconds": seconds}))
        except (NoAgentAvailable, RetryLater):
            return False
        return True

    eventually(is_accepted, PATIENCE, "a pool that takes tasks")
    return found[0]


def test_a_pool_grows_from_zero_and_shrinks_again_without_cutting_a_run(place: Place) -> None:
    fleet = Fleet.from_env()
    first = submitted(fleet, 0)
    wait = fleet.start_wait("napper")
    assert wait is None or wait.queued == 1
    assert first.wait(PATIENCE).state == "succeeded"

    fleet.set_size("naps", 2)
    eventually(lambda: size(fleet).ready == 2, PATIENCE, "two workers")
    naps = [submitted(fleet, 4) for _ in range(2)]
    eventually(lambda: size(fleet).running == 2, PATIENCE, "two naps to begin")
    fleet.set_size("naps", 0)
    eventually(lambda: size(fleet).draining == 2, PATIENCE, "two workers to be drained")
    assert [nap.state() for nap in naps] == ["running", "running"]
    assert "sending SIGTERM to naps" not in place.log()
    for nap in naps:
        record = nap.wait(PATIENCE)
        assert (record.state, record.attempts, record.crashes) == ("succeeded", 1, 0)
    eventually(lambda: place.log().count("stopped (rc=0)") == 2, PATIENCE, "their end")
    assert [agent for agent in fleet.agents() if agent.status != "failed"] == []
    log = place.log()
    assert "SIGKILL" not in log and "restarting" not in log

    assert fleet.clear_size("naps")
    assert submitted(fleet, 0).wait(PATIENCE).state == "succeeded"
    changes = [(entry.before, entry.workers) for entry in fleet.scaling_history()]
    assert (2, 0) in changes
