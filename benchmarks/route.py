"""What a routing decision costs the caller: ranking the pools and choosing the model.

Nothing leaves the process: the atomic step in Redis, which adds the exact load and picks,
is part of `submit.py`. Every decision here ranks and chooses anew from a snapshot that is
at hand, as snapshots are; none is remembered from the round before.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import report

from fleet.models.rules.choice import NANODOLLARS, REFERENCE_CATALOGUE, Model, ModelNeeds, choose
from fleet.models.rules.learning import ModelEvidence, ModelFacts
from fleet.money import Tokens
from fleet.routing.rules.pools import PoolFacts, PoolTable
from fleet.routing.rules.routing import RouteRequest, rank
from fleet.routing.rules.strategies import STRATEGIES
from fleet.settings import parse_config

COMPATIBILITY = {"code_generator": 1.0, "security_scanner": 0.3, "performance_tester": 0.2}
REQUEST = RouteRequest("code_generation", "code_generator", 0.7, COMPATIBILITY)
SIX_MODELS = (
    *REFERENCE_CATALOGUE,
    Model("smollm2-135m-instruct", "local", None, 0.30, 0.60, free=True),
)
NEEDS = ModelNeeds("acme", 2000, request_type="code_generation")
LEARNED = ModelFacts(
    {
        (model.name, REQUEST.request_type): ModelEvidence(20.0, 15.0, 30.0, 3000.0, 40.0)
        for model in SIX_MODELS
    }
)
BASE = Tokens(500, 2000)
SNAPSHOT_POOLS = 1000
LOTS = np.random.default_rng(0)
DEFAULT = parse_config("", "the defaults").strategy


def facts(count: int) -> list[PoolFacts]:
    """Pools that may all serve the request: two in three do, the others help."""
    dice = random.Random(count)
    return [
        PoolFacts(
            name=f"pool-{number:05}",
            agent_type="security_scanner" if number % 3 == 0 else "code_generator",
            queue=f"queue-{number:05}",
            weight=dice.randint(1, 10),
            spillover=frozenset({"code_generator"} if number % 3 == 0 else ()),
            live_agents=3,
            capacity=30,
            in_flight=dice.randint(0, 30),
            success_rate=dice.random(),
            response_seconds=dice.expovariate(0.5),
        )
        for number in range(count)
    ]


def decision(table: PoolTable, strategy: str) -> Callable[[], object]:
    """One decision: rank the pools of a snapshot and choose among six models."""

    def decide() -> object:
        return rank(strategy, REQUEST, table, rng=LOTS), choose(SIX_MODELS, BASE, 0.7)

    return decide


def learned_decision(table: PoolTable) -> Callable[[], object]:
    """The same with a limit, a payload, and evidence of every model."""

    def decide() -> object:
        models = choose(
            SIX_MODELS,
            BASE,
            0.7,
            limit_nanodollars=NANODOLLARS,
            needs=NEEDS,
            facts=LEARNED,
            now=3600.0,
        )
        return rank(DEFAULT, REQUEST, table), models

    return decide


def stored(table: PoolTable) -> Callable[[], object]:
    """What storing a decision adds: the ranking as text, encoded anew."""
    ranking = rank(DEFAULT, REQUEST, table)
    return lambda: json.dumps(ranking.to_json(), separators=(",", ":"))


def snapshot_bytes_per_pool() -> float:
    """Memory that a snapshot of a thousand pools holds, facts and columns, for each pool."""
    gc.collect()
    tracemalloc.start()
    table = PoolTable.of(facts(SNAPSHOT_POOLS))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / len(table.pools)


def main() -> None:
    quick = report.arguments(__doc__ or "").quick
    calls = 200 if quick else 1000
    ten, thousand, ten_thousand = (PoolTable.of(facts(count)) for count in (10, 1000, 10_000))
    cases = {
        "decision_us": report.timed(decision(ten, DEFAULT), calls),
        "decision_learned_us": report.timed(learned_decision(ten), calls),
        "model_choice_us": report.timed(lambda: choose(SIX_MODELS, BASE, 0.7), calls),
        "ranking_text_us": report.timed(stored(ten), calls),
        "decision_1000_pools_us": report.timed(decision(thousand, DEFAULT), calls // 10),
        "decision_10000_pools_us": report.timed(decision(ten_thousand, DEFAULT), calls // 20),
    }
    strategies = {
        f"{strategy}, {count} pools": report.timed(decision(table, strategy), calls // 20)
        for count, table in ((10, ten), (1000, thousand), (10_000, ten_thousand))
        for strategy in STRATEGIES
    }
    rounds = 9 if quick else 31
    print("Deciding on pool and model in the caller's process, microseconds a decision.")
    samples = report.interleaved(cases, rounds)
    report.show("10 pools x 6 models unless said otherwise, the default strategy", samples)
    report.show("by strategy, 6 models", report.interleaved(strategies, rounds))
    per_pool = snapshot_bytes_per_pool()
    print(f"\nA snapshot holds {per_pool:.0f} bytes for each of {SNAPSHOT_POOLS} pools.")
    report.finish({**report.medians(samples), "snapshot_bytes_per_pool": round(per_pool)})


if __name__ == "__main__":
    main()
