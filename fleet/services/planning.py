"""Ranks pools and chooses a model for submissions, from a snapshot that is never asked for.

Every answer of the atomic step carries the counts of the pools that it looked at. Once a
second they become the new snapshot, so the slow terms of the score stay fresh without a
round trip of their own. Only a process that has sent nothing for a while reads one first.
Tasks that ask for the same thing share a plan until the snapshot changes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fleet.core.learning import NOTHING_LEARNED, ModelFacts, Policy
from fleet.core.model_choice import NANODOLLARS, Model, ModelDecision, Needs, choose
from fleet.core.pools import PoolFacts, PoolTable
from fleet.core.routing import Ranking, RouteRequest, rank
from fleet.core.strategies import NO_TURNS, Turns, advance
from fleet.errors import InvalidRequest
from fleet.services.requests import DEFAULT_TENANT, Checked, unknown
from fleet.settings import FleetConfig, Settings
from fleet.state.pools import PoolCounts, Pools, parse_counts
from fleet.state.submissions import Route, Submissions

REFRESH_SECONDS = 1.0
STALE_SECONDS = 30.0
MOST_PLANS = 1024
IN_TURN = frozenset({"round_robin", "weighted_round_robin"})


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a decision that does not depend on exact counts, and its stored form."""

    agent_type: str
    ranking: Ranking
    models: ModelDecision
    route: Route
    stored: str
    is_whole: bool
    """Whether every pool that may serve the agent type is ranked."""


class Planner:
    """Makes plans. Not to be shared between threads that submit at once without a lock:
    the worst that can happen is a plan made twice, or a turn taken twice."""

    def __init__(
        self,
        settings: Settings,
        models: tuple[Model, ...],
        pools: Pools,
        submissions: Submissions,
    ) -> None:
        self.settings = settings
        self.config = settings.config
        self.models = models
        self.pools = pools
        self.submissions = submissions
        self.facts = {name: self._facts(name, None) for name in self.config.pools}
        self.table = PoolTable.of(self.facts.values())
        self.turns: Turns = NO_TURNS
        self.plans: dict[object, Plan] = {}
        self.read_at: dict[str, float] = {}
        self.request_routes = {
            name: RouteRequest(
                name,
                request.agent_type,
                0.5,
                self.config.compatibility.get(name, {}),
            )
            for name, request in self.config.request_types.items()
        }

    def plan(self, checked: Checked) -> Plan:
        """The plan for a submission. Reads a snapshot only where the last one is stale."""
        if self._age(checked.agent_type) > STALE_SECONDS:
            self.refresh()
        key = (
            checked.request_type,
            checked.complexity,
            checked.pool,
            checked.model,
            checked.max_cost_usd,
        )
        plan = self.plans.get(key)
        if plan is None:
            plan = self._make(checked)
            if self.config.strategy not in IN_TURN and len(self.plans) < MOST_PLANS:
                self.plans[key] = plan
        return plan

    def refresh(self) -> None:
        """Read the counts of all pools, in one round trip."""
        self._take(self.pools.counts(list(self.config.pools)))
        self.read_at = dict.fromkeys(self.config.agent_types, time.monotonic())

    def learn(self, plan: Plan, packed: str) -> None:
        """Take the counts that came back with a submission, where the snapshot is a second old.

        It has to have looked at all pools of the agent type: else the others would seem fresh.
        """
        if plan.is_whole and self._age(plan.agent_type) > REFRESH_SECONDS:
            self._take(dict(zip(plan.route.pools, parse_counts(packed), strict=True)))
            self.read_at[plan.agent_type] = time.monotonic()

    def took(self, plan: Plan, pool: str) -> None:
        """Note which pool got the task, for the strategies that go in turn."""
        if self.config.strategy in IN_TURN:
            self.turns = advance(
                self.turns, self.config.strategy, self.table, plan.agent_type, pool
            )

    def _take(self, counts: Mapping[str, PoolCounts]) -> None:
        for name, row in counts.items():
            self.facts[name] = self._facts(name, row)
        self.table = PoolTable.of(self.facts.values())
        self.plans.clear()

    def _age(self, agent_type: str) -> float:
        return time.monotonic() - self.read_at.get(agent_type, float("-inf"))

    def _facts(self, name: str, counts: PoolCounts | None) -> PoolFacts:
        pool = self.config.pools[name]
        row = counts or PoolCounts(0, 0, 0, 0, 0, 0.0)
        return PoolFacts(
            name=name,
            agent_type=pool.agent_type,
            queue=self.settings.queue(name),
            weight=pool.weight,
            helps=frozenset(pool.helps),
            live_agents=row.live_agents,
            capacity=row.capacity,
            in_flight=row.in_flight,
            success_rate=row.success_rate,
            response_seconds=row.response_seconds,
        )

    def _make(self, checked: Checked) -> Plan:
        models = choose_model(
            self.config,
            self.models,
            checked.request_type,
            checked.complexity,
            checked.model,
            checked.max_cost_usd,
        )
        ranking = self._rank(checked)
        route = self.submissions.route(
            self.settings.overflow_queue(checked.agent_type),
            [
                (rule.pool, self.settings.queue(rule.pool), *rule[1:4])
                for rule in ranking.rules
            ],
        )
        stored = stored_plan(
            checked.request_type, checked.agent_type, checked.complexity, models, ranking
        )
        is_whole = checked.pool is None and len(ranking.rules) == len(
            self.table.group(checked.agent_type).pools
        )
        return Plan(checked.agent_type, ranking, models, route, stored, is_whole)

    def _rank(self, checked: Checked) -> Ranking:
        shared = self.request_routes[checked.request_type]
        request = RouteRequest(
            shared.request_type, shared.agent_type, checked.complexity, shared.compatibility
        )
        if checked.pool is None:
            return rank(self.config.strategy, request, self.table, self.turns)
        # Of many pools only the best are kept: here the one asked for has to be among them.
        everything = len(self.table.pools)
        ranking = rank(self.config.strategy, request, self.table, self.turns, limit=everything)
        rules = tuple(rule for rule in ranking.rules if rule.pool == checked.pool)
        if not rules:
            serving = {rule.pool: rule for rule in ranking.rules}
            raise InvalidRequest(
                unknown(f"pool that serves {checked.request_type}", checked.pool, serving)
            )
        return Ranking(ranking.strategy, rules, ranking.rejected, ranking.omitted)


