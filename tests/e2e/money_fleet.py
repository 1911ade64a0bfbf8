"""A fleet for the tests of the money: an agent that asks, and a fake provider with prices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_provider import FakeProvider
from harness import ROOT, Crew, Processes

from fleet import Fleet
from fleet.ledger.verification import verify
from fleet.tasks.connection import Connection

HERE = Path(__file__).parent
SLOTS = 8

CONFIG = """
[agent_types.asker]

[pools.asking]
agent_type = "asker"
slots = {slots}

[request_types.question]
agent_type = "asker"

[models]
escalate = false

[providers.fake]
base_url = "{url}"
key_variable = "FAKE_API_KEY"

[catalogue.dear]
provider = "fake"
quality = 0.9
speed = 0.9
input_price = 0.001
output_price = 0.002

[leases]
lease_seconds = 4
renew_seconds = 1
heartbeat_seconds = 1
dead_after_seconds = {dead_after}
reap_seconds = 1

[health]
failures_in_row = 1000
least_success = 0
"""


@dataclass(frozen=True)
class MoneyFleet:
    """Its client, its processes, and the provider that they ask."""

    crew: Crew
    fake: FakeProvider

    @property
    def state(self) -> Connection:
        return self.crew.fleet._connection

    def nothing_is_held(self) -> bool:
        reserved, book = self.state.budgets.usage.reserved(), self.state.budgets.usage.read()
        return not any((*reserved.all, *(each for held in book.held.values() for each in held)))

    def check_the_ledger(self) -> None:
        assert verify(self.state.ledger).differences == ()


@contextmanager
def money_fleet(
    folder: Path, patch: pytest.MonkeyPatch, valkey_url: str, budget: str = "", dead_after: int = 3
) -> Iterator[MoneyFleet]:
    """Nothing of it runs yet but the provider. `budget` is added to fleet.toml."""
    with FakeProvider() as fake:
        config = CONFIG.format(url=fake.base_url, slots=SLOTS, dead_after=dead_after) + budget
        (folder / "fleet.toml").write_text(config)
        added = {
            "FLEET_CONFIG": str(folder / "fleet.toml"),
            "FLEET_DATA_DIR": str(folder / "data"),
            "FLEET_BROKER_URL": valkey_url,
            "FAKE_API_KEY": "sk-secret",
            "PYTHONPATH": os.pathsep.join((str(HERE / "asker"), str(HERE), str(ROOT))),
        }
        for name, value in added.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(HERE / "asker"))
        processes = Processes(folder, dict(os.environ))
        try:
            yield MoneyFleet(Crew(Fleet.from_env(), processes), fake)
        finally:
            processes.stop_all()
