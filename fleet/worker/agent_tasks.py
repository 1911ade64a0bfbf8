"""The Celery task of each agent type: `agents.code_generator` and its like.

    app.send_task("agents.code_generator", args=[{"instruction": "..."}],
                  kwargs={"tenant": "acme", "complexity": 0.4})

The task does not run the agent itself: it hands the delivery to the process's runner, which
claims the lease, runs, and writes the end.
"""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from celery import Celery
from celery.exceptions import Ignore, Reject
from celery.signals import worker_init, worker_process_init, worker_ready

from fleet.broker.app import Role, fleet_of
from fleet.broker.messages import HEADER, message_of, task_name
from fleet.broker.submission import Delivered
from fleet.budgets.cached_policy import CachedPolicy
from fleet.budgets.controls import Controls
from fleet.errors import FleetError, LeaseLost, TaskCancelled
from fleet.models.callers import load_clients, model_callers
from fleet.models.complexity import DEFAULT_COMPLEXITY, Complexity
from fleet.models.priced import ModelsByName, follow
from fleet.policy.store import Policy
from fleet.tasks.connection import Connection
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.tasks.leases.requeue import GivenBack
from fleet.tasks.leases.slots import TaskSlots
from fleet.tasks.run.runner import AgentRunner
from fleet.tasks.run.services import ModelServices, PoolAgent, RunProcess
from fleet.tasks.submission.checks import RequestChecks
from fleet.tasks.submission.model_planning import base_tokens, choose_model, stored_plan
from fleet.worker.event_loop import LoopThread
from fleet.worker.late_results import late_end, tell_revoked, tell_started
from fleet.worker.revoking import agent_request
from fleet.worker.shutdown import Notice
from fleet.worker.slots import Slots
from fleet.worker.tracing import AgentTask, goes_back, is_end, note_end

Runners = Callable[[], AgentRunner]

log = structlog.get_logger(__name__)


def add_agent_tasks(
    app: Celery, role: Role, notice: Notice | None = None, slots: Slots | None = None
) -> None:
    """Register a task for each agent type of the configuration that has an installed agent.

    A worker's processes make their runner, and import its agents, before the first task, and give
    back what they run when the notice is given. `slots` are told when an agent ends.
    """
    slots = slots or Slots()
    runner = _one_per_process(app, role, slots)
    if role.pool:
        in_threads = fleet_of(app).settings.config.pools[role.pool].execution == "threads"
        ready = worker_init if in_threads else worker_process_init
        # Kept by the closure: Celery's signals hold their receivers weakly by default.
        ready.connect(lambda **_: _get_ready(runner, notice), weak=False)
        loaded = worker_ready if in_threads else worker_process_init
        loaded.connect(lambda **_: _keep_what_is_loaded(), weak=False)
        if not in_threads:
            # Before the fork: else each child that calls a model holds 50 MB of its own.
            worker_init.connect(lambda **_: load_clients(), weak=False)
    connection = fleet_of(app)
    for agent_type in connection.settings.config.agent_types:
        if agent_type in connection.agents:
            _add(app, connection, agent_type, runner, role, slots)


def _get_ready(runner: Runners, notice: Notice | None) -> None:
    if notice is not None:
        notice.watch(lambda: runner().process.keeper.give_back())
    runner().warm_up()


def _keep_what_is_loaded() -> None:
    """Have Python look for garbage among the tasks' objects alone from now on.

    Some 200,000 objects are code and classes, which stay for good. Looking through them takes
    hundreds of milliseconds, in which no task of the process gets on, and no lease is renewed.
    """
    gc.freeze()


def _add(
    app: Celery,
    connection: Connection,
    agent_type: str,
    runner: Runners,
    role: Role,
    slots: Slots,
) -> None:
    checks = RequestChecks(
        connection.settings, connection.agents, Complexity(connection.policy.store)
    )

    @app.task(
        name=task_name(agent_type),
        bind=True,
        base=AgentTask,
        acks_late=True,
        # Each application's own: another one of the process has a fleet of its own.
        shared=False,
        # A worker that stops gives it back, see `ending.py`.
        comes_again=True,
        Request=agent_request(connection, role),
        # An error that the record explains already needs no traceback in the log,
        throws=(FleetError,),
        # nor does a result, which may hold anything, belong into log lines and events.
        resultrepr_maxsize=1,
        # It is told when the task is claimed: not of a delivery that is not to run.
        track_started=False,
    )
    def run_agent(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        request = self.request
        if not args and "payload" in kwargs:
            args = (kwargs.pop("payload"),)
        found = Delivered(checks, agent_type, args, {**kwargs, **(request.get(HEADER) or {})})
        tag = request.properties.get("delivery_tag", "")
        delivery = Delivery(
            task_id=request.id,
            payload=args[0] if len(args) == 1 else None,
            tenant=found.tenant,
            plan=partial(_plan, connection, found),
            priority=found.priority,
            message=partial(message_of, request),
            refused=lambda: found.refused,
            claimed=partial(tell_started, self),
            runs_alone=partial(slots.close, tag),
            agent_ended=partial(slots.free, tag),
            ended=partial(note_end, self),
        )
        result = _run(self, runner, agent_type, delivery)
        # None where it is parked, is another's to run, or has ended.
        return late_end(self, connection) if result is None else result


def _run(task: Any, runner: Runners, agent_type: str, delivery: Delivery) -> dict[str, Any] | None:
    """Run a delivery; what Celery is to be told of it: see `fleet.worker.tracing`."""
    try:
        return runner().run(agent_type, delivery)
    except GivenBack as given:
        raise Ignore(str(given)) if given.is_queued else Reject(given, requeue=True) from None
    except LeaseLost as lost:
        # Whoever has the task now has a delivery of it, too.
        log.warning("a run has lost its lease", task=delivery.task_id, error=str(lost))
        raise Ignore(str(lost)) from None
    except TaskCancelled as error:
        if not is_end(task.request, error):
            raise goes_back(delivery.task_id, error) from error
        tell_revoked(task, str(error), terminated=True)
        raise Ignore(str(error)) from None
    except Exception as error:
        if is_end(task.request, error):
            raise
        log.exception("a run came to no end", task=delivery.task_id)
        raise goes_back(delivery.task_id, error) from error


def _plan(connection: Connection, found: Delivered) -> str:
    """What is kept with a task whose publisher wrote no record: there was no ranking."""
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
    """A function that makes the runner when a process first needs it: after the fork."""
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
        callers=model_callers(settings, connection.models.catalogue, os.environ),
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
        RunProcess(keeper, LoopThread().submit, slots, random.Random()),
    )
