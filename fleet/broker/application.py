"""The class of the application that `make_app` makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery, _state
from celery.backends.asynchronous import E_RETRY_LIMIT_EXCEEDED
from kombu import Queue
from kombu.exceptions import OperationalError
from kombu.utils.objects import cached_property

from fleet.broker.messages import CeleryMessages
from fleet.broker.router import FleetRouter
from fleet.broker.signing import MessageGuard
from fleet.broker.user_settings import (
    check_dictionary,
    check_settings,
    transport_options,
)
from fleet.broker.whole_groups import group_that_is_sent
from fleet.tasks.connection import Connection

RESULTS = {
    "redis": "fleet.broker.results:RedisResults",
    "rediss": "fleet.broker.results:RedisResults",
    "sentinel": "fleet.broker.results:SentinelResults",
}


@dataclass(frozen=True, slots=True)
class Role:
    """The role of a process. `pool` and `agent` are empty in a process that is no agent."""

    pool: str = ""
    agent: str = ""


class FleetCelery(Celery):
    """An application whose agents' tasks are placed by Fleet, whatever its user sets.

    `fleet_defaults` are Fleet's Celery settings, which a user's settings override (see
    `user_settings.py`). `jobs` are Fleet's entries in beat's schedule, beside the user's.
    """

    amqp_cls = "fleet.broker.amqp:FleetAMQP"
    control_cls = "fleet.broker.revocations:Control"

    def __init__(
        self,
        fleet: Connection,
        role: Role,
        router: FleetRouter,
        fleet_defaults: Mapping[str, Any],
        messages: CeleryMessages,
        guard: MessageGuard,
        *,
        set_as_current: bool,
    ) -> None:
        self.fleet = fleet
        #: Writes messages, and signs them if the fleet's messages are signed.
        self.messages = messages
        #: Says which messages a worker refuses.
        self.guard = guard
        #: Submits the agents' tasks of a group or chord as a whole.
        self.submitter = router.submitter
        self.role = role
        self.fleet_router = router
        self.fleet_defaults = dict(fleet_defaults)
        self.jobs: dict[str, Any] = {}
        super().__init__("fleet", set_as_current=set_as_current)
        self.loader.override_backends = {**self.loader.override_backends, **RESULTS}
        if set_as_current and _is_fallback(_state.default_app):
            # Only this thread has a current application; all others use the default one.
            self.set_default()

    @property
    def fleet_queues(self) -> list[Queue]:
        """The queues of the fleet that this process publishes to, or serves."""
        found: list[Queue] = self.fleet_defaults["task_queues"]
        return found

    def check(self) -> None:
        """Raise `InvalidConfig` if a user's setting would break the fleet."""
        check_settings(self.conf, self.fleet.settings, self.fleet_defaults)

    def check_all(self) -> None:
        """As `check`, and check the routes too, which a publisher checks when it sends."""
        self.check()
        self.amqp.flush_routes()

    def add_jobs(self) -> None:
        """Add Fleet's jobs to beat's schedule. The user's entries stay."""
        self.conf.beat_schedule = {**self.jobs, **self.conf.beat_schedule}

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """As in Celery; while a group is sent, all its messages share one producer."""
        return super().producer_or_acquire(producer or group_that_is_sent())

    def send_task(self, *args: Any, **options: Any) -> Any:
        """Publish a task. Raises `kombu.exceptions.OperationalError` if the broker or the result
        store does not answer."""
        try:
            return super().send_task(*args, **options)
        except RuntimeError as error:
            if E_RETRY_LIMIT_EXCEEDED not in error.args:
                raise
            raise OperationalError("the result store does not answer; nothing was sent") from error

    @cached_property
    def Worker(self) -> Any:  # noqa: N802
        """The class of this application's workers, which check their options at start."""
        return self.subclass_with_self("fleet.worker.start:FleetWorker", name="Worker")

    @cached_property
    def Beat(self) -> Any:  # noqa: N802
        """The class of this application's beats, with any scheduler."""
        self.add_jobs()
        return self.subclass_with_self("celery.apps.beat:Beat")

    def _load_config(self) -> Any:
        # Pending defaults are in place before Celery signals that the settings are read.
        self._pending_defaults.appendleft(self._insert_defaults)
        return super()._load_config()

    def _insert_defaults(self) -> dict[str, Any]:
        """Insert Fleet's settings between the user's and Celery's defaults."""
        for layers in (self._conf.maps, self._conf.defaults):
            layers.insert(len(layers) - 1, self.fleet_defaults)
        return {}

    def _connection(self, url: Any, *args: Any, **options: Any) -> Any:
        conf = self.conf
        if url in (conf.broker_url, conf.broker_read_url, conf.broker_write_url):
            self.check()
            url = self.fleet_defaults["broker_url"]
        of_user = check_dictionary("broker_transport_options", conf.broker_transport_options)
        given = {**of_user, **(options.pop("transport_options", None) or {})}
        defaults = self.fleet_defaults["broker_transport_options"]
        merged = transport_options(defaults, given)
        return super()._connection(url, *args, transport_options=merged, **options)


def _is_fallback(app: Any) -> bool:
    """Whether the process has not chosen a default application: there is none, or the one that
    Celery creates by itself."""
    return app is None or app.main == "default"
