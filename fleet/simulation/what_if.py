"""One possible fleet for a simulation: its pools, routes and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np

from fleet.agent import AgentSpec
from fleet.errors import InvalidRequest
from fleet.models.rules.choice import Model, ModelCandidate, Tokens, cost_nanodollars
from fleet.routing.routes import Routes, changed_weights
from fleet.routing.rules.strategies import RouteRequest, Strategy
from fleet.settings import FleetConfig, Pool
from fleet.simulation.rules.pools import SimulatedPool, Skill
from fleet.simulation.rules.producers import Way
from fleet.simulation.rules.replay import Experience, PastTask
from fleet.simulation.rules.workload import Kind
from fleet.tasks.submission.model_planning import base_tokens, choose_model
from fleet.text import unknown

KindName = tuple[str, str, float]
"""Request type, tenant and complexity."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A fleet to simulate. `strategy` and `weights`, if given, apply to all tasks."""

    name: str
    config: FleetConfig
    models: tuple[Model, ...]
    routes: Routes
    agents: Mapping[str, AgentSpec]
    strategy: str | None = None
    weights: Mapping[str, float] | None = None

    def kinds(self, names: Iterable[KindName]) -> dict[KindName, Kind]:
        """The kinds of tasks as this fleet routes them. Raises `InvalidRequest`."""
        return {name: Kind(self._request(*name), name[1]) for name in names}

    def ways(self, names: Iterable[KindName], strategies: Mapping[str, Strategy]) -> list[Way]:
        """How each kind is routed. Raises `InvalidRequest` for an unknown strategy or weight."""
        ways = [self._way(request_type, tenant) for request_type, tenant, _ in names]
        for way in ways:
            if way.strategy not in strategies:
                raise InvalidRequest(unknown("strategy", way.strategy, strategies))
        return ways

    def pools(
        self, experience: Experience | None = None, busiest: Mapping[str, int] | None = None
    ) -> list[SimulatedPool]:
        """The pools, with speed and success from the record. Without it all are equal and perfect.

        A pool has its `min` agents, or more if `busiest` requires it: the maximum number of tasks
        that it ran at once.
        """
        peaks = busiest or {}
        return [
            SimulatedPool(
                name=name,
                agent_type=pool.agent_type,
                slots=pool.slots * max(1, pool.min, ceil(peaks.get(name, 0) / pool.slots)),
                weight=pool.weight,
                helps=self.config.helped_by(name),
                by_request=experience.skills(name) if experience else self._suited(pool),
            )
            for name, pool in self.config.pools.items()
        ]

    def chosen(self, names: Iterable[KindName]) -> list[ModelCandidate]:
        """The model for each kind, with its figures."""
        return [
            choose_model(
                self.config,
                self.models,
                request_type,
                complexity,
                base=base_tokens(self.config, self.agents, request_type),
                tenant=tenant,
            ).best
            for request_type, tenant, complexity in names
        ]

    def cost(self, chosen: ModelCandidate, task: PastTask, runs: int) -> int:
        """The cost of a recorded task with the chosen model, in nano-dollars.

        For the recorded model it is the recorded cost. For another model it is the recorded tokens
        at its price, or the estimated cost if the record has no tokens.
        """
        if chosen.model == task.model and task.cost_nanodollars is not None:
            return task.cost_nanodollars
        if task.input_tokens is None or task.output_tokens is None:
            return chosen.cost_nanodollars * runs
        model = next(model for model in self.models if model.name == chosen.model)
        return cost_nanodollars(model, Tokens(task.input_tokens, task.output_tokens))

    def _request(self, request_type: str, tenant: str, complexity: float) -> RouteRequest:
        found = self.config.request_types.get(request_type)
        if found is None:
            raise InvalidRequest(unknown("request type", request_type, self.config.request_types))
        suits = self.config.compatibility.get(request_type, {})
        return RouteRequest(request_type, found.agent_type, complexity, suits)

    def _way(self, request_type: str, tenant: str) -> Way:
        route = self.routes.of(request_type, tenant)
        weights = changed_weights(route.weights, self.weights or {})
        return Way(self.strategy or route.strategy, weights)

    def _suited(self, pool: Pool) -> dict[str, Skill]:
        """For other agent types (spillover), the success rate is the compatibility."""
        return {
            name: Skill(success=self.config.suits(name, pool.agent_type))
            for name, request in self.config.request_types.items()
            if request.agent_type != pool.agent_type
        }


def busiest(tasks: Iterable[PastTask]) -> dict[str, int]:
    """The maximum number of tasks that each pool ran at once, from tasks with a known start."""
    changes: dict[str, list[tuple[float, int]]] = {}
    for task in tasks:
        if task.pool and task.wait_seconds is not None:
            began = task.submitted + task.wait_seconds
            moments = ((began, 1), (began + task.run_seconds, -1))
            changes.setdefault(task.pool, []).extend(moments)
    return {
        pool: int(np.cumsum([change for _, change in sorted(found)]).max())
        for pool, found in changes.items()
    }
