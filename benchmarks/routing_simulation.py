"""How long tasks wait by each way of routing, simulated with the functions that route for real.

Ten pools of one agent type with 4, 6, 8, 10, 12, 14, 16, 20, 24 and 28 slots, 142 together.
Tasks come at random, runs are log-normal with a mean of 10 s and a coefficient of variation of
2, and the load is 0.85. A third of the tasks each is simple, middling and complex.

First, the waits. The pools are equally quick; they differ in weight (1 to 10) and success (0.82
to 1.0), which the scores go by. What is compared:

    central            one queue before all 142 slots, in which nothing takes time: the ideal
    late, age A        Fleet's default strategy, late binding and health policy, with four
                       producers that plan from snapshots up to A seconds old
    scored push, age A the reference score (`ai_optimized`) on the snapshot alone, and a queue
                       before each pool: one gateway in one process, as other gateways do it
    power of two       the less loaded of two pools at random, and a queue before each pool
    round robin        each pool in turn, and a queue before each: Celery with a queue for each
                       pool. It sends a pool of 4 slots as much as one of 28, so the small ones
                       fall behind without end, and its wait grows with the run

Between a free slot and the start of its next run 2 ms pass, in all but the central queue: what
waking a worker and claiming a message take. That, and a pool that is taken out for its health, is
all that sets late binding apart from the central queue here: where pools are equally quick, no
order of preference changes who waits. All see the same tasks, and the first tenth of them is not
counted, since they find an empty fleet.

Second, the strategies, all of them under late binding with the default health policy and
snapshots up to 5 s old, on pools that differ in speed (0.5 to 2) and success (0.8 to 1). A task
whose answer is not good is submitted again. What counts is the time from its first submission to
its good answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from math import inf
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import report

from fleet.routing.rules.health import HealthPolicy
from fleet.routing.rules.strategies import STRATEGIES, RouteRequest
from fleet.settings.config import FleetConfig
from fleet.simulation.rules.central import central_waits
from fleet.simulation.rules.events import Conditions, simulate
from fleet.simulation.rules.outcomes import Outcomes
from fleet.simulation.rules.pools import SimulatedPool, Skill
from fleet.simulation.rules.producers import Way
from fleet.simulation.rules.workload import Kind, Workload, synthetic

DEFAULT = FleetConfig.model_fields["strategy"].default
SLOTS = (4, 6, 8, 10, 12, 14, 16, 20, 24, 28)
WEIGHTS = (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)
SUCCESS = (0.90, 0.98, 0.86, 0.94, 0.82, 1.0, 0.88, 0.96, 0.84, 0.92)
MEAN_SECONDS, CV, LOAD = 10.0, 2.0, 0.85
HANDOVER_SECONDS = 0.002
AGES = (0.0, 1.0, 5.0, 30.0)
KINDS = tuple(
    Kind(RouteRequest("code_generation", "code_generator", complexity, {"code_generator": 1.0}))
    for complexity in (0.2, 0.5, 0.9)
)


class Case(NamedTuple):
    """One way of routing."""

    name: str
    strategy: str
    binding: str
    age: float
    producers: int


CASES = (
    *(Case(f"late, age {age:g}", DEFAULT, "late", age, 4) for age in AGES),
    *(Case(f"scored push, age {age:g}", "ai_optimized", "push", age, 1) for age in AGES),
    Case("power of two, age 0", "power_of_two", "push", 0.0, 1),
    Case("round robin", "round_robin", "push", 1.0, 1),
)


class Mix(NamedTuple):
    """Pools of mixed skill, in the order of SLOTS. `worsens` goes bad half-way, to success 0.2."""

    name: str
    speed: Sequence[float]
    success: Sequence[float]
    worsens: int | None = None


MIXED_SPEED = (1.2, 0.5, 2.0, 0.8, 1.5, 1.0, 0.6, 1.8, 0.7, 1.0)
MIXED_SUCCESS = (0.95, 1.0, 0.9, 0.98, 0.8, 1.0, 0.92, 0.88, 0.97, 0.85)
MIXES = (
    Mix("speed and success mixed", MIXED_SPEED, MIXED_SUCCESS),
    Mix(
        "the quick fail more",
        (0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.3, 1.5, 1.8, 2.0),
        (1.0, 0.99, 0.98, 0.97, 0.95, 0.93, 0.9, 0.87, 0.84, 0.8),
    ),
    Mix("equally quick", (1.0,) * 10, SUCCESS),
    Mix("mixed, the quickest goes bad", MIXED_SPEED, MIXED_SUCCESS, worsens=2),
)
LOADS = (0.5, 0.7, 0.85, 0.95)
MAX_RUNS = 20


def workload(seed: int, tasks: int, rate: float, max_runs: int = 1) -> Workload:
    return synthetic(
        KINDS,
        (1.0, 1.0, 1.0),
        tasks=tasks,
        rate=rate,
        mean_seconds=MEAN_SECONDS,
        cv=CV,
        max_runs=max_runs,
        rng=np.random.default_rng(seed),
    )


def waits_of(case: Case | None, seed: int, tasks: int) -> np.ndarray:
    """The waits of the counted tasks by one way of routing; by the central queue for None."""
    load = workload(seed, tasks, LOAD * sum(SLOTS) / MEAN_SECONDS)
    if case is None:
        return central_waits(load.arrival, load.work, sum(SLOTS))[tasks // 10 :]
    pools = [
        SimulatedPool(f"pool-{n}", "code_generator", slots, weight, skill=Skill(1.0, success))
        for n, (slots, weight, success) in enumerate(zip(SLOTS, WEIGHTS, SUCCESS, strict=True))
    ]
    health = HealthPolicy() if case.binding == "late" else None
    conditions = Conditions(
        case.binding, case.age, case.producers, HANDOVER_SECONDS, health=health
    )
    return routed(load, pools, case.strategy, conditions).wait[tasks // 10 :]


def routed(
    load: Workload, pools: list[SimulatedPool], strategy: str, conditions: Conditions
) -> Outcomes:
    ways = [Way(strategy)] * len(load.kinds)
    return simulate(load, pools, ways, conditions, rng=np.random.default_rng(0))


class Answers(NamedTuple):
    """Seconds to a good answer, seconds of waiting, and runs, of the counted tasks."""

    answer: np.ndarray
    wait: np.ndarray
    runs: np.ndarray


def answers_of(mix: Mix, load: float, strategy: str, seed: int, tasks: int) -> Answers:
    """What one strategy makes of pools of mixed skill. The load is that with all pools well."""
    skills = list(map(Skill, mix.speed, mix.success))
    good_rate = sum(n * s.speed * s.success for n, s in zip(SLOTS, skills, strict=True))
    found = workload(seed, tasks, load * good_rate / MEAN_SECONDS, MAX_RUNS)
    half = float(found.arrival[tasks // 2])
    pools = []
    for n, (slots, skill) in enumerate(zip(SLOTS, skills, strict=True)):
        pool = SimulatedPool(f"pool-{n}", "code_generator", slots, skill=skill)
        if n == mix.worsens:
            bad = Skill(skill.speed, 0.2)
            pool = SimulatedPool(
                pool.name, pool.agent_type, slots, skill=skill, worse_from=half, worse=bad
            )
        pools.append(pool)
    conditions = Conditions("late", 5.0, 4, HANDOVER_SECONDS, health=HealthPolicy())
    outcomes = routed(found, pools, strategy, conditions)
    first = tasks // 10 if mix.worsens is None else tasks // 2
    return Answers(outcomes.answer[first:], outcomes.wait[first:], outcomes.runs[first:])


def p99(values: np.ndarray) -> float:
    return float(np.quantile(values, 0.99))


def to_ideal(waits: np.ndarray, central: np.ndarray) -> float:
    """The ratio of the p99; infinite where in a short run nobody waits in the central queue."""
    return p99(waits) / p99(central) if p99(central) else inf


def compare_waits(workers: ProcessPoolExecutor, seeds: int, tasks: int) -> dict[str, float]:
    """The first table, and its figures: p99 over all seeds together."""
    jobs = list(product((None, *CASES), range(seeds)))
    one = partial(_waits_of_job, tasks=tasks)
    waits = dict(zip(jobs, workers.map(one, jobs), strict=True))
    central = [waits[None, seed] for seed in range(seeds)]
    ideal = p99(np.concatenate(central))
    print(f"\nWaits in seconds, load {LOAD}, {seeds} seeds of {tasks} tasks each")
    print(f"{'':22}  {'mean':>8}  {'p99':>8}  {'p99 / central':>13}  over the seeds")
    found = {}
    for case in (None, *CASES):
        own = [waits[case, seed] for seed in range(seeds)]
        ratios = [to_ideal(mine, best) for mine, best in zip(own, central, strict=True)]
        every = np.concatenate(own)
        name = case.name if case else "central"
        found[name] = p99(every)
        print(
            f"{name:22}  {every.mean():>8.3f}  {p99(every):>8.3f}  {p99(every) / ideal:>13.3f}  "
            f"{min(ratios):.3f} - {max(ratios):.3f}"
        )
    return found


def _waits_of_job(job: tuple[Case | None, int], tasks: int) -> np.ndarray:
    return waits_of(*job, tasks)


def compare_strategies(
    workers: ProcessPoolExecutor, cells: Iterable[tuple[Mix, float]], seeds: int, tasks: int
) -> dict[str, float]:
    """The second table: each strategy's mean time to a good answer over the default's."""
    ratios: dict[str, list[float]] = {name: [] for name in STRATEGIES}
    print(f"\nSeconds to a good answer, late binding, {seeds} seeds of {tasks} tasks each")
    print(f"{'':22}  {'mean':>7}  {'/ default':>9}  {'over the seeds':>15}", end="")
    print(f"  {'p50':>6}  {'p99':>7}  {'p50 wait':>8}  {'p99 wait':>8}  {'ran again':>9}")
    for mix, load in cells:
        jobs = list(product((mix,), (load,), STRATEGIES, range(seeds)))
        answers = list(workers.map(partial(_answers_of_job, tasks=tasks), jobs))
        by_strategy = {
            name: answers[n * seeds : (n + 1) * seeds] for n, name in enumerate(STRATEGIES)
        }
        print(f"{mix.name}, load {load:g}")
        for name, own in by_strategy.items():
            ratios[name].append(show_strategy(name, own, by_strategy[DEFAULT]))
    return {name: geometric_mean(found) for name, found in ratios.items()}


def _answers_of_job(job: tuple[Mix, float, str, int], tasks: int) -> Answers:
    return answers_of(*job, tasks)


def show_strategy(name: str, own: list[Answers], default: list[Answers]) -> float:
    """Print a line; the mean time to a good answer over the default's."""
    pairs = zip(own, default, strict=True)
    ratios = [mine.answer.mean() / its.answer.mean() for mine, its in pairs]
    answer, wait, runs = (np.concatenate(column) for column in zip(*own, strict=True))
    ratio = float(np.mean(ratios))
    spread = f"{min(ratios):.3f} - {max(ratios):.3f}"
    print(
        f"  {name:20}  {answer.mean():>7.2f}  {ratio:>9.3f}  {spread:>15}  "
        f"{np.median(answer):>6.2f}  {p99(answer):>7.1f}  {np.median(wait):>8.3f}  "
        f"{p99(wait):>8.2f}  {(runs > 1).mean():>9.1%}",
        flush=True,
    )
    return ratio


