"""The Celery task of each agent type: `agents.code_generator` and its like.

    app.send_task("agents.code_generator", args=[{"instruction": "..."}],
                  kwargs={"tenant": "acme", "complexity": 0.4})

The task does not run the agent itself: it hands the delivery to the process's runner, which
claims the lease, runs the agent, and writes the outcome.
"""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject
from celery.signals import worker_init, worker_process_init, worker_ready

from fleet.broker.app import Role, fleet_of
from fleet.broker.known_tasks import RUNS_AGAIN
from fleet.broker.messages import HEADER, task_name
from fleet.broker.submission import DeliveredRequest
from fleet.budgets.cached_policy import CachedPolicy
from fleet.budgets.controls import Controls
from fleet.errors import FleetError, LeaseLost, TaskCancelled
from fleet.models.callers import ModelCallers, load_clients
from fleet.models.complexity import DEFAULT_COMPLEXITY, Complexity
from fleet.models.priced import ModelsByName, follow
from fleet.policy.store import Policy
from fleet.secrets.known import KnownSecrets
from fleet.tasks.connection import Connection
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.tasks.leases.requeue import Requeued
from fleet.tasks.leases.slots import TaskSlots
from fleet.tasks.run.runner import AgentRunner
from fleet.tasks.run.services import ModelServices, PoolAgent, RunProcess
from fleet.tasks.submission.checks import RequestChecks
from fleet.tasks.submission.model_planning import base_tokens, choose_model, stored_plan
from fleet.telemetry.logger import get_logger
from fleet.worker.event_loop import LoopThread
from fleet.worker.late_results import late_result, notify_revoked, notify_started
from fleet.worker.requests import AgentRequest
from fleet.worker.shutdown import Notice
from fleet.worker.slots import Slots
from fleet.worker.tracing import AgentTask, is_outcome, note_outcome, requeue_delivery

Runners = Callable[[], AgentRunner]

log = get_logger(__name__)


def add_agent_tasks(
    app: Celery, role: Role, notice: Notice | None = None, slots: Slots | None = None
) -> None:
    """Register a task for each agent type of the configuration that has an installed agent.

    Before its first task, a worker's process makes its runner and imports the agents. When the
    shutdown notice is given, it requeues the tasks that it runs. `slots` are freed when an agent
    ends.
    """
    slots = slots or Slots()
    runner = _one_per_process(app, role, slots)
    if role.pool:
        in_threads = fleet_of(app).settings.config.pools[role.pool].execution == "threads"
        ready = worker_init if in_threads else worker_process_init
        # `weak=False`: Celery's signals hold their receivers weakly by default.
        ready.connect(lambda **_: _warm_up(runner, notice), weak=False)
        loaded = worker_ready if in_threads else worker_process_init
        loaded.connect(lambda **_: _freeze_loaded_objects(), weak=False)
        if not in_threads:
            # Before the fork: else each child that calls a model needs 50 MB of its own.
            worker_init.connect(lambda **_: load_clients(), weak=False)
    connection = fleet_of(app)
    for agent_type in connection.settings.config.agent_types:
        if agent_type in connection.agents:
            _add(app, connection, agent_type, runner, slots)


def _warm_up(runner: Runners, notice: Notice | None) -> None:
    if notice is not None:
        notice.watch(lambda: runner().process.keeper.requeue_all())
    runner().warm_up()


def _freeze_loaded_objects() -> None:
    """Exclude all objects that exist now from garbage collection.

    Some 200,000 objects are code and classes, which are never freed. Scanning them takes hundreds
    of milliseconds, in which no task of the process continues, and no lease is renewed.
    """
    gc.freeze()


