"""Runs a task: claim it, run its agent, write the outcome.

    claimed   -> the agent runs under the task's time limit while its lease is renewed: `leased_run`
    held      -> another run has a live lease: this delivery is dropped; if that run dies, the
                 reaper requeues the task from its record
    ended     -> a late redelivery, or a task cancelled while it waited: dropped
    spent     -> the task has crashed too often: dropped, the reaper fails it

    on hold   <- a model call does not fit a limit and the policy is to wait, or a retry follows
    requeued  <- the worker shuts down before the run has ended

A run writes exactly one outcome, and only with the newest lease. A run that has lost its lease
writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fleet.agent import Agent, AgentContext, AgentSpec, Outcome
from fleet.errors import RetryLater, TaskOnHold
from fleet.routing.pools_store import Pools
from fleet.settings import Settings
from fleet.tasks.leases.claims import Claims, Delivery
from fleet.tasks.leases.requeue import Requeued
from fleet.tasks.run.context import RunContext
from fleet.tasks.run.leased_run import LeasedRun
from fleet.tasks.run.model_session import ModelSession
from fleet.tasks.run.outcome import RunOutcome, failed
from fleet.tasks.run.outcome_writer import OutcomeWriter
from fleet.tasks.run.services import ModelServices, PoolAgent, RunProcess
from fleet.tasks.stores import TaskStores
from fleet.tasks.submission.checks import checked_payload
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)


class AgentRunner:
    """Runs tasks of one agent type in one process."""

    def __init__(
        self,
        settings: Settings,
        agent: PoolAgent,
        specs: Mapping[str, AgentSpec],
        tasks: TaskStores,
        pools: Pools,
        models: ModelServices,
        process: RunProcess,
    ) -> None:
        """`specs` are the installed agents by their type."""
        self.settings = settings
        self.agent = agent
        self.specs = specs
        self.tasks = tasks.records
        self.models = models
        self.process = process
        self.limits = settings.config.limits
        self.read_roots = tuple(Path(r).resolve() for r in settings.config.agents.read_roots)
        self._made: dict[str, Agent] = {}
        lease_seconds = settings.config.leases.lease_seconds
        self.claims = Claims(tasks.records, models.policy, agent.id, agent.pool, lease_seconds)
        self.outcomes = OutcomeWriter(settings, agent, tasks, pools, process.rng)

    def warm_up(self) -> None:
        """Create the pool's agents, so that the first task does not wait for imports."""
        pool = self.settings.config.pools[self.agent.pool]
        for agent_type in (pool.agent_type, *self.settings.config.helped_by(self.agent.pool)):
            if agent_type in self.specs:
                self._agent(self.specs[agent_type])

    def run(self, agent_type: str, delivery: Delivery) -> dict[str, Any] | None:
        """Run a delivered task to its end; its result, or None if this delivery is dropped or the
        task goes on hold.

        Raises the task's own error, after it is written and passed to `delivery.ended`; `LeaseLost`
        if another run has the task; `Requeued` if another worker will run it. After any other error
        there is no outcome, and the reaper requeues the task from its record.
        """
        try:
            claimed = self.claims.claim(delivery)
        except RetryLater as error:
            # This message may be the only copy: a stock publisher writes no record.
            raise Requeued(delivery.task_id, is_queued=False, reason=str(error)) from error
        if isinstance(claimed, str):
            log.info("delivery dropped", task=delivery.task_id, reason=claimed)
            return None
        delivery.claimed()
        lease, refused = claimed.lease, claimed.refused
        session = ModelSession(lease, self.models, delivery.payload)
        outcome = failed(refused) if refused else self._run_claimed(agent_type, delivery, session)
        if isinstance(outcome, TaskOnHold):
            written = self.outcomes.hold(lease, outcome)
        else:
            written = self.outcomes.write(lease, outcome)
        if written is None:
            return None
        if written.reward is not None:
            self._learn(session, written.reward)
        if written.error is not None:
            delivery.ended(written.error)
            raise written.error
        return dict(json.loads(written.fields["result"]))

    def _run_claimed(
        self, agent_type: str, delivery: Delivery, session: ModelSession
    ) -> RunOutcome | TaskOnHold:
        run = LeasedRun(
            self.settings,
            self.tasks,
            self.process,
            session.lease,
            delivery,
            self.limits.task_seconds,
        )
        outcome = run.outcome(partial(self._run_agent, agent_type, delivery.payload, session))
        # The agent may have caught `TaskOnHold` and ended without the call: its outcome is void.
        return session.on_hold if session.on_hold and not run.was_stopped else outcome

    async def _run_agent(self, agent_type: str, payload: Any, session: ModelSession) -> Outcome:
        spec, lease = self.specs[agent_type], session.lease
        max_bytes = self.settings.config.limits.payload_bytes
        checked, _ = checked_payload(spec.payload, lease.request_type, payload, max_bytes)
        sandbox = self.settings.config.agents.sandbox
        context: AgentContext = RunContext(
            lease, self.tasks, session, self.read_roots, sandbox, spec.tools
        )
        return await self._agent(spec).run(checked, context)

    def _agent(self, spec: AgentSpec) -> Agent:
        if spec.agent_type not in self._made:
            self._made[spec.agent_type] = spec.make()
        return self._made[spec.agent_type]

    def _learn(self, session: ModelSession, reward: float) -> None:
        """Learn from the reward. The outcome is written already, so errors are only logged."""
        try:
            session.learning.learn(reward)
        except Exception as error:
            log.warning("the reward of a run was not stored", error=repr(error))
