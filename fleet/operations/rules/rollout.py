"""Whether a new version of the agents does worse than the old one.

Each request type is judged by itself, since versions may get different shares of them. A difference
counts if it is larger than the tolerance and no accident: an equally good version would show it
once in a hundred watches at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, exp, lgamma, log, log1p, sqrt
from statistics import fmean, pvariance
from typing import NamedTuple

ACCIDENT = 0.01
"""The probability under which a difference is no accident, and the normal quantile for it."""
ACCIDENT_Z = 2.33
SLOW_SHARE = 0.05
"""The share of tasks that take longer than the 95th percentile."""
MAX_ERROR_RATE = 0.1
"""Judges a version that has no predecessor: that of the alert rule `high_error_rate`."""


class TaskRun(NamedTuple):
    """A task that ended. `seconds` is its run time; `cost` in nano-US-dollars."""

    request_type: str
    succeeded: bool
    seconds: float
    cost: int


class Tolerance(NamedTuple):
    """How much worse a new version may be.

    `error_rate` is a difference of shares, 0 to 1. `slower` and `dearer` are factors, at least 1.
    Fewer than `tasks` of a request type are not judged.
    """

    error_rate: float = 0.02
    slower: float = 1.25
    dearer: float = 1.25
    tasks: int = 20


@dataclass(frozen=True, slots=True)
class Figures:
    """The runs of one version, of one request type. Seconds, and US dollars for a task."""

    tasks: int
    error_rate: float
    p95_seconds: float
    mean_usd: float


@dataclass(frozen=True, slots=True)
class TypeComparison:
    """One request type: both versions' figures, whether they were judged, and what is worse."""

    request_type: str
    old: Figures
    new: Figures
    judged: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the new version passes, why not, and each request type."""

    passed: bool
    reasons: tuple[str, ...]
    types: tuple[TypeComparison, ...]


def compare(old: Iterable[TaskRun], new: Iterable[TaskRun], tolerance: Tolerance) -> Verdict:
    """Judge the new version by the runs of both. A version that nothing shows to be good fails."""
    before, after = _by_type(old), _by_type(new)
    types = tuple(
        _compare_type(name, before.get(name, ()), after.get(name, ()), tolerance)
        for name in sorted({*before, *after})
    )
    reasons = tuple(reason for each in types for reason in each.reasons)
    if not any(each.judged for each in types):
        most = max((each.new.tasks for each in types), default=0)
        reasons += (
            f"too few tasks to judge: at most {most} of a request type ended in the new version, "
            f"and {tolerance.tasks} are needed; watch longer, or lower --min-tasks",
        )
    return Verdict(not reasons, reasons, types)


def figures_of(runs: Sequence[TaskRun]) -> Figures:
    """The figures of some runs. All are 0 without runs."""
    if not runs:
        return Figures(0, 0.0, 0.0, 0.0)
    return Figures(
        len(runs),
        sum(not run.succeeded for run in runs) / len(runs),
        p95([run.seconds for run in runs]),
        fmean(run.cost for run in runs) / 1e9,
    )


def p95(values: Sequence[float]) -> float:
    """The 95th percentile by the nearest rank: a value of the sample."""
    return sorted(values)[ceil(0.95 * len(values)) - 1]


def _by_type(runs: Iterable[TaskRun]) -> Mapping[str, Sequence[TaskRun]]:
    found: dict[str, list[TaskRun]] = {}
    for run in runs:
        found.setdefault(run.request_type, []).append(run)
    return found


def _compare_type(
    name: str, old: Sequence[TaskRun], new: Sequence[TaskRun], tolerance: Tolerance
) -> TypeComparison:
    before, after = figures_of(old), figures_of(new)
    enough = after.tasks >= tolerance.tasks
    judged = enough and (before.tasks >= tolerance.tasks or not old)
    found: list[str] = []
    if judged:
        allowed = min(1.0, before.error_rate + tolerance.error_rate) if old else MAX_ERROR_RATE
        if _is_more_often(sum(not run.succeeded for run in new), after.tasks, allowed):
            found.append(
                f"{name}: {after.error_rate:.1%} of the new version's {after.tasks} tasks did not "
                f"succeed, at most {allowed:.1%} are allowed"
            )
    if judged and old:
        found += [*_slower(name, before, after, new, tolerance)]
        found += [*_dearer(name, old, new, tolerance)]
    return TypeComparison(name, before, after, judged, tuple(found))


def _slower(
    name: str, before: Figures, after: Figures, new: Sequence[TaskRun], tolerance: Tolerance
) -> Iterable[str]:
    limit = before.p95_seconds * tolerance.slower
    late = sum(run.seconds > limit for run in new)
    if after.p95_seconds > limit and _is_more_often(late, len(new), SLOW_SHARE):
        yield (
            f"{name}: the p95 of the run time is {after.p95_seconds:.2f} s in the new version and "
            f"{before.p95_seconds:.2f} s in the old one; at most {limit:.2f} s are allowed"
        )


def _dearer(
    name: str, old: Sequence[TaskRun], new: Sequence[TaskRun], tolerance: Tolerance
) -> Iterable[str]:
    before, after = [run.cost for run in old], [run.cost for run in new]
    surplus = fmean(after) - tolerance.dearer * fmean(before)
    error = sqrt(
        pvariance(after) / len(after) + tolerance.dearer**2 * pvariance(before) / len(before)
    )
    if surplus > ACCIDENT_Z * error:
        yield (
            f"{name}: a task costs ${fmean(after) / 1e9:.6f} in the new version and "
            f"${fmean(before) / 1e9:.6f} in the old one, over the allowed factor of "
            f"{tolerance.dearer:g}"
        )


def _is_more_often(count: int, tries: int, probability: float) -> bool:
    """Whether `count` of `tries` is too many for an event of this probability."""
    return count > probability * tries and _tail(count, tries, probability) < ACCIDENT


def _tail(count: int, tries: int, probability: float) -> float:
    """The binomial probability of at least `count` in `tries`."""
    if count <= 0 or probability >= 1.0:
        return 1.0
    if probability <= 0.0:
        return 0.0
    sure, never = log(probability), log1p(-probability)
    return min(
        1.0,
        sum(
            exp(_log_choose(tries, k) + k * sure + (tries - k) * never)
            for k in range(count, tries + 1)
        ),
    )


def _log_choose(n: int, k: int) -> float:
    """The logarithm of the binomial coefficient."""
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
