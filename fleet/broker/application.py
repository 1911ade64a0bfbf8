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

from fleet.broker.router import FleetRouter
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
    """What a process is. `pool` and `agent` are empty where it is no worker."""

    pool: str = ""
    agent: str = ""


class FleetCelery(Celery):
    """An application whose agents' tasks are Fleet's to place, whatever else its user sets.

    `fleets_settings` lie under those of the user, see `user_settings.py`; `jobs` are the entries of
    beat's schedule that run beside the user's.
    """

    amqp_cls = "fleet.broker.amqp:FleetAMQP"
    control_cls = "fleet.broker.revocations:Control"

    def __init__(
        self,
        fleet: Connection,
        role: Role,
        router: FleetRouter,
        fleets_settings: Mapping[str, Any],
        *,
        set_as_current: bool,
    ) -> None:
        self.fleet = fleet
        #: Submits what groups and chords have of agents' tasks, as a whole.
        self.submitter = router.submitter
        self.role = role
        self.fleet_router = router
        self.fleets_settings = dict(fleets_settings)
        self.jobs: dict[str, Any] = {}
        super().__init__("fleet", set_as_current=set_as_current)
        self.loader.override_backends = {**self.loader.override_backends, **RESULTS}
        if set_as_current and _is_fallback(_state.default_app):
            # Other threads than this one have no current application.
            self.set_default()

    @property
    def fleet_queues(self) -> list[Queue]:
        """The queues of the fleet that this process publishes to, or serves."""
        found: list[Queue] = self.fleets_settings["task_queues"]
        return found

    def check(self) -> None:
        """Raises `InvalidConfig` where a user's setting would break the fleet."""
        check_settings(self.conf, self.fleet.settings, self.fleets_settings)

    def check_all(self) -> None:
        """The same, with the routes, which a publisher checks when it sends."""
        self.check()
        self.amqp.flush_routes()

    def lay_jobs(self) -> None:
        """Have Fleet's jobs in beat's schedule, beside the user's entries."""
        self.conf.beat_schedule = {**self.jobs, **self.conf.beat_schedule}

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """As of any application; while a group is sent, all that it sends has one producer."""
        return super().producer_or_acquire(producer or group_that_is_sent())

    def send_task(self, *args: Any, **options: Any) -> Any:
        """Publish a task. Raises `kombu.exceptions.OperationalError` where the broker or the
        result store does not answer."""
        try:
            return super().send_task(*args, **options)
        except RuntimeError as error:
            if E_RETRY_LIMIT_EXCEEDED not in error.args:
                raise
            raise OperationalError("the result store does not answer; nothing was sent") from error

    @cached_property
    def Worker(self) -> Any:  # noqa: N802
        """The class of this application's workers, which check how they are started."""
        return self.subclass_with_self("fleet.worker.start:FleetWorker", name="Worker")

    @cached_property
    def Beat(self) -> Any:  # noqa: N802
        """The class of this application's beats, whatever scheduler they have."""
        self.lay_jobs()
        return self.subclass_with_self("celery.apps.beat:Beat")

    def _load_config(self) -> Any:
        # What is added here is in place before anybody hears that the settings are read.
        self._pending_defaults.appendleft(self._lay_under)
        return super()._load_config()

    def _lay_under(self) -> dict[str, Any]:
        """Put Fleet's settings between the user's and Celery's defaults."""
        for layers in (self._conf.maps, self._conf.defaults):
            layers.insert(len(layers) - 1, self.fleets_settings)
        return {}

    def _connection(self, url: Any, *args: Any, **options: Any) -> Any:
        conf = self.conf
        if url in (conf.broker_url, conf.broker_read_url, conf.broker_write_url):
            self.check()
            url = self.fleets_settings["broker_url"]
        of_user = check_dictionary("broker_transport_options", conf.broker_transport_options)
        given = {**of_user, **(options.pop("transport_options", None) or {})}
        fleets = self.fleets_settings["broker_transport_options"]
        laid = transport_options(fleets, given)
        return super()._connection(url, *args, transport_options=laid, **options)


def _is_fallback(app: Any) -> bool:
    """Whether nobody has chosen the default application of the process: there is none, or the one
    that Celery makes up."""
    return app is None or app.main == "default"
