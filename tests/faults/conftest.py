"""Fleet and its own Valkey, broken by each test in a way of its own.

`make test-faults` runs them at length with FLEET_FAULTS=full, and prints what came of each row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The harness of the end-to-end tests, also where these are run alone.
sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from fake_provider import FakeProvider
from fleet_side import SHARED, FleetSide
from sides import FULL

FULL_SECONDS = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.faults)
            if FULL:
                item.add_marker(pytest.mark.timeout(FULL_SECONDS))


@pytest.fixture(scope="session")
def fleet_under_fire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetSide]:
    with FakeProvider() as fake, pytest.MonkeyPatch.context() as patch:
        side = FleetSide(tmp_path_factory.mktemp("faults"), fake, patch)
        try:
            yield side
        finally:
            side.stop()


@pytest.fixture
def side(fleet_under_fire: FleetSide) -> Iterator[FleetSide]:
    """The fleet; each test starts what it breaks, and leaves what others can use."""
    yield fleet_under_fire
    workers = fleet_under_fire.workers
    for name in {*workers.running, *workers.fallen()} - {*SHARED}:
        workers.kill(name)
