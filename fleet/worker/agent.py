"""A Celery worker as an agent: it registers when it is ready, beats, and leaves.

The heartbeat is a thread of the worker's main process. It counts what runs there, whether
in threads or in children, and says so at once when a worker turns busy or idle.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from functools import partial
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.worker import state

from fleet.broker.app import Role, fleet_of
from fleet.broker.messages import agent_tasks_of
from fleet.tasks.background_loops import repeat
from fleet.tasks.connection import Connection
from fleet.worker.lost_children import hand_over
from fleet.worker.prefork_children import watch_children
from fleet.worker.shutdown import Ending, ending_step
from fleet.worker.slots import Slots, add_spare_threads

LOOK_SECONDS = 0.5
MAX_SECONDS = 2.0
"""A worker that could not beat tries again within this, however often it has failed."""

log = structlog.get_logger(__name__)


def add_agent_step(app: Celery, role: Role, ending: Ending, slots: Slots) -> None:
    """Let the application's workers be agents of the role's pool, which end as `ending` says, and
    fetch as `slots` come free."""
    config = fleet_of(app).settings.config.pools[role.pool]

    class AgentStep(bootsteps.StartStopStep):
        """Starts with the consumer, once messages can be taken; stops before it does."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            self.heartbeat: Heartbeat | None = None

        def start(self, consumer: Any) -> None:
            channel = consumer.task_consumer.channel
            channel.takes_nothing = ending.has_begun
            ending.restore = lambda: channel.qos.restore_unacked_once()
            self.heartbeat = Heartbeat(fleet_of(app), role)
            ending.leave = self.heartbeat.stop
            ending.hand_over = partial(hand_over, fleet_of(app), role)
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
    app.steps["worker"].add(ending_step(ending))
    add_spare_threads(app, slots, agent_tasks_of(fleet_of(app).settings.config))
    watch_children(app)


def _leave_event_loop(connection: Any) -> None:
    try:
        connection.transport.leave_event_loop()
    except Exception as error:
        # Nothing is lost: the messages come back, and their records say that they have ended.
        log.warning("ended tasks stay unacknowledged for a while", error=str(error))


class Heartbeat:
    """The life of one agent in the registry."""

    def __init__(self, connection: Connection, role: Role) -> None:
        self.registry = connection.routing.agents
        self.role = role
        self.slots = connection.settings.config.pools[role.pool].slots
        self.every_seconds = connection.settings.config.leases.heartbeat_seconds
        self._said, self._said_at = -1, float("-inf")
        self._ended = threading.Event()
        self._thread = repeat("heartbeat", self._beat, LOOK_SECONDS, MAX_SECONDS, self._ended)

    def start(self) -> None:
        """Register, then beat. Where Redis cannot take it now, the beats do it."""
        try:
            self._enter()
        except Exception as error:
            log.warning("not registered yet, trying again", error=repr(error))
        self._thread.start()

    def stop(self) -> None:
        """Stop beating and leave; twice does no harm. A worker that still runs tasks takes nothing
        new by then."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self.every_seconds)
        self._leave()

    def _leave(self) -> None:
        try:
            self.registry.leave(self.role.agent, self.role.pool)
        except Exception as error:
            # Nothing is lost: the reaper takes a silent agent for dead.
            log.warning("could not leave the registry", error=repr(error))

    def _enter(self) -> None:
        """Register, unless the agent is told to leave. `stop` does not wait for a call that hangs,
        and its own call may be done before this one."""
        try:
            if not self._ended.is_set():
                self._register()
        finally:
            if self._ended.is_set():
                self._leave()

    def _register(self) -> None:
        facts = {"host": socket.gethostname(), "pid": str(os.getpid())}
        self.registry.register(self.role.agent, self.role.pool, self.slots, facts)

    def _beat(self) -> None:
        """Say that the agent lives, where that is due or how much it runs has changed."""
        # Tasks whose end is being written are past the slot that they had.
        running, now = min(len(state.active_requests), self.slots), time.monotonic()
        if running == self._said and now - self._said_at < self.every_seconds:
            return
        status = self.registry.heartbeat(self.role.agent, self.role.pool, running, self.slots)
        if status == "unknown":
            self._enter()
        self._said, self._said_at = running, now
