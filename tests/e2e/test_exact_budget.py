"""A budget that fits 137 tasks lets 137 in: from eight processes at once, and with workers that
are killed while they spend it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
from harness import eventually
from money_fleet import HERE, SLOTS, MoneyFleet, money_fleet
from money_producers import SPEND

from fleet import Task
from fleet.errors import OverBudget
from fleet.money import NANODOLLARS
from fleet.tasks.record import ENDED

PROCESSES, THREADS, REQUESTS, FIT = 8, 4, 1000, 137
QUESTIONS = {"questions": 4}
KILLS = 3
ESTIMATE = 2_375_000
"""What a task of complexity 0.5 is thought to cost: 300 tokens to read and 800 to write, each times
0.5 + 1.5 x 0.5, at 1 and 2 dollars a million."""


@pytest.fixture
def asking(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    clean_environment: pytest.MonkeyPatch,
    valkey_url: str,
    client: redis.Redis,
) -> Iterator[MoneyFleet]:
    """A fleet whose budget of a day fits as many tasks, to the nano-dollar. An agent is dead there
    after so many seconds."""
    budget = f"[budgets]\ndaily_usd = {FIT * ESTIMATE / NANODOLLARS!r}\n"
    with money_fleet(tmp_path, clean_environment, valkey_url, budget, request.param) as found:
        # It is there, and takes nothing.
        found.state.routing.agents.register("asking-1", "asking", 8, {})
        yield found


dead_after = partial(pytest.mark.parametrize, "asking", indirect=True)


def produce(asking: MoneyFleet, *arguments: str) -> list[tuple[str, float | None]]:
    """What became of all requests, sent by all processes at once."""
    kind, *rest = arguments
    numbers = (PROCESSES, REQUESTS // PROCESSES, THREADS, *rest)
    producers = subprocess.run(
        [sys.executable, str(HERE / "money_producers.py"), kind, *map(str, numbers)],
        env={**asking.crew.processes.environment, "FAKE_URL": asking.fake.base_url},
        cwd=asking.crew.processes.folder,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    return [(name, wait) for name, wait in json.loads(producers.stdout)]


@dead_after([60], ids=["60s"])
def test_of_a_thousand_submits_from_eight_processes_exactly_as_many_are_let_in_as_fit(
    asking: MoneyFleet, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    state, fleet = asking.state, asking.crew.fleet
    outcomes = produce(asking, "fleet")
    admitted = [task_id for task_id, _ in outcomes if task_id]
    waits = [wait for task_id, wait in outcomes if not task_id]
    assert (len(admitted), len(waits)) == (FIT, REQUESTS - FIT)
    assert all(wait is not None and 0 < wait <= 86_400 for wait in waits)
    for scope in ("all", "tenant:default", "agent_type:asker", "model:dear"):
        held = state.budgets.usage.scope_usage([scope])[scope].held
        assert (held.amount, held.tasks) == (FIT * ESTIMATE, FIT)
    asking.check_the_ledger()
    with pytest.raises(OverBudget, match="reserved"):
        fleet.submit("question", {}, complexity=0.5)

    for task_id in admitted:
        assert fleet.task(task_id).cancel() == "queued"
    assert asking.nothing_is_held()
    asking.check_the_ledger()

    limit = FIT * ESTIMATE
    others = produce(asking, "check_then_add", str(limit), str(ESTIMATE))
    let_through = sum(1 for name, _ in others if name)
    with capsys.disabled():
        print(f"\n{REQUESTS} requests, room for {FIT}: Fleet {len(admitted)}, "
              f"check-then-add {let_through}")
    assert let_through > FIT
    assert int(client.get(SPEND) or 0) > limit


def ask(asking: MoneyFleet) -> Task:
    """Submit a task, to an agent that has just given a sign of life."""
    asking.state.routing.agents.heartbeat("asking-1", "asking", 0, SLOTS)
    return asking.crew.fleet.submit("question", QUESTIONS, complexity=0.5)


@dead_after([3], ids=["3s"])
def test_workers_that_are_killed_at_any_moment_neither_overspend_nor_leave_anything_held(
    asking: MoneyFleet,
) -> None:
    crew, fake, dice = asking.crew, asking.fake, random.Random(137)
    tasks = [ask(asking) for _ in range(FIT)]
    with pytest.raises(OverBudget):
        ask(asking)
    crew.processes.start("beat", "beat")
    for _ in range(KILLS):
        crew.processes.start("asking", "worker", "asking")
        fake.wait_for("dear", fake.count("dear") + dice.randrange(1, 60), timeout=30)
        time.sleep(dice.random() * 0.05)
        crew.processes.signal("asking", signal.SIGKILL)
    assert any(task.state() == "running" for task in tasks)
    crew.processes.start("asking", "worker", "asking")
    eventually(lambda: all(task.state() in ENDED for task in tasks), 120, "every task to end")
    assert asking.nothing_is_held()
    asking.check_the_ledger()
    spent = asking.state.budgets.usage.scope_usage(["all"])["all"].settled["day"]
    assert 0 < spent.amount <= FIT * ESTIMATE
    # What was asked is charged, and beside it what a killed worker was about to ask.
    asked = fake.count("dear")
    assert asked <= spent.requests <= asked + KILLS * SLOTS
    assert {task.record().model_call_count for task in tasks} >= {QUESTIONS["questions"]}
