"""The application that workers, beat and Flower load: `celery -A workers.app worker`.

FLEET_POOL makes the process an agent of that pool. Without it, the process is no agent.
"""

from __future__ import annotations

import os
import socket

from celery import Celery

from beat_schedules.jobs import add_jobs
from beat_schedules.schedule import schedule
from fleet.broker.app import Role, add_schedule, fleet_of, make_app
from fleet.routing.agents_store import agent_id
from fleet.secrets.known import KnownSecrets
from fleet.settings import load_settings
from fleet.telemetry.logs import set_up_logs
from fleet.worker.agent import add_agent_step
from fleet.worker.agent_tasks import add_agent_tasks
from fleet.worker.event_batching import add_event_batching
from fleet.worker.revoking import add_revocation
from fleet.worker.shutdown import Notice, Shutdown
from fleet.worker.slots import Slots


def _role(pool: str) -> Role:
    agent = agent_id(pool, socket.gethostname(), os.getpid()) if pool else ""
    return Role(pool, agent)


def build() -> Celery:
    """Read the settings and compose the application."""
    settings = load_settings()
    known = KnownSecrets(settings, os.environ)
    set_up_logs(settings.environment.log_level, known.hidden)
    role = _role(settings.environment.pool or "")
    app = make_app(settings, role)
    known.include(fleet_of(app).secrets.values)
    notice = Notice() if role.pool else None
    slots = Slots(settings.config.pools[role.pool].slots) if role.pool else Slots()
    add_agent_tasks(app, role, notice, slots)
    add_jobs(app)
    add_schedule(app, schedule(settings))
    add_event_batching(app)
    if notice:
        grace, data_dir = settings.config.workers.grace_seconds, settings.environment.data_dir
        add_agent_step(app, role, Shutdown(grace, notice, data_dir), slots)
        add_revocation(app)
    return app


app = build()
