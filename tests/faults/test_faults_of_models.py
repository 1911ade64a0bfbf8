"""Servers of models that do not do what they are asked."""

from __future__ import annotations

from fake_provider import answer
from fault_rows import shown
from fleet_side import FleetSide
from sides import await_ready

from fleet import Submission
from fleet.budgets.rules.alerts import LimitAlert

CALLS = 20
BUDGET = 200_000_000
"""Nano-dollars of tenant heedful a day: ten times what 20 calls of 100 tokens cost, and a quarter
of what 20 of those cost that the server makes."""

WRITES = answer("word " * 3000, 20, 4096)


def test_a_server_that_ignores_the_limit_overspends_no_budget(side: FleetSide) -> None:
    for name in ("one", "two"):
        side.start(name)
    await_ready(side, "one", "two")
    side.fake.script("heedless", *[WRITES] * CALLS)
    asked = Submission(
        "labor", {"ask": True}, "heedful", pool="threads", model="heedless", complexity=0.0
    )
    tasks = [task.id for task in side.fleet.submit_many([asked] * CALLS)]
    side.await_ends(tasks, 120)
    spent = sum(row[2] for row in side.brief(tasks).values())
    calls, states = side.fake.count("heedless"), side.states(tasks)
    alerts = [each for each in side.fleet.alerts() if isinstance(each, LimitAlert)]
    figures = {"calls": calls, "budget": f"{spent / BUDGET:.0%}", "alerts": len(alerts)}
    print(shown("limit ignored", side, {"tasks": CALLS, **figures, "states": dict(states)}))
    assert 1 <= calls < CALLS
    assert 0 < spent <= BUDGET
    assert [each.scope for each in alerts] == ["model:heedless"]
    side.check(tasks)
