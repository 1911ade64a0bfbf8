"""How many tasks a second go through: Fleet's whole path against stock Celery's and others'.

Every side has two worker processes of 32 threads (taskiq and Fleet: of 32 coroutines at once) and
one process that sends, on one Valkey, in rounds that take turns. A task does nothing, or waits
50 ms; then it adds a byte to a file, whose size is the count, the same on every side.

    whole path       from the first submission until the last task has run
    full queue       the same without the sending: the workers stand still (SIGSTOP) meanwhile
    worker's CPU     of all worker processes of a side, for each task of a full queue
    share of ideal   of 50 ms waits: the time they would take if every slot always waited. In 64
                     slots, which take 1,280 tasks a second; and in 16, Fleet and stock Celery
                     alone, not with `--quick`

    Fleet            `submit_many`, 100 at a time; ranked, recorded, leased, its cost accounted,
                     its result kept. All settings at their defaults but the log's level
    celery           Redis transport, threads, acknowledged late, results ignored; `delay`
    celery, results kept   the same with its result backend: it then keeps what Fleet keeps
    dramatiq         Redis broker, the middleware that it comes with, no results; `send`
    taskiq           Redis streams, which acknowledge, no results; `kiq`, 100 awaited at a time
    huey             Redis, threads, no results, no acknowledgement; one call after the other

Dramatiq, taskiq and huey are wanted for this alone: `--rivals` installs them with pip, in fixed
versions, into build/rivals-venv. One that cannot be had is named. Without `--rivals` the run
compares with stock Celery, and says so.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from report import finish, medians, show
from throughput_parts.crew import Stuck
from throughput_parts.figures import absent, keyed, to_each
from throughput_parts.measure import Found, Size, measure
from throughput_parts.rivals import RIVALS, install_rivals
from throughput_parts.sides import OURS

STOPPED = 128 + signal.SIGTERM
FULL = Size(rounds=5, empty=2500, waits=60, waits_of_few=150)
QUICK = Size(rounds=1, empty=800, waits=12, waits_of_few=0)


def main() -> int:
    """Measure and report; 1 where the run got stuck."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    problems = install_rivals() if given.rivals else dict.fromkeys(RIVALS, "")
    missing = absent(given.rivals, tuple(RIVALS), problems)
    for name, reason in missing.items():
        print(f"{name}: {reason}", flush=True)
    present = tuple(name for name in RIVALS if name not in missing)
    try:
        found = measure(QUICK if given.quick else FULL, present)
    except Stuck as error:
        print(f"stuck: {error}", file=sys.stderr)
        return 1
    report(found, missing)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="end within a minute, less exactly")
    parser.add_argument(
        "--rivals", action="store_true", help="install dramatiq, taskiq and huey, and compare"
    )
    return parser.parse_args()


def report(found: Found, missing: Mapping[str, str]) -> None:
    show("empty tasks a second, whole path", found.whole)
    show("empty tasks a second, from a full queue", found.drain)
    show("microseconds of the workers' CPU for an empty task", found.cpu)
    show("50 ms waits in 64 slots, share of the ideal", found.waits)
    if found.waits_of_few:
        show("50 ms waits in 16 slots, share of the ideal", found.waits_of_few)
    whole, drain = to_each(found.whole, OURS), to_each(found.drain, OURS)
    show("empty tasks, whole path: Fleet's to each, round by round", whole)
    show("empty tasks, full queue: Fleet's to each, round by round", drain)
    for name, count in found.surplus.items():
        if count:
            print(f"{name}: {count} tasks ran a second time")
    ideal, of_few = medians(found.waits), medians(found.waits_of_few)
    finish(
        {
            **keyed("empty_to_", medians(whole)),
            "waits_of_ideal": ideal[OURS],
            **keyed("full_queue_to_", medians(drain)),
            **keyed("", medians(found.whole), "_per_second"),
            **keyed("", medians(found.cpu), "_cpu_us"),
            **keyed("", {n: share for n, share in ideal.items() if n != OURS}, "_waits_of_ideal"),
            **keyed("", of_few, "_waits_of_ideal_16_slots"),
            **{f"{name}_absent": reason for name, reason in missing.items()},
        }
    )


if __name__ == "__main__":
    sys.exit(main())
