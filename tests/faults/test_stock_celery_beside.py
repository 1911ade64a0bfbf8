"""Some of the faults done to stock Celery too, so that the figures can stand side by side.

Nothing is asserted of them but that they were taken. Long, and no test of Fleet's: so they are
taken by `make test-faults` alone, which sets FLEET_FAULTS_STOCK.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fault_rows
import pytest
from fault_rows import Figures, shown
from sides import StockCelery, sized

pytestmark = [
    pytest.mark.skipif(
        not os.environ.get("FLEET_FAULTS_STOCK"), reason="`make test-faults` takes these figures"
    ),
    pytest.mark.timeout(900),
]

VISIBILITY_SECONDS = 6.0
QUIET = 130.0
"""Stock Celery looks for what was not acknowledged every 100 s or so."""


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[StockCelery]:
    side = StockCelery(tmp_path, VISIBILITY_SECONDS)
    yield side
    side.stop()


def took(row: str, side: StockCelery, figures: Figures) -> None:
    print(shown(row, side, figures))
    assert figures["ids"]


def test_stock_celery_with_killed_workers(stock: StockCelery) -> None:
    count, kills = int(sized(400, 30_000)), int(sized(4, 60))
    found = fault_rows.kill_workers(stock, lambda: stock.send(count, 0.02), kills, QUIET)
    took("worker killed", stock, found)


def test_stock_celery_with_a_killed_child(stock: StockCelery) -> None:
    took("pool child killed", stock, fault_rows.kill_child(stock, QUIET))


def test_stock_celery_with_a_redelivery(stock: StockCelery) -> None:
    took("redelivery", stock, fault_rows.redeliver(stock, 16, 40))


def test_stock_celery_with_a_stalled_holder(stock: StockCelery) -> None:
    took("stalled holder", stock, fault_rows.stall(stock, QUIET))


def test_stock_celery_with_valkey_killed(stock: StockCelery) -> None:
    took("Valkey killed", stock, fault_rows.kill_valkey(stock, int(sized(1, 5)), QUIET))


def test_stock_celery_with_valkey_away_at_the_end(stock: StockCelery) -> None:
    found = fault_rows.valkey_away_at_the_end(stock, int(sized(24, 200)), 5, QUIET)
    took("Valkey away at the end", stock, found)
