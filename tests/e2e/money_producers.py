"""The processes of the tests of exact budgets: each is made ready, then all send their shares.

    python money_producers.py fleet PROCESSES COUNT THREADS              submits to the fleet
    python money_producers.py check_then_add PROCESSES COUNT THREADS LIMIT COST

They are forks of one process, so that what they use is imported once. It prints all outcomes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

import redis

from fleet import Fleet
from fleet.errors import OverBudget

SPEND = "check-then-add:spend"

Outcome = tuple[str, float | None]


def fleet() -> Callable[[int], Outcome]:
    found = Fleet.from_env()

    def submit(number: int) -> Outcome:
        try:
            return found.submit("question", {}, complexity=0.5).id, None
        except OverBudget as error:
            return "", error.retry_after

    return submit


def check_then_add(limit: int, cost: int) -> Callable[[int], Outcome]:
    """As gateways do that reserve nothing, after LiteLLM's proxy (`hooks/max_budget_limiter.py`):
    before the call the spend so far is read, and the request refused if it has reached the budget;
    what the call has cost is added once the answer is there."""
    client = redis.Redis.from_url(os.environ["FLEET_BROKER_URL"])
    body = json.dumps({"model": "dear", "messages": []}).encode()

    def call(number: int) -> Outcome:
        if int(client.get(SPEND) or 0) >= limit:
            return "", None
        url = os.environ["FAKE_URL"] + "/chat/completions"
        with urlopen(Request(url, body)) as answer:
            answer.read()
        client.incrby(SPEND, cost)
        return "called", None

    return call


def produce(all_ready: Any, outcomes: Any, kind: str, count: int, threads: int, *of: int) -> None:
    """One process: put what became of its share among the outcomes."""
    work = fleet() if kind == "fleet" else check_then_add(*of)
    all_ready.wait()
    with ThreadPoolExecutor(threads) as pool:
        outcomes.put(list(pool.map(work, range(count))))


def main() -> None:
    kind, processes, *numbers = sys.argv[1], *map(int, sys.argv[2:])
    forks = multiprocessing.get_context("fork")
    all_ready, outcomes = forks.Barrier(processes), forks.SimpleQueue()
    shared = (all_ready, outcomes, kind, *numbers)
    for _ in range(processes):
        forks.Process(target=produce, args=shared, daemon=True).start()
    print(json.dumps([each for _ in range(processes) for each in outcomes.get()]))


if __name__ == "__main__":
    main()
