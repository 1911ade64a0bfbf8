"""A fleet of one pool and a beat on a given Redis, for the tests of what a fleet stands on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import ROOT, Crew, Processes

from fleet import Fleet

HERE = Path(__file__).parent
POOL = "naps"

CONFIG = """
[agent_types.napper]

[pools.naps]
agent_type = "napper"
slots = 2

[request_types.nap]
agent_type = "napper"

[leases]
lease_seconds = 6
renew_seconds = 1
heartbeat_seconds = 1
dead_after_seconds = 5
reap_seconds = 1

[health]
failures_in_row = 1000
least_success = 0
slow_factor = 1000
"""


@contextmanager
def small_crew(
    folder: Path,
    addresses: dict[str, str],
    more: str = "",
    url_of: Callable[[str], str] | None = None,
) -> Iterator[Crew]:
    """`addresses` are variables FLEET_*, `more` is added to the configuration. `url_of` gives the
    address of the broker for a Redis role."""
    (folder / "fleet.toml").write_text(CONFIG + more)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FLEET_")}
    environment = {
        **kept,
        **addresses,
        "FLEET_CONFIG": str(folder / "fleet.toml"),
        "FLEET_DATA_DIR": str(folder / "data"),
        "PYTHONPATH": os.pathsep.join((str(HERE / "napper"), str(ROOT))),
    }
    processes = Processes(folder, environment, url_of=url_of)
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("FLEET_"):
                patch.delenv(name)
        for name, value in environment.items():
            if name.startswith("FLEET_"):
                patch.setenv(name, value)
        patch.syspath_prepend(str(HERE / "napper"))
        crew = Crew(Fleet.from_env(), processes)
        try:
            processes.start("beat", "beat")
            processes.start(POOL, "worker", POOL)
            crew.await_pool(POOL)
            yield crew
        finally:
            processes.stop_all()
