"""A worker of processes grows and shrinks while it runs, and cuts no run."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from harness import ROOT, eventually
from test_up_down import Place, make_place

from fleet import Fleet
from fleet.errors import RetryLater
from fleet.local.run_file import running
from fleet.routing.agents_store import AgentRecord

PATIENCE = 90.0
CONFIG = """
[agent_types.napper]

[pools.naps]
agent_type = "napper"
execution = "prefork"
slots = 2
min = 1
max = 3

[request_types.nap]
agent_type = "napper"

[leases]
heartbeat_seconds = 1

[scaling]
seconds = 1
actuator = "pool"
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


def live(fleet: Fleet) -> list[AgentRecord]:
    try:
        return [agent for agent in fleet.agents() if agent.status in ("idle", "busy")]
    except RetryLater:
        return []


def children(fleet: Fleet) -> int:
    (pid,) = {agent.pid for agent in live(fleet)}
    return sum(each.status() != psutil.STATUS_ZOMBIE for each in psutil.Process(pid).children())


def test_a_worker_grows_by_processes_and_ends_them_when_they_are_idle(place: Place) -> None:
    fleet = Fleet.from_env()
    eventually(lambda: len(live(fleet)) == 1, PATIENCE, "the worker")
    assert children(fleet) == 2

    fleet.set_size("naps", 3)
    eventually(lambda: len(live(fleet)) == 3, PATIENCE, "two parts more")
    (first, *parts) = sorted(agent.id for agent in live(fleet))
    assert all(re.fullmatch(r"naps-\d+(\.\d+)?@.+", agent) for agent in (first, *parts))
    naps = [fleet.submit("nap", {"seconds": 4, "note": str(number)}) for number in range(6)]
    eventually(
        lambda: [nap.state() for nap in naps] == ["running"] * 6, PATIENCE, "six naps at once"
    )
    assert children(fleet) == 6

    fleet.set_size("naps", 1)
    for nap in naps:
        record = nap.wait(PATIENCE)
        assert (record.state, record.attempts, record.crashes) == ("succeeded", 1, 0)
    eventually(lambda: children(fleet) == 2, PATIENCE, "the end of four processes")
    assert [agent.pid for agent in fleet.agents()] == [live(fleet)[0].pid]
    assert fleet.submit("nap", {"seconds": 0}).wait(PATIENCE).state == "succeeded"
