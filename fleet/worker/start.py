"""The start of a worker: Celery's options have to match the fleet's configuration.

A pool's configuration sets how many slots each of its workers has, and whether they are threads or
processes. Routing, leases and shutdown depend on both: a worker with other options hangs, or runs
more or fewer tasks than the fleet expects. Such a worker exits at once with an error message,
before it registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from celery.apps.worker import Worker
from celery.concurrency import ALIASES
from click import ClickException, get_current_context
from click.core import ParameterSource

from fleet.broker.application import Role
from fleet.broker.known_tasks import SentTask, forget_known_tasks
from fleet.broker.user_settings import check_agent_settings
from fleet.errors import InvalidConfig, NotAllowed, SecretNotFound, SecretsUnavailable
from fleet.scaling.actuators import POOL, check_actuator
from fleet.settings import Settings
from fleet.settings.data_folder import make_private

CAN_GROW = ("prefork", "gevent", "eventlet")
"""Celery's pools that can grow and shrink while they run."""


class CannotStart(InvalidConfig, ClickException):
    """The command's options, or the application's settings, cannot work for this worker. Correct
    them. Celery's command shows the message and exits with status 1."""


class FleetWorker(Worker):
    """A worker of an application that `make_app` has made."""

    def on_after_init(self, **options: Any) -> None:
        """Check the options. Celery calls this before the worker does anything. Raises
        `CannotStart`."""
        super().on_after_init(**options)
        if self.app.role.pool and not self._names_pool(options):
            self.pool_cls = self.app.fleet.settings.config.pools[self.app.role.pool].execution
        try:
            self.app.check_all()
            self._check(options)
            self.app.guard.prepare()
            with suppress(OSError):
                # A worker without a disk of its own works too.
                make_private(self.app.fleet.settings.environment.data_dir)
        except (InvalidConfig, SecretNotFound, SecretsUnavailable, NotAllowed) as error:
            raise CannotStart(str(error)) from None

    def on_init_blueprint(self) -> None:
        """Check the tasks. Celery calls this when all are loaded. Raises `CannotStart`."""
        super().on_init_blueprint()
        forget_known_tasks(self.app)
        for name, task in self.app.tasks.items():
            if isinstance(task, SentTask) and not task.acks_late:
                raise CannotStart(
                    f"task_annotations: {name} has to be acknowledged late, or a task would be "
                    "lost with its worker; leave acks_late out for agents' tasks"
                )

    def _names_pool(self, options: Mapping[str, Any]) -> bool:
        """Whether -P or the setting `worker_pool` names Celery's pool."""
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
            check_actuator(settings)
            check_execution(settings, role, execution, self.concurrency, autoscale)
            check_queues(settings, role, options)
            check_agent_settings(self.app.conf)


def name_of(pool_cls: Any) -> str:
    """The name of one of Celery's pools, given as a name or as a class."""
    if isinstance(pool_cls, str):
        path = ALIASES.get(pool_cls, pool_cls)
    else:
        path = f"{pool_cls.__module__}:{pool_cls.__qualname__}"
    return next((name for name, known in ALIASES.items() if known == path), str(path))


def check_execution(
    settings: Settings, role: Role, execution: str, concurrency: Any, autoscale: Any
) -> None:
    """Compare a worker with `execution` and `slots` of its pool. Raises `InvalidConfig`."""
    pool = settings.config.pools[role.pool]
    if execution != pool.execution:
        may_be = execution in ("threads", "prefork")
        change = f', or set execution = "{execution}"' if may_be else ""
        raise InvalidConfig(
            f'-P {execution}: the workers of pool {role.pool} run "{pool.execution}" (execution in '
            f"[pools.{role.pool}] of fleet.toml); leave -P out{change}"
        )
    if autoscale and settings.config.scaling.actuator == POOL:
        raise InvalidConfig(
            "--autoscale: the fleet grows and shrinks this worker (scaling.actuator); leave it out"
        )
    most = max(autoscale) if autoscale else concurrency
    if str(most) != str(pool.slots):
        option = f"--autoscale {most}" if autoscale else f"-c {most}"
        raise InvalidConfig(
            f"{option}: each worker of pool {role.pool} has {pool.slots} slots (slots in "
            f"[pools.{role.pool}] of fleet.toml); leave it out, or change slots there"
        )


def check_queues(settings: Settings, role: Role, options: Mapping[str, Any]) -> None:
    """Check that an agent serves its pool's queues. Raises `InvalidConfig`."""
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
