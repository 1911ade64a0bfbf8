"""The Celery application of a fleet, for publishers, workers, beat and Flower."""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from fleet.access.access import Guard
from fleet.broker.application import FleetCelery, Role
from fleet.broker.chord_counts import add_chord_counts
from fleet.broker.known_tasks import add_known_tasks
from fleet.broker.messages import message_encoder
from fleet.broker.revocations import add_kept_revocations
from fleet.broker.router import FleetRouter, TaskPlacer, jobs_queue
from fleet.broker.schedule import add_schedule_step
from fleet.broker.signing import MessageGuard, message_signer
from fleet.broker.transport.channel import transport_url
from fleet.broker.transport.deliveries import add_known_deliveries
from fleet.broker.transport.link import Link
from fleet.broker.transport.set_aside import add_setting_aside
from fleet.broker.whole_groups import patch_groups
from fleet.errors import InvalidConfig
from fleet.redis.client import sentinel_options
from fleet.redis.keys import NO_POOL, Keys
from fleet.settings import Settings, load_settings
from fleet.settings.addresses import RedisAddress, redis_address
from fleet.tasks.connection import Connection, open_connection

__all__ = ["Role", "add_schedule", "fleet_of", "make_app", "task_routes", "worker_queues"]

RESTORE_SECONDS = 10
HEALTH_CHECK_SECONDS = 30
"""A connection that was idle for so long is pinged before it is used."""
RESULT_WAITS = 4
"""Retries of the result store end after this many socket time-outs: by default as long as Celery
would wait for a server that refuses to connect."""
KILL_GRACE_SECONDS = 60
"""A prefork child is killed so long after the task's own time limit, if that has not ended it."""


def make_app(
    settings: Settings | None = None, role: Role | None = None, *, set_as_current: bool = True
) -> Celery:
    """A Celery application whose agent tasks are routed by Fleet.

        app = make_app()
        app.send_task("agents.code_generator", args=[{"instruction": "..."}])

    It becomes the current application, as `Celery()` does. If the process has chosen no default
    application, it becomes that too: `shared_task`, `signature` and `AsyncResult` use it in all
    threads.

    Where `access.mode` is `tokens`, an application without a role submits agents' tasks for the
    tenant of FLEET_TOKEN.

    Reads the settings if none are given. Raises `InvalidConfig`.
    """
    settings = settings or load_settings()
    # Workers and beat send on what others have submitted.
    is_publisher, role = role is None, role or Role()
    connection = open_connection(settings, role.agent)
    signer = message_signer(connection)
    messages, guard = message_encoder(signer), MessageGuard(connection, signer)
    rights = Guard(connection.access, settings.environment.token) if is_publisher else None
    submitter = connection.submitter(messages, rights)
    link = Link(
        tag=settings.tag,
        place=TaskPlacer(submitter),
        pool=role.pool,
        agent=role.agent,
        queues=worker_queues(settings, role.pool) if role.pool else (),
        dead_after_ms=int(settings.config.leases.dead_after_seconds * 1000),
        address=redis_address(settings.broker_url),
        max_bytes=settings.config.raw_message_bytes,
    )
    router = FleetRouter(settings, submitter)
    defaults = {**_celery_settings(settings, role, link), "task_routes": (router,)}
    app = FleetCelery(
        connection, role, router, defaults, messages, guard, set_as_current=set_as_current
    )
    patch_groups()
    add_known_tasks(app, router.agent_tasks)
    add_setting_aside(app, connection, guard.refusal)
    add_schedule_step(app, connection)
    add_known_deliveries(app)
    add_chord_counts(app)
    add_kept_revocations(app, connection)
    return app


def task_routes(settings: Settings | None = None) -> tuple[FleetRouter, ...]:
    """Fleet's router for a Celery application of your own, over its own Redis transport.

        app = Celery("shop", broker="redis://...")
        app.conf.task_routes = task_routes()

    Without Fleet's transport there is no atomic step: a task goes to the pool with the shortest
    expected wait, and its record begins when a worker claims it. If messages are signed, the router
    signs the agents' tasks, and no others. Raises `InvalidConfig`.
    """
    settings = settings or load_settings()
    connection = open_connection(settings)
    signer = message_signer(connection)
    rights = Guard(connection.access, settings.environment.token)
    submitter = connection.submitter(message_encoder(signer), rights)
    return (FleetRouter(settings, submitter, signer),)


def add_schedule(app: Celery, jobs: dict[str, dict[str, Any]]) -> None:
    """Have the application's beats (which hold a lease) run these jobs and the user's entries."""
    assert isinstance(app, FleetCelery)
    app.jobs = jobs
    app.fleet_defaults["beat_schedule"] = dict(jobs)
    app.fleet_defaults["beat_scheduler"] = "fleet.beat.scheduler:LeasedScheduler"


