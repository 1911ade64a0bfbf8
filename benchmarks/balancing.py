"""How long real tasks wait: Fleet's default balancing against stock Celery's, in one run.

Each pool is one real worker process with threads, on either side: pools of mixed sizes and
speeds. The tasks are real waits of log-normal length (CV 2) that arrive at random (Poisson)
with a load of 0.85. Every side gets the same tasks at the same moments, on one Valkey, in
rounds that take turns. A wait is the time from just before the submission until the task's
first line, by one clock, written down by the task itself on both sides.

    Fleet            `Fleet.submit`, all settings at their defaults
    round robin      stock Celery, a queue for each pool, `apply_async(queue=...)` in turn.
                     It gives the small pools more than they can do, so that their queues
                     grow for as long as the round lasts
    by capacity      the same, but each queue's share is the pool's slots times its speed,
                     which the publisher has to know: Fleet is not told the speeds
    shared queue     the same workers, all tasks in one queue: what no balancing beats by much

Stock Celery is set up as its documentation recommends for tasks that take long: acknowledged
late, `worker_prefetch_multiplier=1`, results ignored. No beat runs on either side. The load
leaves the cores idle for most of the time; how much of them was used is shown, since a wait
for a core would count as one for a slot.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from balancing_parts.load import LOAD, POOLS, QUICK_POOLS
from balancing_parts.measure import OURS, Side, Size, measure
from balancing_parts.rounds import Stuck
from balancing_parts.waits import Figures, figures
from report import Samples, arguments, finish, medians, show

STOPPED = 128 + signal.SIGTERM
FULL = Size(POOLS, rounds=3, tasks=2000, mean_work=0.25)
QUICK = Size(QUICK_POOLS, rounds=1, tasks=120, mean_work=0.2)


def main() -> int:
    """Measure and report; 1 where the run got stuck."""
    size = QUICK if arguments(__doc__ or "").quick else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    try:
        sides = measure(size)
    except Stuck as error:
        print(f"stuck: {error}", file=sys.stderr)
        return 1
    report(size, sides)
    return 0


def report(size: Size, sides: dict[str, Side]) -> None:
    slots = sum(pool.slots for pool in size.pools)
    print(
        f"{len(size.pools)} pools of {', '.join(f'{p.slots} x {p.speed:g}' for p in size.pools)} "
        f"(slots x speed), {slots} slots; work {size.mean_work:g} s on average, load {LOAD:g}; "
        f"{size.rounds} rounds of {size.tasks} tasks for each side."
    )
    found = {name: [figures(runs, slots) for runs in side.runs] for name, side in sides.items()}
    show("p99 of the wait, seconds", each(found, attrgetter("p99")))
    show("mean wait, seconds", each(found, attrgetter("mean")))
    show("median wait, seconds", each(found, attrgetter("p50")))
    show(
        "mean wait beside a free slot, seconds: what balancing lost",
        each(found, attrgetter("beside_free_slot")),
    )
    own = {name: side.own_cores for name, side in sides.items()}
    whole = {name: side.all_cores for name, side in sides.items()}
    show(f"cores in use, of {os.cpu_count()}, by this benchmark", own)
    show("cores in use by all that ran on the machine", whole)
    p99 = ratios(found, attrgetter("p99"))
    mean = ratios(found, attrgetter("mean"))
    show("p99 of the wait, Fleet's to the others', round by round", p99)
    show("mean wait, Fleet's to the others', round by round", mean)
    finish(
        {
            **{f"p99_to_{key(name)}": value for name, value in medians(p99).items()},
            **{f"mean_to_{key(name)}": value for name, value in medians(mean).items()},
            **seconds(found),
            "tasks_each": size.rounds * size.tasks,
            "own_cores": round(max(map(max, own.values())), 2),
            "machine_cores": round(max(map(max, whole.values())), 2),
        }
    )


def each(found: dict[str, list[Figures]], figure: Callable[[Figures], float]) -> Samples:
    return {name: [figure(round_) for round_ in rounds] for name, rounds in found.items()}


def ratios(found: dict[str, list[Figures]], figure: Callable[[Figures], float]) -> Samples:
    """Fleet's to each other's, round by round: both had the same tasks and the same machine."""
    return {
        name: [figure(o) / figure(t) for o, t in zip(found[OURS], rounds, strict=True)]
        for name, rounds in found.items()
        if name != OURS
    }


def seconds(found: dict[str, list[Figures]]) -> dict[str, float]:
    """Each side's own medians over the rounds."""
    own: dict[str, float] = {}
    for figure in ("p50", "p99", "mean", "beside_free_slot"):
        middle = medians(each(found, attrgetter(figure)))
        own |= {f"{key(name)}_{figure}_s": value for name, value in middle.items()}
    return own


def key(name: str) -> str:
    return name.lower().replace(" ", "_")


if __name__ == "__main__":
    sys.exit(main())