def _add(
    app: Celery, connection: Connection, agent_type: str, runner: Runners, slots: Slots
) -> None:
    checks = RequestChecks(
        connection.settings, connection.agents, Complexity(connection.policy.store)
    )

    @app.task(
        name=task_name(agent_type),
        bind=True,
        base=AgentTask,
        acks_late=True,
        # Not shared with other applications of the process, which belong to other fleets.
        shared=False,
        # A worker that shuts down requeues it, see `shutdown.py`.
        **RUNS_AGAIN,
        Request=AgentRequest,
        # The record explains these errors already, so the log needs no traceback.
        throws=(FleetError,),
        # A result may hold anything, so log lines and events do not show it.
        resultrepr_maxsize=1,
        # The claim notifies Celery of the start: not every delivery runs.
        track_started=False,
    )
    def run_agent(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if not args and "payload" in kwargs:
            args = (kwargs.pop("payload"),)
        fields = {**kwargs, **(self.request.get(HEADER) or {})}
        found = DeliveredRequest(checks, agent_type, args, fields)
        result = _run(self, runner, agent_type, _delivery(self, connection, found, slots))
        # None if the task is on hold, is another worker's to run, or has ended.
        return late_result(self, connection) if result is None else result


def _delivery(
    task: Any, connection: Connection, found: DeliveredRequest, slots: Slots
) -> Delivery:
    """The delivery that a task's process handles now, for its runner."""
    request = task.request
    tag = request.properties.get("delivery_tag", "")
    return Delivery(
        task_id=request.id,
        payload=found.args[0] if len(found.args) == 1 else None,
        tenant=found.tenant,
        plan=partial(_plan, connection, found),
        priority=found.priority,
        message=partial(task.app.messages.of_delivery, request),
        refused=lambda: found.refused,
        claimed=partial(notify_started, task),
        runs_alone=partial(slots.close, tag),
        agent_ended=partial(slots.free, tag),
        ended=partial(note_outcome, task),
    )


def _run(task: Any, runner: Runners, agent_type: str, delivery: Delivery) -> dict[str, Any] | None:
    """Run a delivery. Returns or raises the outcome for Celery, see `fleet.worker.tracing`."""
    try:
        return runner().run(agent_type, delivery)
    except Requeued as given:
        raise Ignore(str(given)) if given.is_queued else Reject(given, requeue=True) from None
    except LeaseLost as lost:
        # The worker that has the task now also has a delivery of it.
        log.warning("run lost its lease", task=delivery.task_id, error=str(lost))
        raise Ignore(str(lost)) from None
    except TaskCancelled as error:
        if not is_outcome(task.request, error):
            raise requeue_delivery(delivery.task_id, error) from error
        notify_revoked(task, str(error), terminated=True)
        raise Ignore(str(error)) from None
    except Exception as error:
        if is_outcome(task.request, error):
            raise
        log.exception("run ended without an outcome", task=delivery.task_id)
        raise requeue_delivery(delivery.task_id, error) from error


def _plan(connection: Connection, found: DeliveredRequest) -> str:
    """The stored plan of a task whose publisher wrote no record, without a ranking of pools."""
    checked = found.checked
    if isinstance(checked, FleetError):
        request_type, complexity, characters = found.agent_type, DEFAULT_COMPLEXITY, 0
        quality = speed = None
    else:
        request_type, complexity = checked.request_type, checked.complexity
        characters, quality, speed = checked.payload_characters, checked.quality, checked.speed
    now, facts = connection.models.state.look()
    follow(connection.models.catalogue, facts.prices)
    config = connection.settings.config
    models = choose_model(
        config,
        connection.models.catalogue,
        request_type,
        complexity,
        base=base_tokens(config, connection.agents, request_type),
        limit_nanodollars=Controls(config, Policy()).task_nanodollars,
        tenant=found.tenant,
        payload_characters=characters,
        facts=facts,
        now=now,
        quality=quality,
        speed=speed,
    )
    return stored_plan(request_type, found.agent_type, complexity, models, None)


def _one_per_process(app: Celery, role: Role, slots: Slots) -> Runners:
    """A function that returns the process's runner, and makes it on first use: after the fork."""
    made: dict[int, AgentRunner] = {}
    guard = threading.Lock()

    def runner() -> AgentRunner:
        process = os.getpid()
        with guard:
            if process not in made:
                made.clear()
                made[process] = _make_runner(app, role, slots.tasks)
            return made[process]

    return runner


def _make_runner(app: Celery, role: Role, slots: TaskSlots) -> AgentRunner:
    connection = fleet_of(app)
    settings = connection.settings
    leases = settings.config.leases
    keeper = LeaseKeeper(connection.tasks.records, leases.lease_seconds, leases.renew_seconds)
    keeper.start()
    models = ModelServices(
        models=ModelsByName(connection.models.catalogue),
        callers=ModelCallers(
            settings, connection.models.catalogue, connection.models.keys, random.Random()
        ),
        calls=connection.tasks.model_calls,
        state=connection.models.state,
        examples=connection.models.examples,
        policy=CachedPolicy(settings.config, connection.policy.store),
    )
    return AgentRunner(
        settings,
        PoolAgent(role.pool, role.agent),
        connection.agents,
        connection.tasks,
        connection.routing.pools,
        models,
        RunProcess(
            keeper,
            LoopThread().submit,
            slots,
            random.Random(),
            KnownSecrets(settings, os.environ).include(connection.secrets.values).hidden,
        ),
    )
