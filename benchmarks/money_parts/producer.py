"""A process that sends its share of the requests when it is told to, and counts what passed.

    python producer.py fleet|check_then_add COUNT LIMIT COST CALL_SECONDS
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import redis

THREADS = 4
PAYLOAD = {"instruction": "Write a Python function that merges two sorted lists into one."}
COMPLEXITY = 0.5
SPEND = "check-then-add:spend"


def fleet() -> Callable[[int], bool]:
    """Submits to the fleet."""
    from fleet import Fleet
    from fleet.errors import OverBudget

    found = Fleet.from_env()

    def submit(_: int) -> bool:
        try:
            found.submit("code_generation", PAYLOAD, complexity=COMPLEXITY)
        except OverBudget:
            return False
        return True

    return submit


def check_then_add(limit: int, cost: int, call_seconds: float) -> Callable[[int], bool]:
    """As gateways do that reserve nothing: the spend so far is read, and the request refused if it
    has reached the budget; what the call has cost is added once the answer is there."""
    client = redis.Redis.from_url(os.environ["FLEET_BROKER_URL"])

    def call(_: int) -> bool:
        if int(client.get(SPEND) or 0) >= limit:
            return False
        time.sleep(call_seconds)
        client.incrby(SPEND, cost)
        return True

    return call


def main() -> None:
    side, count, limit, cost, call_seconds = sys.argv[1:]
    if side == "fleet":
        work = fleet()
    else:
        work = check_then_add(int(limit), int(cost), float(call_seconds))
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(THREADS) as pool:
        print(sum(pool.map(work, range(int(count)))))


if __name__ == "__main__":
    main()
