"""Planning: ranks pools and chooses a model for submissions, from facts cached in this process.

Planning reads nothing from Redis while the snapshot is fresh: see `fleet.routing.snapshot`. The
exception is new shared price data, which is read once: see `fleet.models.priced`. Equal submissions
share a plan until the snapshot, the policy or a price changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleet.agent import AgentSpec
from fleet.budgets.controls import Controls
from fleet.errors import InvalidConfig, InvalidRequest
from fleet.models.complexity import Complexity
from fleet.models.known import KnownModels
from fleet.models.priced import follow
from fleet.models.rules.choice import NANODOLLARS, Model, ModelDecision
from fleet.models.rules.learning import ModelFacts
from fleet.models.store import ModelState, parse_facts
from fleet.policy.store import Policy, PolicyStore
from fleet.routing.routes import Route, Routes
from fleet.routing.rules.routing import RULE_LIMIT, Ranking, RouteRequest, rank
from fleet.routing.rules.strategies import NO_TURNS, Strategy, Turns, advance
from fleet.routing.snapshot import Snapshot
from fleet.settings import Settings
from fleet.tasks.submission.checks import Checked
from fleet.tasks.submission.model_planning import base_tokens, choose_model, stored_plan
from fleet.tasks.submission.reservation import money_rules
from fleet.tasks.submission.store import RankedPool, ScriptRoute, Submissions, SubmitAnswer
from fleet.text import unknown

MAX_PLANS = 1024
BAND_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """The part of a decision that does not depend on exact counts, and its stored form."""

    request_type: str
    agent_type: str
    ranking: Ranking
    models: ModelDecision
    route: ScriptRoute
    stored: str
    is_whole: bool
    """Whether the ranking has every pool that serves the agent type."""


class Planner:
    """Makes plans. Threads that submit concurrently should hold a lock: without one, a plan may be
    made twice, or a turn taken twice."""

    def __init__(
        self,
        settings: Settings,
        models: Sequence[Model],
        snapshot: Snapshot,
        submissions: Submissions,
        policies: PolicyStore,
        model_state: ModelState,
        strategies: Mapping[str, Strategy],
        complexity: Complexity,
        agents: Mapping[str, AgentSpec],
    ) -> None:
        self.settings = settings
        self.config = settings.config
        self.models = models
        self.snapshot = snapshot
        self.submissions = submissions
        self.policies = policies
        self.model_state = model_state
        self.strategies = strategies
        self.complexity = complexity
        self.version = "0"
        self.routes = Routes(self.config, {})
        self.controls = Controls(self.config, Policy())
        self.known_models = KnownModels()
        named = (tenant for model in models for tenant in model.tenants)
        self.model_tenants = frozenset((*named, *self.config.models.tenants))
        self.turns: Turns = NO_TURNS
        self.plans: dict[object, Plan] = {}
        self.priced = tuple(models)
        self.rng = np.random.default_rng()
        self.compatibility = {
            name: self.config.compatibility.get(name, {}) for name in self.config.request_types
        }
        self.estimates = {
            name: base_tokens(self.config, agents, name) for name in self.config.request_types
        }

    def plan(self, checked: Checked) -> Plan:
        """The plan for a submission. Reads a new snapshot only if the last one is stale."""
        if self.snapshot.is_stale(checked.request_type):
            self.refresh()
        self._follow_prices()
        key = (
            checked.request_type,
            checked.complexity,
            checked.pool,
            checked.model,
            checked.max_cost_usd,
            checked.tenant if self._is_special(checked.tenant) else "",
            _band(checked.payload_characters),
            checked.quality,
            checked.speed,
            checked.grants,
        )
        plan = self.plans.get(key)
        if plan is None:
            plan = self._make(checked)
            if self._may_be_shared(plan) and len(self.plans) < MAX_PLANS:
                self.plans[key] = plan
        return plan

    def _is_special(self, tenant: str) -> bool:
        """Whether a route, a model or a limit names this tenant."""
        return (
            tenant in self.routes.tenants
            or tenant in self.model_tenants
            or tenant in self.controls.special_tenants
        )

    def _may_be_shared(self, plan: Plan) -> bool:
        return not self._strategy(plan).varies and plan.models.policy != "thompson"

    def refresh(self) -> None:
        """Read the counts of all pools and the facts about models. Two round trips."""
        self.snapshot.refresh()
        self._take_facts(*self.model_state.look())
        self.plans.clear()

    def _follow_prices(self) -> None:
        """Drop the plans if a price has changed. Reads only a clock."""
        priced = tuple(self.models)
        if priced != self.priced:
            self.priced = priced
            self.plans.clear()

    def follow_policy(self) -> None:
        """Read the policy again, after a script has reported a new version. One round trip."""
        policy = self.policies.read()
        self.routes = Routes(self.config, policy.routes)
        self.controls = Controls(self.config, policy)
        self.complexity.follow(policy)
        self.version = policy.version
        self.plans.clear()

    def learn(self, plan: Plan, packed: str) -> None:
        """Take the pool counts from the answer of a submission."""
        if plan.is_whole and self.snapshot.learn(plan.request_type, plan.route.pools, packed):
            self.plans.clear()

    def learn_models(self, step: SubmitAnswer) -> None:
        """Take the facts about models from the answer of a submission, if it has them."""
        if step.models is not None and self._take_facts(step.now, parse_facts(step.models)):
            self.plans.clear()

    def _take_facts(self, now: float, facts: ModelFacts) -> bool:
        """Take facts about models; whether they are new. Reads new shared prices."""
        follow(self.models, facts.prices)
        return self.known_models.take(now, facts)

    def took(self, plan: Plan, pool: str) -> None:
        """Record which pool got the task, for strategies that take turns."""
        if self._strategy(plan).advance is not None:
            self.turns = advance(
                self.turns,
                plan.ranking.strategy,
                self.snapshot.table,
                plan.agent_type,
                pool,
                self.strategies,
            )

    def _strategy(self, plan: Plan) -> Strategy:
        return self.strategies[plan.ranking.strategy]

    def _make(self, checked: Checked) -> Plan:
        models = choose_model(
            self.config,
            self.priced,
            checked.request_type,
            checked.complexity,
            checked.model,
            self._limit(checked),
            base=self.estimates[checked.request_type],
            tenant=checked.tenant,
            payload_characters=_band(checked.payload_characters),
            facts=self.known_models.facts,
            now=self.known_models.now,
            rng=self.rng,
            quality=checked.quality,
            speed=checked.speed,
        )
        ranking = self._rank(checked)
        stored = stored_plan(
            checked.request_type,
            checked.agent_type,
            checked.complexity,
            models,
            ranking,
            checked.pool,
            checked.model,
            checked.grants,
        )
        group = self.snapshot.table.group(checked.agent_type)
        return Plan(
            checked.request_type,
            checked.agent_type,
            ranking,
            models,
            self._keys(checked, ranking, models),
            stored,
            checked.pool is None and len(ranking.rules) == len(group.pools),
        )

    def _limit(self, checked: Checked) -> int | None:
        """The task's own limit, in nano-dollars."""
        if checked.max_cost_usd is None:
            return self.controls.task_nanodollars
        return round(checked.max_cost_usd * NANODOLLARS)

    def _keys(self, checked: Checked, ranking: Ranking, models: ModelDecision) -> ScriptRoute:
        settings = self.settings
        pools = []
        for rule in ranking.rules:
            own = self.config.pools[rule.pool].agent_type
            overflow = "" if own == checked.agent_type else settings.overflow_queue(own)
            pools.append(RankedPool(rule.pool, settings.queue(rule.pool), *rule[1:4], overflow))
        return self.submissions.route(
            settings.overflow_queue(checked.agent_type),
            pools,
            checked.request_type,
            self.version,
            money_rules(
                self.controls,
                checked.request_type,
                checked.tenant,
                checked.agent_type,
                models,
            ),
            pinned=checked.pool is not None,
        )

    def _rank(self, checked: Checked) -> Ranking:
        request = RouteRequest(
            checked.request_type,
            checked.agent_type,
            checked.complexity,
            self.compatibility[checked.request_type],
        )
        route = self._route(checked)
        if checked.pool is None:
            return self._ranked(route, request)
        # A ranking keeps only the best pools; rank all, so that the named pool is among them.
        ranking = self._ranked(route, request, limit=len(self.snapshot.table.pools))
        rules = tuple(rule for rule in ranking.rules if rule.pool == checked.pool)
        if not rules:
            serving = {rule.pool: rule for rule in ranking.rules}
            raise InvalidRequest(
                unknown(f"pool that serves {checked.request_type}", checked.pool, serving)
            )
        return replace(ranking, rules=rules)

    def _ranked(self, route: Route, request: RouteRequest, limit: int = RULE_LIMIT) -> Ranking:
        return rank(
            route.strategy,
            request,
            self.snapshot.table,
            self.turns,
            weights=route.weights,
            limit=limit,
            rng=self.rng,
            strategies=self.strategies,
        )

    def _route(self, checked: Checked) -> Route:
        route = self.routes.of(checked.request_type, checked.tenant)
        if route.strategy not in self.strategies:
            raise InvalidConfig(
                f"{unknown('strategy', route.strategy, self.strategies)}. A user set this route at "
                "run time: install the package here too, or undo it with `fleet route clear`"
            )
        return route


def _band(characters: int) -> int:
    """Round up to a thousand, so that payloads of similar size share a plan."""
    return -(-characters // BAND_CHARACTERS) * BAND_CHARACTERS
