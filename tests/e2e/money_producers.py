"""A process of the tests of exact budgets: waits for the word to go, and then sends its share.

    python money_producers.py fleet COUNT THREADS              submits to the fleet
    python money_producers.py check_then_add COUNT THREADS LIMIT COST
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen

import redis

SPEND = "check-then-add:spend"

Outcome = tuple[str, float | None]


def fleet() -> Callable[[int], Outcome]:
    from fleet import Fleet
    from fleet.errors import OverBudget

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


def main() -> None:
    kind, count, threads, *numbers = sys.argv[1:]
    work = fleet() if kind == "fleet" else check_then_add(*map(int, numbers))
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(int(threads)) as pool:
        print(json.dumps(list(pool.map(work, range(int(count))))))


if __name__ == "__main__":
    main()
