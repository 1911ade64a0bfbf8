"""The master is killed under load while its replica lags behind: who is lost, and who is not."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fake_provider import FakeProvider
from fault_rows import Load, shown
from fleet_side import FleetSide
from sentinel_broker import SentinelBroker
from sides import await_ready, sized, until

from fleet.operations.health import broker_part

MAX_SECONDS_TO_GO_ON = 30.0


@pytest.fixture
def side(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetSide]:
    folder = tmp_path_factory.mktemp("failover")
    with FakeProvider() as fake, pytest.MonkeyPatch.context() as patch:
        found = FleetSide(folder, fake, patch, SentinelBroker(folder / "valkeys"))
        try:
            yield found
        finally:
            found.stop()


def test_a_failover_loses_what_the_replica_had_not_and_nothing_else(side: FleetSide) -> None:
    broker = side.broker
    for name in ("one", "two"):
        side.start(name)
    await_ready(side, "one", "two")
    load = Load(side, 0.2, 0.02)
    try:
        assert until(lambda: len(load.acknowledged) >= sized(40, 400), 120)
        safe = list(load.acknowledged)
        broker.servers.let_replica_catch_up()
        broker.servers.cut_replica_off()
        at_risk = len(load.acknowledged) + 10
        assert until(lambda: len(load.acknowledged) >= at_risk, 60)
        broker.kill()
        killed, before = time.monotonic(), len(load.acknowledged)
        assert until(lambda: len(load.acknowledged) > before, 60), load.refused[-1:]
        taken_again = time.monotonic()
        # What the old master had heard of an end, the new one may not have: it counts anew.
        side.ends.counts.clear()
        first_new = load.acknowledged[before]
        assert until(lambda: side.runs.of(first_new), 60)
        gone_on = time.monotonic()
        assert until(lambda: len(load.acknowledged) >= before + 20, 60)
    finally:
        load.end()
    states = {task: row[0] for task, row in side.brief(load.acknowledged).items()}
    lost = [task for task, state in states.items() if not state]
    had = [task for task, state in states.items() if state]
    side.await_ends(had, 60)
    told = {
        "acknowledged": len(load.acknowledged),
        "of which the replica had": len(had),
        "lost of those": len(had) - side.states(had)["succeeded"],
        "named as lost": len(lost),
        "submits again after s": round(taken_again - killed, 1),
        "works on after s": round(gone_on - killed, 1),
        "work done twice": side.runs.twice(load.acknowledged),
    }
    print(shown("failover", side, told))
    assert gone_on - killed <= MAX_SECONDS_TO_GO_ON
    assert lost, "the replica was cut off: what was submitted then is lost"
    assert set(lost).isdisjoint(safe)
    told = {type(error).__name__ for error in load.refused}
    assert told <= {"Unavailable", "NoAgentAvailable", "PartlySubmitted"}
    assert side.states(had) == {"succeeded": len(had)}
    assert side.workers.fallen() == []
    side.check(had)
    part = broker_part(side.fleet.settings)
    assert part.ok and part.where.startswith("master fleet of the Sentinels 127.0.0.1:")
