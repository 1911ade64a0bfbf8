"""A Celery worker as an agent: it registers when it is ready, sends heartbeats, and leaves.

The heartbeat is a thread of the worker's main process. It counts the tasks that run, in threads or
in children, and reports a change of this count at once.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from functools import partial
from importlib import metadata
from itertools import count
from typing import TYPE_CHECKING, Any

import psutil
from celery import Celery, bootsteps
from celery.worker import state

from fleet.broker.app import Role, fleet_of
from fleet.broker.messages import agent_tasks_of
from fleet.tasks.background_loops import repeat
from fleet.tasks.connection import Connection
from fleet.telemetry.logger import get_logger
from fleet.worker.lost_children import requeue_running, watch_children
from fleet.worker.shutdown import Shutdown, shutdown_step
from fleet.worker.slots import Slots, add_spare_threads

if TYPE_CHECKING:
    from fleet.worker.growth import Growth

POLL_SECONDS = 0.5
MAX_SECONDS = 2.0
"""The longest wait between two attempts of a worker whose heartbeats fail."""

log = get_logger(__name__)


def add_agent_step(app: Celery, role: Role, shutdown: Shutdown, slots: Slots) -> None:
    """Make the application's workers agents of the role's pool. `shutdown` ends them, and they
    fetch tasks as `slots` come free."""
    config = fleet_of(app).settings.config.pools[role.pool]
    # The consumer starts again after a lost connection.
    starts = count()
    growth = _growth(fleet_of(app), role)

    class AgentStep(bootsteps.StartStopStep):
        """Starts after the consumer, once it can take messages; stops before it."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            self.heartbeat: Heartbeat | None = None

        def start(self, consumer: Any) -> None:
            channel = consumer.task_consumer.channel
            channel.is_draining = shutdown.has_begun
            shutdown.restore = lambda: channel.qos.restore_unacked_once()
            self.heartbeat = Heartbeat(fleet_of(app), role, growth, is_new=next(starts) == 0)
            if growth is not None:
                growth.serve(consumer)
            shutdown.leave = self.heartbeat.stop
            shutdown.requeue_running = partial(requeue_running, fleet_of(app), role)
            self.heartbeat.start()
            if config.execution == "threads" and consumer.hub is not None:
                slots.serve(consumer.hub, channel.qos, config.slots)

        def stop(self, consumer: Any) -> None:
            slots.leave()
            if self.heartbeat is not None:
                heartbeat, self.heartbeat = self.heartbeat, None
                heartbeat.stop()
            if consumer.connection is not None:
                _leave_event_loop(consumer.connection)

        shutdown = stop

    app.steps["consumer"].add(AgentStep)
    app.steps["worker"].add(shutdown_step(shutdown))
    add_spare_threads(app, slots, agent_tasks_of(fleet_of(app).settings.config))
    watch_children(app)


def _growth(connection: Connection, role: Role) -> Growth | None:
    """What resizes the worker, where the configured actuator does."""
    from fleet.scaling.actuators import POOL

    if connection.settings.config.scaling.actuator != POOL:
        return None
    from fleet.worker.growth import Growth

    return Growth(connection, role)


def _leave_event_loop(connection: Any) -> None:
    try:
        connection.transport.leave_event_loop()
    except Exception as error:
        # Nothing is lost: the messages are delivered again, and dropped by their records.
        log.warning("acknowledging ended tasks failed, to be redelivered", error=str(error))


class Heartbeat:
    """The life of one agent in the registry, and of the parts that its worker has grown by.
    `is_new` says that its process has just started: then it registers with the seconds that the
    start took."""

    def __init__(
        self,
        connection: Connection,
        role: Role,
        growth: Growth | None = None,
        *,
        is_new: bool = False,
    ) -> None:
        self.registry = connection.routing.agents
        self.role = role
        self.growth = growth
        self._is_new = is_new
        self.slots = connection.settings.config.pools[role.pool].slots
        self.every_seconds = connection.settings.config.leases.heartbeat_seconds
        environment = connection.settings.environment
        self.idle_seconds = environment.idle_seconds
        self.supervised = environment.supervised
        #: Since when no task runs.
        self._idle_since = time.monotonic()
        self.version = environment.version or metadata.version("fleet")
        self._reported, self._reported_at = -1, float("-inf")
        self._status = ""
        self._ended = threading.Event()
        self._thread = repeat("heartbeat", self._beat, POLL_SECONDS, MAX_SECONDS, self._ended)

    def start(self) -> None:
        """Register, then send heartbeats. If registering fails, the next heartbeat registers."""
        try:
            self._enter()
        except Exception as error:
            log.warning("registration failed, retrying", error=repr(error))
        self._thread.start()

    def stop(self) -> None:
        """Stop the heartbeat and leave; a second call does no harm. A worker that still runs tasks
        takes no new ones by then."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self.every_seconds)
        self._leave()

    def _leave(self) -> None:
        try:
            self.registry.leave(self.role.agent, self.role.pool)
            if self.growth is not None:
                self.growth.leave()
        except Exception as error:
            # Nothing is lost: the reaper declares a silent agent dead.
            log.warning("leaving the registry failed", error=repr(error))

    def _enter(self) -> None:
        """Register, unless `stop` has been called; if it is called meanwhile, leave again. `stop`
        does not wait for a call that hangs, so its own call may be done before this one."""
        try:
            if not self._ended.is_set():
                self._register()
        finally:
            if self._ended.is_set():
                self._leave()

    def _register(self) -> None:
        facts = {"host": socket.gethostname(), "pid": str(os.getpid()), "version": self.version}
        if self.supervised and self.growth is None:
            facts["supervised"] = "1"
        if self._is_new:
            seconds = time.time() - psutil.Process().create_time()
            facts["start_seconds"] = f"{max(0.0, seconds):.3f}"
        self.registry.register(self.role.agent, self.role.pool, self.slots, facts)
        self._is_new = False

    def _beat(self) -> None:
        """Send a heartbeat if one is due, or if the number of running tasks has changed."""
        # Tasks whose outcome is being written have left their slot.
        capacity = self.slots if self.growth is None else self.growth.capacity
        total, now = min(len(state.active_requests), capacity), time.monotonic()
        running = min(total, self.slots)
        self._end_if_idle(running, now)
        if self.growth is not None:
            self.growth.follow(total, is_drained=self._status == "maintenance")
        if running == self._reported and now - self._reported_at < self.every_seconds:
            return
        status = self.registry.heartbeat(self.role.agent, self.role.pool, running, self.slots)
        self._status = status
        if status == "unknown":
            self._enter()
        self._reported, self._reported_at = running, now

    def _end_if_idle(self, running: int, now: float) -> None:
        """Shut the worker down if it ran nothing for FLEET_IDLE_SECONDS. A task that it takes in
        this moment is requeued."""
        if running:
            self._idle_since = now
        elif self.idle_seconds is not None and now - self._idle_since >= self.idle_seconds:
            log.info("this worker was idle for long enough, shutting down")
            self.idle_seconds = None
            os.kill(os.getpid(), signal.SIGTERM)
