"""What workers cost and how long tasks wait by each scaling policy, simulated with the functions
that scale for real.

A worker has one slot and is paid from its start, before it is ready, until its last task ends. Paid
is in slot-seconds over those in which a task runs. Every pool has at least one worker and no upper
bound. What is compared:

    threshold              the reference: one worker more or less a minute, by the mean load
    square_root            arrival rate x mean service + 2 x its square root + backlog
    forecast               square_root, and the rate that the time of day lets expect
    KEDA, queue            KEDA's default: a worker for each waiting task, asked every 30 s, and the
                           most of the last 300 s held (the stabilisation of a scale-in)
    KEDA, queue + running  the same for waiting and running tasks
    oracle                 knows the future: starts each worker just in time, ends it when it idles

KEDA's metric is taken at its word at once: without the HPA's limit of doubling in 15 s, which would
make its waits longer. Fleet's policies decide every 5 s.

First, a made day: twelve busy hours at 2 tasks per second of 10 s, with bursts of 3 to 5 times the
rate, half of them at the same time each day (`scaling_parts/synthetic.py`). Second, with
`--data FOLDER`, recorded arrivals: Azure's code and conversation traces of an hour, and 14 days of
ServeGen, scaled to 3 requests per second (`scaling_parts/recorded.py`). Workers take 5, 30 or 90 s
to start. The constants of the policies come from theory and from made loads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import report
from scaling_parts.recorded import TRACES
from scaling_parts.rivals import KEDA, KEDA_PRESENT, POLL_SECONDS, oracle
from scaling_parts.synthetic import day

from fleet.scaling.rules.policies import POLICIES
from fleet.scaling.rules.simulation import Conditions, Trace, simulate
from fleet.settings.config import FleetConfig

STARTS = (5.0, 30.0, 90.0)
DEFAULT = FleetConfig.model_fields["scaling"].default.policy
ORACLE = "oracle"
RIVALS = {policy.name: policy for policy in (KEDA, KEDA_PRESENT)}
NAMES = (*POLICIES, *RIVALS, ORACLE)


class Job(NamedTuple):
    """One simulation. `load` is `day`, or the name of a recorded trace."""

    load: str
    start: float
    policy: str
    seed: int


class Result(NamedTuple):
    """Paid over busy slot-seconds, and waits in seconds."""

    paid: float
    mean: float
    p95: float
    p99: float


def run(job: Job, data: Path, days: float) -> Result:
    trace = _trace(job.load, job.seed, data, days)
    conditions = Conditions(start_seconds=job.start)
    if job.policy in RIVALS:
        policy, conditions = RIVALS[job.policy], conditions._replace(decide_seconds=POLL_SECONDS)
    else:
        policy = oracle(trace, conditions) if job.policy == ORACLE else POLICIES[job.policy]
    outcome = simulate(trace, policy, conditions)
    p95, p99 = np.quantile(outcome.waits, (0.95, 0.99))
    mean = float(outcome.waits.mean())
    return Result(outcome.paid / outcome.busy, mean, float(p95), float(p99))


@lru_cache(maxsize=2)
def _trace(load: str, seed: int, data: Path, days: float) -> Trace:
    """Kept, since the jobs of one load follow each other."""
    if load == "day":
        return day(seed)
    name, read = TRACES[load]
    return read(data / "traces" / name, seed, days)


def simulated(
    workers: ProcessPoolExecutor, loads: Mapping[str, int], data: Path, days: float
) -> dict[Job, Result]:
    """Every policy on each load, by so many seeds and each start-up time."""
    jobs = [
        Job(load, start, name, seed)
        for load, seeds in loads.items()
        for seed, start, name in product(range(seeds), STARTS, NAMES)
    ]
    # The longest first, so that no place is left idle at the end.
    jobs.sort(key=lambda job: job.load != "servegen")
    return dict(zip(jobs, workers.map(partial(run, data=data, days=days), jobs), strict=True))


def of(found: Mapping[Job, Result], load: str, start: float, policy: str) -> list[Result]:
    """The results of each seed."""
    return [r for job, r in found.items() if job[:3] == (load, start, policy)]


def show(found: Mapping[Job, Result], load: str, title: str) -> None:
    print(f"\n{title}: median, and the least and the most of the seeds")
    print(f"{'start':>5}  {'':22}  {'paid / busy':>22}  {'wait p95 in s':>24}", end="")
    print(f"  {'wait p99 in s':>24}  {'mean':>8}")
    for start, name in product(STARTS, NAMES):
        rows = of(found, load, start, name)
        paid, mean, p95, p99 = (sorted(column) for column in zip(*rows, strict=True))
        print(
            f"{start:>5g}  {name:22}  {_spread(paid, '.3f'):>22}  {_spread(p95, '.2f'):>24}  "
            f"{_spread(p99, '.2f'):>24}  {np.median(mean):>8.3f}"
        )


def _spread(values: Sequence[float], form: str) -> str:
    return f"{np.median(values):{form}} ({min(values):{form}} - {max(values):{form}})"


def of_the_day(found: Mapping[Job, Result]) -> dict[str, float]:
    """The figures of the made day."""
    figures: dict[str, float] = {}
    for start in STARTS:
        for prefix, name in (("", DEFAULT), ("keda_", KEDA.name), ("oracle_", ORACLE)):
            rows = of(found, "day", start, name)
            figures[f"{prefix}paid_to_busy_{start:g}"] = _median(row.paid for row in rows)
            figures[f"{prefix}wait_p95_{start:g}"] = _median(row.p95 for row in rows)
        figures[f"forecast_wait_to_square_root_{start:g}"] = _median(
            mine.mean / its.mean
            for mine, its in zip(
                of(found, "day", start, "forecast"),
                of(found, "day", start, "square_root"),
                strict=True,
            )
        )
    return figures


def of_a_trace(found: Mapping[Job, Result], load: str) -> dict[str, float]:
    """A trace's figures: the default over KEDA's, the worst of the start-up times."""
    pairs = [
        (mine, its)
        for start in STARTS
        for mine, its in zip(
            of(found, load, start, DEFAULT), of(found, load, start, KEDA.name), strict=True
        )
    ]
    return {
        f"{load}_paid_to_keda": max(mine.paid / its.paid for mine, its in pairs),
        f"{load}_p95_to_keda": max(ratio(mine.p95, its.p95) for mine, its in pairs),
    }


def worst_forecast(found: Mapping[Job, Result], loads: Iterable[str]) -> float:
    """What `forecast` pays, or how long it makes wait, over the same by `square_root`: the worst
    of all recorded loads and start-up times."""
    return max(
        max(mine.paid / its.paid, ratio(mine.mean, its.mean), ratio(mine.p95, its.p95))
        for load, start in product(loads, STARTS)
        for mine, its in zip(
            of(found, load, start, "forecast"), of(found, load, start, "square_root"), strict=True
        )
    )


def ratio(mine: float, its: float) -> float:
    """Of two waits; those under 10 ms are the same."""
    return max(mine, 0.01) / max(its, 0.01)


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def main() -> None:
    asked = report.arguments(__doc__ or "", data=True)
    print(__doc__)
    data = Path(asked.data) if asked.data else Path()
    present = {name: 1 for name, (file, _) in TRACES.items() if (data / "traces" / file).is_file()}
    missing = [name for name in TRACES if name not in present or not asked.data]
    recorded = {name: 1 for name in present if asked.data}
    days, seeds = (0.5, 1) if asked.quick else (14.0, 7)
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        found = simulated(workers, {"day": seeds, **recorded}, data, days)
    show(found, "day", f"A made day, {seeds} seeds")
    figures = of_the_day(found)
    for load in recorded:
        show(found, load, f"Recorded: {load}" + (f", {days:g} days" * (load == "servegen")))
        figures |= of_a_trace(found, load)
    if recorded:
        figures["forecast_to_square_root_worst"] = worst_forecast(found, recorded)
    rounded: dict[str, float | str] = {k: float(f"{v:.4g}") for k, v in figures.items()}
    if missing:
        where = f" in {data / 'traces'}" if asked.data else "; give the folder with --data"
        rounded["skipped"] = f"no recorded arrivals of {', '.join(missing)}{where}"
        print(f"\nskipped: {rounded['skipped']}")
    report.finish(rounded)


if __name__ == "__main__":
    main()
