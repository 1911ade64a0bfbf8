"""Tasks that wait for room under a budget: a real worker and beat bring them back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from fake_provider import answer, held
from harness import eventually, task_of
from money_fleet import MoneyFleet, money_fleet

from fleet import Task
from fleet.broker.app import Role, make_app
from fleet.errors import ResultTimeout

BUDGET = '[budgets]\ndaily_usd = 0.003\nover = "wait"\n'
USED = answer("hi", 74, 100)
"""What a question takes at its worst: $0.000274. A task is thought to take $0.002375."""


@pytest.fixture
def asking(
    tmp_path: Path,
    clean_environment: pytest.MonkeyPatch,
    valkey_url: str,
    client: redis.Redis,
) -> Iterator[MoneyFleet]:
    with money_fleet(tmp_path, clean_environment, valkey_url, BUDGET) as found:
        found.crew.processes.start("beat", "beat")
        found.crew.start_worker("asking")
        yield found
        eventually(found.nothing_is_held, what="nothing to be held")
        found.check_the_ledger()


def fleet(asking: MoneyFleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    return asking.crew.processes.fleet(*arguments)


def told(asking: MoneyFleet, *arguments: str) -> Any:
    return json.loads(fleet(asking, *arguments, "--json").stdout)


def ask(asking: MoneyFleet, questions: int) -> Task:
    return asking.crew.fleet.submit("question", {"questions": questions}, complexity=0.5)


def raise_the_limit(asking: MoneyFleet) -> None:
    asking.crew.fleet.set_limits("all", {"daily_usd": 1}, why="there is more")


def test_a_task_that_does_not_fit_waits_until_a_raised_limit_lets_beat_queue_it(
    asking: MoneyFleet,
) -> None:
    asking.fake.script("dear", *[USED] * 4)
    assert ask(asking, 4).wait(20).state == "succeeded"

    wanted = ("submit", "question", "--set", "questions=2", "--complexity", "0.5")
    submitted = fleet(asking, *wanted, "--priority", "3")
    task = asking.crew.fleet.task(submitted.stdout.strip())
    why = (
        "Budget exceeded for the whole fleet: limit $0.003 per UTC day, $0.001096 spent, "
        "$0 reserved, $0.002375 requested"
    )
    assert submitted.stderr.startswith("on hold until about ")
    assert why in submitted.stderr

    shown = told(asking, "task", task.id)
    assert (shown["state"], shown["waits_for"]["sentence"]) == ("parked", why)
    assert shown["waits_for"]["until"] > shown["submitted"]
    assert why in " ".join(fleet(asking, "explain", task.id).stdout.split())
    assert "parked to 20" in fleet(asking, "tasks", "--state", "parked").stdout
    parts = {part["name"]: part["where"] for part in told(asking, "status")["parts"]}
    assert parts["parked"] == "1 task"
    with pytest.raises(ResultTimeout, match="waits for room under a limit"):
        task.wait(0.1)

    raise_the_limit(asking)
    assert task.wait(30).state == "succeeded"
    assert told(asking, "task", task.id)["waits_for"] is None


def test_what_plain_celery_waits_for_is_no_result_of_a_run_that_parked(asking: MoneyFleet) -> None:
    asking.fake.script("dear", held(USED))
    app = make_app(asking.crew.fleet.settings, Role("", ""))
    sent = app.send_task("agents.asker", args=[{"questions": 2}], kwargs={"complexity": 0.5})
    task = task_of(asking.state, sent.id)
    asking.fake.wait_for("dear", timeout=20)
    asking.crew.fleet.set_limits("all", {"daily_usd": 0.0005}, why="it gets tight")
    asking.fake.let_go()
    eventually(lambda: task.state() == "parked", what="the task to park")
    assert sent.state == "STARTED"

    raise_the_limit(asking)
    assert sent.get(timeout=30) == {"answers": 2}
    assert (task.state(), task.record().attempts) == ("succeeded", 2)
