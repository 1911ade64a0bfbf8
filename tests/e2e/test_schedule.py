"""Delayed tasks in a real worker, with no beat, and across a restart of all that runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from fake_provider import hang
from harness import eventually
from money_fleet import MoneyFleet, money_fleet

from fleet.broker.app import make_app


@pytest.fixture
def asking(
    tmp_path: Path,
    clean_environment: pytest.MonkeyPatch,
    valkey_url: str,
    client: redis.Redis,
) -> Iterator[MoneyFleet]:
    with money_fleet(tmp_path, clean_environment, valkey_url) as found:
        found.crew.start_worker("asking")
        yield found


def test_a_worker_queues_what_is_due_though_there_is_no_beat(asking: MoneyFleet) -> None:
    fleet = asking.crew.fleet
    tasks = [fleet.submit("question", {}, delay=delay) for delay in (2.0, 0.5, 1.2)]
    app = make_app(fleet.settings)
    sent = app.send_task("agents.asker", args=[{}], countdown=1)
    tasks.append(fleet.task(sent.id))
    for task in tasks:
        record = task.wait(timeout=20)
        assert record.state == "succeeded"
        assert record.not_before is not None and record.started is not None
        assert record.started >= record.not_before
        assert record.attempts == 1
    late = [r.started - r.not_before for r in (t.record() for t in tasks)]  # type: ignore[operator]
    # Queued within half a second on a quiet machine, and started by a worker that was woken.
    assert min(late) < 5


def test_a_delayed_task_outlives_the_worker_that_there_was(asking: MoneyFleet) -> None:
    fleet, processes = asking.crew.fleet, asking.crew.processes
    task = fleet.submit("question", {}, delay=1.5)
    processes.signal("asking", signal.SIGKILL)
    processes.running.pop("asking").wait()
    assert task.state() == "delayed"
    asking.crew.start_worker("asking")
    assert task.wait(timeout=20).state == "succeeded"


def test_a_killed_workers_task_runs_again_though_there_is_no_beat(asking: MoneyFleet) -> None:
    fleet, processes = asking.crew.fleet, asking.crew.processes
    asking.fake.script("dear", hang())
    task = fleet.submit("question", {})
    eventually(lambda: asking.fake.count("dear") == 1, what="the task asks its model")
    processes.signal("asking", signal.SIGKILL)
    processes.running.pop("asking").wait()
    asking.crew.start_worker("asking")
    record = task.wait(timeout=20)
    assert (record.state, record.attempts) == ("succeeded", 2)
