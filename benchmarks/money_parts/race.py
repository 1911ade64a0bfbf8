"""A thousand requests at once, from eight processes, for a budget of a day that fits 137."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from submit import make_fleet

from fleet import Fleet
from fleet.money import NANODOLLARS
from money_parts.producer import COMPLEXITY, PAYLOAD

HERE = Path(__file__).resolve().parent
PROCESSES, REQUESTS, FIT = 8, 1000, 137
CALL_SECONDS = 0.02
"""How long the gateway's model takes to answer: a short call, which leaves little time to err."""

# The model is never asked, so it needs no address that answers.
CONFIG = """
[pools.codegen]
agent_type = "code_generator"
slots = 1000

[providers.nobody]
base_url = "http://127.0.0.1:9/v1"
key_variable = "NOBODY_API_KEY"

[catalogue.dear]
provider = "nobody"
quality = 0.9
speed = 0.9
input_price = 0.001
output_price = 0.002
"""
BUDGET = """
[budgets]
daily_usd = {dollars!r}
over = "refuse"
"""


def admitted(client: redis.Redis, url: str, folder: Path) -> dict[str, int]:
    """How many requests each side lets through: Fleet, and a gateway that reserves nothing."""
    os.environ["NOBODY_API_KEY"] = "none"
    cost = estimate(client, url, folder)
    make_fleet(folder, url, CONFIG + BUDGET.format(dollars=FIT * cost / NANODOLLARS))
    found = {}
    for side in ("fleet", "check_then_add"):
        with producers(side, FIT * cost, cost) as started:
            start_agents(client)
            found[side] = race(started)
    return found


def estimate(client: redis.Redis, url: str, folder: Path) -> int:
    """What Fleet thinks that one of the requests will cost, in nano-dollars."""
    fleet = make_fleet(folder, url, CONFIG)
    start_agents(client, fleet)
    task = fleet.submit("code_generation", PAYLOAD, complexity=COMPLEXITY)
    return task.model_decision.best.cost_nanodollars


def start_agents(client: redis.Redis, fleet: Fleet | None = None) -> None:
    """An empty Valkey, but for an agent that takes nothing."""
    client.flushall()
    agents = (fleet or Fleet.from_env())._connection.routing.agents
    agents.register("codegen-1", "codegen", 1000, {})


@contextmanager
def producers(side: str, limit: int, cost: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that have loaded all they need, and wait for the word to go."""
    command = [sys.executable, str(HERE / "producer.py"), side, str(REQUESTS // PROCESSES)]
    command += [str(limit), str(cost), str(CALL_SECONDS)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    try:
        for each in started:
            assert each.stdout is not None
            if each.stdout.readline() != "ready\n":
                raise SystemExit(f"a producer of {side} did not start")
        yield started
    finally:
        for each in started:
            each.kill()
            each.wait()


def race(started: list[subprocess.Popen[str]]) -> int:
    """How many requests were let through in all."""
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    return sum(int(each.communicate(timeout=120)[0]) for each in started)
