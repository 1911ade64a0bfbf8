"""Tasks of real workers while the keys of their provider are turned over, as the benchmark has it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def measured() -> Iterator[Any]:
    """The benchmark's `measured`, with an environment and a path of its own."""
    with patch.dict(os.environ), patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
        from rotation import measured

        yield measured


def check(found: Any, tasks: int) -> None:
    """The keys were turned over under load, and no task and no call noticed."""
    assert (found.failed, found.refused, found.cut) == (0, 0, 0), found.reasons
    assert found.tasks >= tasks and found.calls >= 2 * tasks
    assert found.versions_used > 2


def test_no_task_fails_and_no_call_is_refused_while_keys_are_turned_over(measured: Any) -> None:
    check(measured(tasks=60, turns=1), 60)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_tasks_while_every_key_is_turned_over_ten_times(measured: Any) -> None:
    check(measured(tasks=1000, turns=10), 1000)