def figures(waits: Mapping[str, float], answers: Mapping[str, float]) -> dict[str, float]:
    """What `make bench` collects."""
    central = waits["central"]
    found = {f"p99_to_central_age_{age:g}": waits[f"late, age {age:g}"] / central for age in AGES}
    found["central_p99_s"] = central
    found["scored_push_p99_s"] = waits["scored push, age 0"]
    for age in AGES[1:]:
        found[f"scored_push_p99_age_{age:g}_s"] = waits[f"scored push, age {age:g}"]
    found["power_of_two_push_p99_s"] = waits["power of two, age 0"]
    found["round_robin_push_p99_s"] = waits["round robin"]
    found |= {f"good_answer_to_default_{name}": ratio for name, ratio in answers.items()}
    return {name: float(f"{figure:.4g}") for name, figure in found.items()}


def main() -> None:
    quick = report.arguments(__doc__ or "").quick
    print(__doc__)
    cells = [(m, load) for m in MIXES for load in LOADS if m.worsens is None or load < LOADS[-1]]
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        waits = compare_waits(workers, *((2, 10_000) if quick else (5, 60_000)))
        few = [(MIXES[0], LOAD)]
        answers = compare_strategies(
            workers, few if quick else cells, *((2, 4000) if quick else (3, 12_000))
        )
    report.finish(figures(waits, answers))


if __name__ == "__main__":
    main()
