"""A process that dies before or after any script that it calls, in any life that a task may have:
the task ends all the same, once; nothing stays held, and each call that a provider has served is
charged, once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from money_fleet import HERE, MoneyFleet, money_fleet
from money_life import Place

from fleet.ledger.rules.entries import CORRECTION
from fleet.tasks.record import ENDED
from fleet.tasks.rules import MAX_CRASHES

BUDGET = """
[budgets]
hourly_usd = 0.00288
over = "wait"
"""
"""Fits one task, thought to cost $0.002375, and no second beside it. Of one that may take 1400
tokens for an answer it fits one question, $0.002874 at worst, and none after that took $0.00002."""

SLOW_LIVES = (pytest.param(life, marks=pytest.mark.slow) for life in ("retried", "buried"))
LIVES = ("usual", "parked", "lost", *SLOW_LIVES)
NEVER_ASKED = {"lost": 1, "buried": MAX_CRASHES}
"""Steps that a life admits and nobody asks."""
QUESTIONS = 2
UNDER_WAY = {("admit", "after"), ("limit", "before"), ("limit", "after"), ("usage", "before")}
"""Deaths in a call of a model: its answer is lost, and the question is asked again. What an answer
shows of its model's limit is told before it is charged."""
SEVERAL = 2
"""Of the calls of one script in a life so many are tried: later ones are as the second one."""


class Lives:
    """Has lives lived, each in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def live(self, life: str, place: Place | None = None) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"life": life, "place": place}) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@pytest.fixture
def fleet(
    tmp_path: Path, clean_environment: pytest.MonkeyPatch, valkey_url: str, client: redis.Redis
) -> Iterator[MoneyFleet]:
    with money_fleet(tmp_path, clean_environment, valkey_url, BUDGET, dead_after=30) as found:
        yield found


@pytest.fixture
def lives(fleet: MoneyFleet) -> Iterator[Lives]:
    with subprocess.Popen(
        [sys.executable, str(HERE / "money_life.py")],
        env=fleet.crew.processes.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Lives(process)
        assert process.stdin is not None
        process.stdin.close()


def places(calls: list[str], tried: set[str]) -> Iterator[Place]:
    """Where to die: at the calls of the scripts that no other life has tried."""
    for script, count in Counter(calls).items():
        for number in range(1, 1 + (0 if script in tried else min(count, SEVERAL))):
            yield Place(script, number, "before")
            yield Place(script, number, "after")


def check(fleet: MoneyFleet, asked: int, never_asked: int, asked_again: int) -> None:
    """All has ended, and what was asked meanwhile is charged. What was charged is not asked again.

    Up to so many steps were admitted by a process that died before it could ask: they may have
    been asked, for all that is known, and are charged too.
    """
    records = fleet.crew.fleet.tasks()
    assert {record.state for record in records} <= ENDED
    assert fleet.nothing_is_held()
    fleet.check_the_ledger()
    entries = fleet.state.ledger.entries.page("0-0").entries
    calls = [(each.task, each.call) for each in entries if each.kind != CORRECTION]
    assert len(calls) == len(set(calls))
    answered = [each for each in records if any(call.answered for call in each.model_calls)]
    assert asked <= QUESTIONS * len(answered) + asked_again
    assert asked <= len(calls) <= asked + never_asked
    for record in records:
        charged = sum(each.amount for each in entries if each.task == record.id)
        assert record.cost_nanodollars == charged


@pytest.mark.timeout(600)
@pytest.mark.parametrize("life", LIVES)
def test_a_death_at_any_call_of_a_script_leaks_nothing_and_charges_nothing_twice(
    fleet: MoneyFleet, lives: Lives, client: redis.Redis, life: str
) -> None:
    tried = set() if life == "usual" else set(lives.live("usual")["calls"])
    client.flushall()
    began = fleet.fake.count()
    whole = lives.live(life)
    assert whole["ended"] == 0
    assert {"submit", "claim", "finish"} <= set(whole["calls"])
    lost = NEVER_ASKED.get(life, 0)
    check(fleet, fleet.fake.count() - began, lost, 0)
    for place in places(whole["calls"], tried):
        client.flushall()
        before = fleet.fake.count()
        assert lives.live(life, place)["ended"] == -signal.SIGKILL, place
        assert lives.live("recovery")["ended"] == 0, place
        try:
            again = int((place.script, place.when) in UNDER_WAY)
            check(fleet, fleet.fake.count() - before, lost + 1, again)
        except AssertionError as error:
            error.add_note(f"after a death {place.when} call {place.number} of {place.script}.lua")
            raise