def fleet_of(app: Any) -> Connection:
    """The connection of an application that `make_app` has made."""
    connection = app.fleet
    assert isinstance(connection, Connection)
    return connection


def worker_queues(settings: Settings, pool: str) -> tuple[str, ...]:
    """The queues of a pool's workers, by priority: beat's jobs, which are short, the pool's own
    queue, its agent type's overflow, then the overflow of the types that it takes spillover of.

    Raises `InvalidConfig` for a pool that is not configured.
    """
    found = settings.config.pools.get(pool)
    if found is None:
        known = ", ".join(sorted(settings.config.pools))
        raise InvalidConfig(f"FLEET_POOL: no pool is called {pool!r}; use one of: {known}")
    served = (found.agent_type, *sorted(settings.config.helped_by(pool)))
    overflow = (settings.overflow_queue(agent_type) for agent_type in served)
    return (jobs_queue(settings), settings.queue(pool), *overflow)


def _celery_settings(settings: Settings, role: Role, link: Link) -> dict[str, Any]:
    timeout = settings.environment.socket_timeout
    address = redis_address(settings.broker_url)
    return {
        **_broker(settings, address, role, link),
        "broker_connection_retry": True,
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,
        # Without end: nobody would notice a worker that gave up.
        "broker_connection_max_retries": None,
        **_result_backend(address, timeout),
        "result_expires": settings.config.limits.result_ttl_seconds,
        "redis_socket_timeout": timeout,
        "redis_socket_connect_timeout": timeout,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": HEALTH_CHECK_SECONDS,
        # Safe: writing a result twice changes nothing.
        "redis_retry_on_timeout": True,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_default_queue": jobs_queue(settings),
        "task_queues": _queues(settings, role),
        "task_create_missing_queues": True,
        "task_acks_late": True,
        "task_track_started": True,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "task_time_limit": _hard_limit(settings, role),
        "worker_concurrency": settings.config.pools[role.pool].slots if role.pool else None,
        "enable_utc": True,
        "timezone": "UTC",
    }


def _broker(settings: Settings, address: RedisAddress, role: Role, link: Link) -> dict[str, Any]:
    """Redis carries the messages, over Fleet's transport."""
    timeout = settings.environment.socket_timeout
    unacked = Keys(settings.tag).pool(role.pool or NO_POOL)
    return {
        "broker_url": transport_url(settings.broker_url),
        "broker_use_ssl": address.tls,
        "broker_transport_options": {
            "fleet": link,
            "unacked_key": unacked.unacked,
            "unacked_index_key": unacked.unacked_index,
            "unacked_mutex_key": unacked.unacked_mutex,
            "unacked_restore_interval": RESTORE_SECONDS,
            "unacked_restore_throttle": 1,
            "visibility_timeout": settings.config.leases.dead_after_seconds,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
            "health_check_interval": HEALTH_CHECK_SECONDS,
            # Celery resends after a lost answer by the publisher's retry policy, which is safe. A
            # retry below it would push a message twice after each slow answer.
            "retry_on_timeout": False,
            # For monitors; the channel has it from its link.
            **({"master_name": address.master} if address.master else {}),
        },
        "worker_disable_prefetch": True,
    }


def _result_backend(address: RedisAddress, timeout: float) -> dict[str, Any]:
    """Results are stored in Redis, under the URL scheme that Celery has for its kind."""
    # Celery's own policy: twenty attempts, a second apart. A silent peer would take two minutes.
    retries = {"retry_policy": {"timeout": RESULT_WAITS * timeout}}
    found: dict[str, Any] = {
        "redis_backend_use_ssl": address.tls,
        "result_backend_transport_options": retries,
    }
    if not address.master:
        scheme = "redis" if address.tls is None else "rediss"
        return {**found, "result_backend": address.url(scheme, address.hosts[0])}
    first = address.url("sentinel", address.hosts[0])
    others = (f"sentinel://{host}:{port}" for host, port in address.hosts[1:])
    return {
        **found,
        # Celery takes the login from the first URL only, and shows the others unmasked.
        "result_backend": ";".join((first, *others)),
        "result_backend_transport_options": {
            **retries,
            "master_name": address.master,
            "sentinel_kwargs": sentinel_options(address, timeout),
        },
    }


def _queues(settings: Settings, role: Role) -> list[Queue]:
    names = (
        worker_queues(settings, role.pool)
        if role.pool
        else (jobs_queue(settings), *(settings.queue(name) for name in settings.config.pools))
    )
    # The default queue has the default exchange, whose type a user may choose.
    own, default = Exchange(settings.tag, type="direct"), jobs_queue(settings)
    return [Queue(name, None if name == default else own, name) for name in names]


def _hard_limit(settings: Settings, role: Role) -> float | None:
    if role.pool and settings.config.pools[role.pool].execution == "prefork":
        return settings.config.limits.task_seconds + KILL_GRACE_SECONDS
    return None
