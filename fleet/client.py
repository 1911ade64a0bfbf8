"""`Fleet`: what an application submits with, from any process.

    fleet = Fleet.from_env()
    task = fleet.submit("code_generation", {"instruction": "...", "tests": "..."}, tenant="acme")
    result = task.result(timeout=60)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import SecretStr

from fleet.access.access import Guard
from fleet.access.administration import AccessAdministration
from fleet.access.guarded import guarded
from fleet.access.rules import Need
from fleet.agent import Payload, Result
from fleet.audit.origin import user
from fleet.broker.messages import message_encoder
from fleet.broker.signing import message_signer
from fleet.budgets.administration import BudgetAdministration
from fleet.errors import InvalidRequest, ResultTimeout, TaskCancelled, TaskNotFound
from fleet.ledger.administration import SpendReading
from fleet.models.rules.choice import ModelDecision
from fleet.policy.actor import routine_actor
from fleet.policy.store import Scope
from fleet.redis.client import redis_errors
from fleet.routing.agents_store import AgentRecord
from fleet.routing.routes import Route, Routes, check_scope, set_route
from fleet.routing.rules.pools import PoolFacts
from fleet.routing.rules.routing import Ranking, RouteDecision
from fleet.scaling.administration import ScalingAdministration
from fleet.settings import Pool, Settings, load_settings
from fleet.tasks.checkpoints_store import Checkpoint
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.dead_letters import DeadLetterAdministration, check_own
from fleet.tasks.ratings import rate
from fleet.tasks.reaper import last_health
from fleet.tasks.run.outcome import error_from
from fleet.tasks.store import ENDED, TaskRecord
from fleet.tasks.submission.batch import Submitted
from fleet.tasks.submission.checks import DEFAULT_PRIORITY, DEFAULT_TENANT, Submission
from fleet.tasks.submission.submit import DryRun, route_decision
from fleet.tasks.waiting.queue_index_store import Waiting
from fleet.text import unknown

LOOK_SECONDS = 5.0
PARKED = "waits for room under a limit, or to be tried again"

SUBMIT, READ = Need("submit"), Need("read")
SEE_FLEET = Need("read", whole_fleet=True)
OPERATE = Need("operate", whole_fleet=True)
ADMINISTER = Need("administer", whole_fleet=True)

TASK_NEEDS: Mapping[str, Need] = {
    **dict.fromkeys(("cancel", "rate"), SUBMIT),
    **dict.fromkeys(("decision", "model_decision", "record", "saved", "state"), READ),
    **dict.fromkeys(("result", "wait"), READ),
}
FLEET_NEEDS: Mapping[str, Need] = {
    **dict.fromkeys(("submit", "submit_many", "dry_run", "retry_dead", "drop_dead"), SUBMIT),
    **dict.fromkeys(("tasks", "dead", "malformed", "ledger", "spend", "start_wait"), READ),
    **dict.fromkeys(("controls", "limits", "limit_usage", "alerts", "emergency"), READ),
    **dict.fromkeys(("agents", "audit", "health", "pools", "routes"), SEE_FLEET),
    **dict.fromkeys(("scaling_history", "scaling_policies", "scaling_policy_of"), SEE_FLEET),
    **dict.fromkeys(("sizes", "waiting"), SEE_FLEET),
    **dict.fromkeys(("drain", "drain_pool", "resume", "resume_pool"), OPERATE),
    **dict.fromkeys(("set_route", "clear_route", "set_size", "clear_size"), OPERATE),
    **dict.fromkeys(("set_scaling_policy", "set_emergency", "end_emergency"), OPERATE),
    **dict.fromkeys(("set_limits", "clear_limits", "set_budget_policy"), ADMINISTER),
    **dict.fromkeys(("identity", "task"), Need(None)),
    **dict.fromkeys(("tokens", "grant_token", "rotate_token", "revoke_token"), Need("administer")),
}
"""What each public method needs. `guarded` refuses a class whose table is not complete."""


@guarded(TASK_NEEDS)
class Task:
    """A submitted task. Cheap to hold: it reads from Redis only when asked."""

    def __init__(
        self,
        connection: Connection,
        guard: Guard,
        task_id: str,
        submitted: Submitted | None = None,
    ) -> None:
        self.id = task_id
        self._connection = connection
        self._guard = guard
        self._submitted = submitted if submitted and submitted.is_new else None

    def __repr__(self) -> str:
        return f"Task({self.id!r})"

    @property
    def decision(self) -> RouteDecision:
        """Where the task went and why, with every candidate's numbers."""
        if self._submitted:
            placed = self._submitted.placed
            routed = placed.detail if placed.status == "pool" else ""
            return route_decision(self._submitted.plan.ranking, placed.loads, routed)
        record = self.record()
        if record.ranking is None:
            raise TaskNotFound(
                f"no decision is kept for task {self.id}: its publisher had no Fleet router"
            )
        return route_decision(Ranking.from_json(record.ranking), record.loads, record.routed)

    @property
    def model_decision(self) -> ModelDecision:
        """Which model the task was given and why."""
        if self._submitted:
            return self._submitted.plan.models
        stored = self.record().model_decision
        if stored is None:
            raise TaskNotFound(f"no model decision is kept for task {self.id}")
        return ModelDecision.from_json(stored)

    def record(self) -> TaskRecord:
        """The task's record, as it is now. Raises `TaskNotFound`."""
        return self._connection.tasks.records.read(self.id)

    def saved(self) -> tuple[Checkpoint, ...]:
        """The checkpoints of the task, oldest first. None are kept after its end, unless it is a
        dead letter."""
        return self._connection.tasks.model_calls.saved(self.id)

    def state(self) -> str:
        """One of `fleet.tasks.record.STATES`, such as `queued`. Raises `TaskNotFound`."""
        return self._connection.tasks.records.state(self.id)

    def cancel(self) -> str:
        """Cancel the task and return the state it was in. A task that has ended stays as it is."""
        ttl = self._connection.settings.config.limits.result_ttl_seconds
        return self._connection.tasks.records.cancel(self.id, ttl, self._guard.actor("") or user())

    def rate(self, rating: float) -> None:
        """Rate the result from 0 (useless) to 1. The fleet learns from it about the model.

        Rating again replaces the rating. Raises `InvalidRequest` for a rating out of range, and for
        a task that has not ended or that no model has answered.
        """
        rate(self._connection, self.id, rating)

    def result(self, timeout: float | None = None) -> Result:
        """Wait up to `timeout` seconds for the end and return the typed result.

        Raises the task's error: `TaskFailed` or another `FleetError`, `TaskUnverified` (its
        `result` holds the answer that failed the checks) or `TaskCancelled`. Raises `ResultTimeout`
        if the task has not ended.
        """
        record = self.wait(timeout)
        result = self._typed(record)
        if record.state == "cancelled":
            why = record.history[-1].why if record.history else ""
            raise TaskCancelled(f"task {self.id} was cancelled" + (f": {why}" if why else ""))
        if record.error is not None:
            raise error_from(record.error, result)
        assert result is not None
        return result

    def wait(self, timeout: float | None = None) -> TaskRecord:
        """Wait for the end, whatever it is, and return the record. Also waits for a task on hold.

        Raises `ResultTimeout`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        client = self._connection.client
        with redis_errors(client), client.pubsub(ignore_subscribe_messages=True) as news:
            news.subscribe(self._connection.keys.done(self.id))
            # Subscribed first and looked second, so that no end falls between the two.
            while (state := self.state()) not in ENDED:
                left = LOOK_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise ResultTimeout(
                        f"task {self.id} had not ended after {timeout:g} s; it "
                        f"{PARKED if state == 'parked' else 'goes on'}"
                    )
                news.get_message(timeout=min(left, LOOK_SECONDS))
        return self.record()

    def _admit(self, need: Need, what: str) -> None:
        self._guard.check(need, what)

    def _typed(self, record: TaskRecord) -> Result | None:
        spec = self._connection.agents.get(record.agent_type)
        if record.result is None or spec is None:
            return None
        return spec.result.model_validate(record.result)


@guarded(FLEET_NEEDS)
class Fleet(
    BudgetAdministration,
    DeadLetterAdministration,
    ScalingAdministration,
    SpendReading,
    AccessAdministration,
):
    """A fleet, as an application sees it.

    Where `access.mode` is `tokens`, a handle acts for the tenant of its `token`, by default that of
    FLEET_TOKEN, and each method raises `NotAllowed` without the role that it needs. The making of a
    handle raises it only where there is no token.
    """

    def __init__(self, settings: Settings, *, token: SecretStr | str | None = None) -> None:
        self.settings = settings
        self._connection = open_connection(settings)
        given = SecretStr(token) if isinstance(token, str) else token
        self._access = self._connection.access
        self._guard = Guard(self._access, given or settings.environment.token)
        self._guard.check_given()
        self._policy, self._budgets = self._connection.policy, self._connection.budgets
        self._ledger = self._connection.ledger
        encode = message_encoder(message_signer(self._connection))
        self._submitter = self._connection.submitter(encode, self._guard)

    @classmethod
    def from_env(cls) -> Self:
        """The fleet of FLEET_* and fleet.toml, or of a `fleet up` in this folder."""
        return cls(load_settings())

    def submit(
        self,
        request_type: str,
        payload: Mapping[str, Any] | Payload,
        *,
        tenant: str = DEFAULT_TENANT,
        complexity: float | None = None,
        pool: str | None = None,
        model: str | None = None,
        max_cost_usd: float | None = None,
        idempotency_key: str | None = None,
        priority: int = DEFAULT_PRIORITY,
        delay: float | None = None,
        not_before: datetime | None = None,
        quality: float | None = None,
        speed: float | None = None,
        tools: Sequence[str] | None = None,
        approve: Sequence[str] = (),
        approved_by: str = "",
        untrusted: bool = False,
    ) -> Task:
        """Submit a task, in one round trip. The options are those of `Submission`.

        With `delay`, in seconds, or `not_before`, a datetime with a time zone, the task waits in
        Redis for its time, whatever restarts meanwhile. Its money is reserved when it is due. If it
        fits no limit then, it is put on hold or fails, as the policy says.

        Raises `InvalidRequest`, `OverBudget`, `OverLimit`, `NoAgentAvailable`, `InEmergency`,
        `TooBusy` or `Unavailable`; nothing was written then. With `redis.min_replicas` also
        `NotReplicated`; the task is written then.

        A handle of one tenant submits for its tenant, which it need not name.
        """
        asked = Submission(
            request_type,
            payload,
            tenant,
            complexity,
            pool,
            model,
            max_cost_usd,
            idempotency_key,
            priority,
            delay,
            not_before,
            quality,
            speed,
            tools,
            approve,
            approved_by,
            untrusted,
        )
        return self._task(self._submitter.submit(asked))

    def submit_many(self, submissions: Iterable[Submission]) -> list[Task]:
        """Submit many tasks, in one round trip. All are checked before one is written.

        Raises the same errors as `submit`. If some are refused, the others are written; the error
        is that of the first refused task, and its notes have the ids of the written ones.
        `PartlySubmitted` has the ids of the tasks that were written before Redis failed or accepted
        no more. The same call again may submit these twice.
        """
        return [self._task(done) for done in self._submitter.submit_many(list(submissions))]

    def task(self, task_id: str) -> Task:
        """A task that any process has submitted. Raises `TaskNotFound`, also for a task of another
        tenant than the handle's."""
        check_own(self._connection, self._guard, task_id)
        self._connection.tasks.records.state(task_id)
        return Task(self._connection, self._guard, task_id)

    def tasks(
        self, limit: int = 50, state: str | None = None, tenant: str | None = None
    ) -> list[TaskRecord]:
        """The newest `limit` tasks, if given of one state or tenant. All tasks are searched."""
        own = self._guard.narrowed(tenant)
        return self._connection.tasks.records.newest(limit, state, own)

    def retry_dead(self, task_id: str) -> Task:
        """Submit a dead letter again as a new task. Both records name each other.

        Raises the errors of `submit`, `TaskNotFound` if there is no such dead letter, and
        `InvalidRequest` if its message was not kept. It stays a dead letter then.
        """
        return self._task(self._retry_dead(task_id))

    def pools(self) -> list[PoolFacts]:
        """Every configured pool with its exact counts."""
        planner = self._submitter.planner
        planner.refresh()
        return list(planner.snapshot.facts.values())

    def waiting(self) -> dict[str, Waiting]:
        """The depth of each queue, and the age of its oldest task: pools' queues and overflow
        queues. One round trip."""
        return self._connection.tasks.queue_index.waiting()

    def drain_pool(self, name: str) -> None:
        """Put a pool into maintenance. It gets no new tasks, its waiting tasks move to other pools,
        and its running tasks end. Raises `InvalidRequest`."""
        agent_type = self._known_pool(name).agent_type
        self._connection.routing.pools.maintain(name, True)
        self._connection.routing.pools.rescue(
            name, self.settings.queue(name), self.settings.overflow_queue(agent_type)
        )

    def resume_pool(self, name: str) -> None:
        """Take a pool out of maintenance, and back into the rotation if it was ejected."""
        self._known_pool(name)
        self._connection.routing.pools.maintain(name, False)
        self._connection.routing.pools.readmit(name)

    def routes(self) -> dict[Scope, Route]:
        """The routes in force by their scope. The narrowest scope that fits a task counts."""
        policy = self._connection.policy.store.read()
        return Routes(self.settings.config, policy.routes).by_scope

    def set_route(
        self,
        strategy: str,
        *,
        request_type: str = "",
        tenant: str = "",
        weights: Mapping[str, float] | None = None,
        why: str = "",
        by: str = "",
    ) -> None:
        """Route by another strategy from the next task on, in every process.

        `weights` are those of `ai_optimized`. The audit keeps `why` and `by`, by default the user
        of the operating system. If it raises `InvalidRequest`, nothing was changed.
        """
        set_route(
            self._connection.policy.store,
            self.settings,
            self._connection.strategies,
            Scope(request_type, tenant),
            strategy,
            weights,
            routine_actor(by, why),
        )

    def clear_route(
        self, *, request_type: str = "", tenant: str = "", why: str = "", by: str = ""
    ) -> bool:
        """Route these tasks by the configuration again. Returns whether a route was set."""
        scope = Scope(request_type, tenant)
        check_scope(self.settings, scope)
        return bool(self._connection.policy.store.clear_route(scope, routine_actor(by, why)))

    def dry_run(self, asked: Submission) -> DryRun:
        """The decision that a task would get now. Nothing is sent or written.

        Raises the errors of `submit`, except `NoAgentAvailable` and those of limits, which the
        decision shows.
        """
        return self._submitter.dry_run(asked)

    def agents(self) -> list[AgentRecord]:
        """Every known agent."""
        return self._connection.routing.agents.agents()

    def drain(self, agent_id: str) -> None:
        """Put an agent into maintenance: it takes no new tasks and finishes its own. Raises
        `InvalidRequest`."""
        self._connection.routing.agents.drain(agent_id)

    def resume(self, agent_id: str) -> None:
        """Take an agent out of maintenance."""
        self._connection.routing.agents.resume(agent_id)

    def health(self) -> dict[str, Any]:
        """Beat's last health summary, or an empty dictionary before the first."""
        return last_health(self._connection)

    def _admit(self, need: Need, what: str) -> None:
        self._guard.check(need, what)

    def _known_pool(self, name: str) -> Pool:
        found = self.settings.config.pools.get(name)
        if found is None:
            raise InvalidRequest(unknown("pool", name, self.settings.config.pools))
        return found

    def _task(self, submitted: Submitted) -> Task:
        return Task(self._connection, self._guard, submitted.task_id, submitted)
