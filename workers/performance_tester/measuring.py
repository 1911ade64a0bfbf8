"""Times variants in turns, each time in a fresh sandboxed process."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyperf

from fleet.errors import TaskFailed
from fleet.sandbox import Isolation, Mode, SandboxLimits, SandboxResult, run_python
from workers.performance_tester.models import PerformanceTestPayload, Variant

BENCH = Path(__file__).with_name("bench.py")
VALUE_SECONDS = 0.02  # long compared with the clock's resolution, short compared with the budget
VALUES_PER_PROCESS = 5
ROUNDS_LEAST, ROUNDS_MOST = 3, 20
TIMING_SHARE = 0.85  # the rest of the budget is for resampling and drawing
# The budget controls the number of rounds. Slow variants may need more time for the fewest rounds,
# and a busy machine takes seconds to start a process.
BUDGETS_AT_MOST, GRACE_SECONDS = 3, 30
MEMORY_BYTES = 1024 * 1024 * 1024
TOTAL_MEMORY_BYTES = MEMORY_BYTES * 3 // 2
OUTPUT_BYTES = 1024 * 1024


def _last_answer(text: str) -> dict[str, Any]:
    """The last line of the report as JSON; empty if it is none. The variants may write lines
    too."""
    try:
        found = json.loads((text.splitlines() or [""])[-1])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class TimingPlan:
    """How one process times one variant: `values` values of `loops` calls each."""

    loops: int
    values: int


class Bench:
    """Runs measuring processes for one payload, until its time is up."""

    def __init__(self, payload: PerformanceTestPayload, mode: Mode) -> None:
        self.payload = payload
        self.mode = mode
        self.started = time.monotonic()
        self.isolation: Isolation | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    async def same_result(self) -> bool | None:
        """Call every variant once. Returns whether the results are equal, None if they cannot be
        compared.

        Raises `TaskFailed` with the name of a variant that fails.
        """
        ended = await self._process(self.payload.variants, ())
        last = _last_answer(ended.stdout)
        if "failed" in last:
            raise TaskFailed(f"variant {last['failed']} failed: {last['message']}")
        if "same_result" not in last:
            raise TaskFailed(self._ended_early(last.get("started", "(none yet)"), ended))
        same = last["same_result"]
        if not (same is None or isinstance(same, bool)):
            raise TaskFailed("the variants corrupted the report on their results")
        return same

    async def plan(self, variant: Variant) -> TimingPlan:
        """Find the number of calls that makes a value long enough for good timing."""
        options = ("--calibrate-loops", "--values=1", f"--min-time={VALUE_SECONDS}")
        run = (await self._measured(variant, options)).get_runs()[0]
        loops, seconds_per_call = run.warmups[-1] if run.warmups else (0, 0.0)
        if loops < 1 or not 0 < seconds_per_call < math.inf:
            raise TaskFailed(f"variant {variant.name} spoilt the report on its timing")
        fitting = round(VALUES_PER_PROCESS * VALUE_SECONDS * 2 / (loops * seconds_per_call))
        return TimingPlan(loops, min(VALUES_PER_PROCESS, max(1, fitting)))

    async def values(self, variant: Variant, plan: TimingPlan) -> list[float]:
        """Seconds per call, from one process, after one discarded value."""
        options = (f"--loops={plan.loops}", f"--values={plan.values}", "--warmups=1")
        found = list((await self._measured(variant, options)).get_values())
        if len(found) != plan.values or not all(0 < value < math.inf for value in found):
            raise TaskFailed(f"variant {variant.name} spoilt the report on its timing")
        return found

    def may_go_on(self, rounds: int) -> bool:
        """Whether another round is due: at least three, then as many as the budget allows."""
        if rounds < ROUNDS_LEAST:
            return True
        budget = TIMING_SHARE * self.payload.seconds
        per_round = self.seconds / (rounds + 1)  # the time before the rounds counts as one
        return rounds < ROUNDS_MOST and self.seconds + per_round <= budget

    async def _measured(self, variant: Variant, options: tuple[str, ...]) -> pyperf.Benchmark:
        ended = await self._process((variant,), options)
        try:
            return pyperf.Benchmark.loads(ended.stdout)
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise TaskFailed(self._ended_early(variant.name, ended)) from error

    async def _process(
        self, variants: Sequence[Variant], options: tuple[str, ...]
    ) -> SandboxResult:
        left = BUDGETS_AT_MOST * self.payload.seconds + GRACE_SECONDS - self.seconds
        if left <= 0:
            raise TaskFailed(
                f"the variants are too slow for {ROUNDS_LEAST} timings each in about "
                f"{self.payload.seconds:g} s; give them less data, or the test more seconds"
            )
        order = {
            "setup": self.payload.setup,
            "variants": [variant.model_dump() for variant in variants],
            "options": options,
        }
        limits = SandboxLimits(
            wall_seconds=left,
            cpu_seconds=int(self.payload.seconds) + 1,
            memory_bytes=MEMORY_BYTES,
            total_memory_bytes=TOTAL_MEMORY_BYTES,
            output_bytes=OUTPUT_BYTES,
        )
        program = BENCH.read_text(encoding="utf-8")
        ended = await run_python(program, stdin=json.dumps(order), limits=limits, mode=self.mode)
        self.isolation = ended.isolation
        return ended

    def _ended_early(self, name: str, ended: SandboxResult) -> str:
        if ended.killed_by in ("time", "cpu"):
            return (
                f"variant {name} was still running after {ended.seconds:.1f} s; "
                "give it less data, or the test more seconds"
            )
        if ended.killed_by in ("memory", "disk", "files"):
            return f"variant {name} used more {ended.killed_by} than it may; give it less data"
        lines = ended.stderr.strip().splitlines()
        return f"variant {name} failed: {lines[-1] if lines else f'exit {ended.exit_code}'}"
