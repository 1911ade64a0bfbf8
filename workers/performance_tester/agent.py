"""The performance tester: check that the variants agree, time them in turns, compare, draw."""

from __future__ import annotations

import asyncio

import numpy as np

from fleet.agent import AgentContext, Outcome
from workers.performance_tester.measuring import Bench, TimingPlan
from workers.performance_tester.models import (
    Comparison,
    PerformanceTestPayload,
    PerformanceTestResult,
    Timing,
)
from workers.performance_tester.plot import plot_png_base64
from workers.performance_tester.statistics import comparison, timing

Samples = list[list[list[float]]]  # by variant, round and value, in seconds per call
SEED = 0  # the same timings give the same intervals


class PerformanceTester:
    """Times the payload's variants and compares each with the first."""

    async def run(self, payload: PerformanceTestPayload, context: AgentContext) -> Outcome:
        bench = Bench(payload, context.sandbox)
        same = await bench.same_result()
        await context.report(_agreement(same))
        plans = [await bench.plan(variant) for variant in payload.variants]
        samples = await _measure_in_turns(bench, plans)
        await context.report(f"{len(samples[0])} rounds timed in {bench.seconds:.1f} s")
        # Resampling and drawing take half a second of CPU: not on the event loop.
        result = await asyncio.to_thread(_result, bench, plans, samples, same)
        return Outcome("unverified" if same is False else "succeeded", result, _summary(result))


async def _measure_in_turns(bench: Bench, plans: list[TimingPlan]) -> Samples:
    """Time each variant once per round, in alternating order, so that drift affects all equally."""
    samples: Samples = [[] for _ in plans]
    rounds = 0
    while bench.may_go_on(rounds):
        turns = list(range(len(plans)))
        for index in turns if rounds % 2 == 0 else reversed(turns):
            variant = bench.payload.variants[index]
            samples[index].append(await bench.values(variant, plans[index]))
        rounds += 1
    return samples


def _result(
    bench: Bench, plans: list[TimingPlan], samples: Samples, same: bool | None
) -> PerformanceTestResult:
    payload, rng = bench.payload, np.random.default_rng(SEED)
    names = [variant.name for variant in payload.variants]
    timings = tuple(
        timing(name, table, plan.loops, payload.confidence, rng)
        for name, table, plan in zip(names, samples, plans, strict=True)
    )
    comparisons = tuple(
        comparison(name, names[0], table, samples[0], payload.confidence, rng)
        for name, table in list(zip(names, samples, strict=True))[1:]
    )
    return PerformanceTestResult(
        timings=timings,
        comparisons=comparisons,
        same_result=same,
        confidence=payload.confidence,
        rounds=len(samples[0]),
        isolation=bench.isolation or "rlimits",
        seconds=bench.seconds,
        plot_png_base64=plot_png_base64(timings, samples, payload.confidence),
    )


def _agreement(same: bool | None) -> str:
    if same is None:
        return "the variants ran; there are no results to compare"
    return "the variants give equal results" if same else "the variants give different results"


def _summary(result: PerformanceTestResult) -> str:
    parts = [_told(c) for c in result.comparisons] or [_alone(result.timings[0])]
    if result.same_result is False:
        parts.insert(0, "the variants give different results")
    return "; ".join(parts)


def _told(held: Comparison) -> str:
    bounds = f"{held.ratio:.3g} times its median time, interval {held.low:.3g} to {held.high:.3g}"
    if held.verdict == "no difference found":
        return f"no difference found between {held.name} and {held.reference} ({bounds})"
    return f"{held.name} is {held.verdict} than {held.reference} ({bounds})"


def _alone(single: Timing) -> str:
    return f"{single.name} takes {single.median:.3g} s a call"