def stored_plan(
    request_type: str,
    agent_type: str,
    complexity: float,
    models: ModelDecision,
    ranking: Ranking | None,
) -> str:
    """The plan as it is kept with the task: one field, since a submission pays for each."""
    return json.dumps(
        {
            "request_type": request_type,
            "agent_type": agent_type,
            "complexity": complexity,
            "model": models.model,
            "model_decision": models.to_json(),
            "limit_nanodollars": models.limit_nanodollars,
            "ranking": ranking.to_json() if ranking else None,
        }
    )


def choose_model(
    config: FleetConfig,
    models: tuple[Model, ...],
    request_type: str,
    complexity: float,
    only: str | None = None,
    max_cost_usd: float | None = None,
    *,
    tenant: str = DEFAULT_TENANT,
    payload_characters: int = 0,
    facts: ModelFacts = NOTHING_LEARNED,
    now: float = 0.0,
    rng: np.random.Generator | None = None,
) -> ModelDecision:
    """The model for a request. `now` is by Redis's clock. Policy `thompson` draws from `rng`, or
    from a generator of its own where it is given none.

    Raises `InvalidRequest` where `only` is not in the catalogue, and what `choose` raises where no
    model may serve.
    """
    allowed = tuple(model for model in models if only in (None, model.name))
    if not allowed:
        names = {model.name: model for model in models}
        raise InvalidRequest(unknown("model of the catalogue", only, names))
    request = config.request_types.get(request_type)
    if rng is None and config.models.policy == "thompson":
        rng = np.random.default_rng()
    return choose(
        allowed,
        (request and request.model_task) or request_type,
        complexity,
        config.models.quality_priority,
        config.models.speed_priority,
        None if max_cost_usd is None else round(max_cost_usd * NANODOLLARS),
        needs=Needs(
            tenant,
            payload_characters,
            frozenset(request.needs if request else ()),
            frozenset(config.models.regions),
            request_type,
        ),
        facts=facts,
        policy=model_policy(config),
        now=now,
        rng=rng,
    )


def model_policy(config: FleetConfig) -> Policy:
    """How what was learned of the models is used, as configured."""
    models = config.models
    return Policy(
        models.policy, models.quality_floor, models.prior_strength, models.learn_half_life_seconds
    )
