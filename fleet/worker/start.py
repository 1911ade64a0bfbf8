"""How a worker is started: what Celery's options say has to agree with the fleet's configuration.

A pool of the configuration says how many slots each of its workers has, and whether they are
threads or processes. Routing, leases and shutdown depend on that: a worker that is started
otherwise hangs, or runs more or less than the fleet counts on. So it ends at once, with a
sentence, before it has registered anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery.apps.worker import Worker
from celery.concurrency import ALIASES
from click import ClickException, get_current_context
from click.core import ParameterSource

from fleet.broker.application import Role
from fleet.broker.known_tasks import SentTask, forget_known_tasks
from fleet.broker.user_settings import check_agent_settings
from fleet.errors import InvalidConfig
from fleet.settings import Settings

CAN_GROW = ("prefork", "gevent", "eventlet")
"""Celery's pools that can be scaled while they run."""


class CannotStart(InvalidConfig, ClickException):
    """A worker that its command, or the application's settings, start in a way that cannot work.
    Celery's command shows the message and ends with status 1."""


class FleetWorker(Worker):
    """A worker of an application that `make_app` has made."""

    def on_after_init(self, **options: Any) -> None:
        """Called when its options are known, before it does anything. Raises `CannotStart`."""
        super().on_after_init(**options)
        if self.app.role.pool and not self._says_pool(options):
            self.pool_cls = self.app.fleet.settings.config.pools[self.app.role.pool].execution
        try:
            self.app.check_all()
            self._check(options)
        except InvalidConfig as error:
            raise CannotStart(str(error)) from None

    def on_init_blueprint(self) -> None:
        """Called when all tasks are loaded."""
        super().on_init_blueprint()
        forget_known_tasks(self.app)
        for name, task in self.app.tasks.items():
            if isinstance(task, SentTask) and not task.acks_late:
                raise CannotStart(
                    f"task_annotations: {name} has to be acknowledged late, or a task would be "
                    "lost with its worker; leave acks_late of the agents' tasks out"
                )

    def _says_pool(self, options: Mapping[str, Any]) -> bool:
        """Whether anybody has chosen the pool: by -P, or by the setting `worker_pool`."""
        if self.app.conf.value_set_for("worker_pool"):
            return True
        context = get_current_context(silent=True)
        if context is not None and context.get_parameter_source("pool") is not None:
            return context.get_parameter_source("pool") is not ParameterSource.DEFAULT
        return bool(options.get("pool") or options.get("pool_cls"))

    def _check(self, options: Mapping[str, Any]) -> None:
        role, settings = self.app.role, self.app.fleet.settings
        execution = name_of(self.pool_cls)
        autoscale = options.get("autoscale")
        if execution == "prefork" and self.pool_start_method == "spawn":
            raise InvalidConfig(
                "worker_pool_start_method: processes of this application are forked; leave it out"
            )
        if autoscale and execution not in CAN_GROW:
            raise InvalidConfig(
                f"--autoscale is for processes (-P prefork), and {execution} cannot be scaled; "
                "leave it out"
            )
        if role.pool:
            check_execution(settings, role, execution, self.concurrency, autoscale)
            check_queues(settings, role, options)
            check_agent_settings(self.app.conf)


def name_of(pool_cls: Any) -> str:
    """The name of one of Celery's pools, which is given by its name or as its class."""
    if isinstance(pool_cls, str):
        path = ALIASES.get(pool_cls, pool_cls)
    else:
        path = f"{pool_cls.__module__}:{pool_cls.__qualname__}"
    return next((name for name, known in ALIASES.items() if known == path), str(path))


def check_execution(
    settings: Settings, role: Role, execution: str, concurrency: Any, autoscale: Any
) -> None:
    """Hold a worker against `execution` and `slots` of its pool. Raises `InvalidConfig`."""
    pool = settings.config.pools[role.pool]
    if execution != pool.execution:
        may_be = execution in ("threads", "prefork")
        change = f', or set execution = "{execution}"' if may_be else ""
        raise InvalidConfig(
            f'-P {execution}: the workers of pool {role.pool} run "{pool.execution}" (execution in '
            f"[pools.{role.pool}] of fleet.toml); leave -P out{change}"
        )
    most = max(autoscale) if autoscale else concurrency
    if str(most) != str(pool.slots):
        option = f"--autoscale {most}" if autoscale else f"-c {most}"
        raise InvalidConfig(
            f"{option}: each worker of pool {role.pool} has {pool.slots} slots (slots in "
            f"[pools.{role.pool}] of fleet.toml); leave it out, or change slots there"
        )


def check_queues(settings: Settings, role: Role, options: Mapping[str, Any]) -> None:
    """An agent has to take the tasks that are sent to it. Raises `InvalidConfig`."""
    agent_type = settings.config.pools[role.pool].agent_type
    needed = {settings.queue(role.pool), settings.overflow_queue(agent_type)}
    named, left_out = _names(options.get("queues")), _names(options.get("exclude_queues"))
    missing = (needed - named if named else set()) | (needed & left_out)
    if missing:
        raise InvalidConfig(
            f"-Q: an agent of pool {role.pool} has to serve {' and '.join(sorted(missing))} too; "
            "name them beside your own queues, or serve these with a worker without FLEET_POOL"
        )


def _names(given: Any) -> set[str]:
    several = given.split(",") if isinstance(given, str) else given or ()
    return {name.strip() for name in several}
