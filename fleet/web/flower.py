"""Flower with basic authentication, on the loopback interface unless FLEET_FLOWER_HOST differs.

It is started here and not by its own command, which would take the password as an argument that
every user of the machine can read.
"""

from __future__ import annotations

import atexit
import signal
import sys
from functools import cached_property
from typing import Any

from flower.app import Flower
from flower.command import extract_settings, setup_logging
from flower.options import options
from flower.urls import settings as web_settings
from tornado.log import enable_pretty_logging

from fleet.broker.app import make_app
from fleet.broker.application import FleetCelery
from fleet.broker.known_tasks import add_seen_tasks
from fleet.errors import InvalidConfig
from fleet.local.ports import pick_ports
from fleet.redis.client import sentinel_options
from fleet.settings import Settings
from fleet.settings.addresses import redis_address


class FleetFlower(Flower):  # type: ignore[misc]
    """Flower with access to Fleet's queues and with the tasks of all workers."""

    fleet_broker_url: str

    def __init__(self, capp: FleetCelery, **options: Any) -> None:
        # This must happen before Flower looks up a task.
        add_seen_tasks(capp, self._seen_tasks)
        super().__init__(capp=capp, **options)

    def _seen_tasks(self) -> set[str]:
        """The names of the tasks that workers have registered or run."""
        workers = tuple(self.inspector.workers.values())
        registered = (each for worker in workers for each in worker.get("registered") or ())
        # A task with a rate limit is listed as `name [rate_limit=10/m]`.
        names = {each.partition(" ")[0] for each in registered}
        return names | set(self.events.state.task_types())

    @cached_property
    def broker_uri_with_password(self) -> str:
        """The address of the queues, or of the first Sentinel."""
        return self.fleet_broker_url


def serve_flower(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises `InvalidConfig` without a usable password, `RetryLater` if the port is in use.
    """
    host, wanted = settings.environment.flower_host, settings.environment.flower_port
    port = pick_ports({"FLEET_FLOWER_PORT": wanted}, host)["FLEET_FLOWER_PORT"]
    _configure(host, port, credentials(settings))
    flower = _build(settings)
    atexit.register(flower.stop)
    signal.signal(signal.SIGTERM, _leave)
    bound = flower.start_http_server()
    sys.stdout.write(f"Flower is running at http://{host}:{bound}\n")
    try:
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        sys.stdout.write("Flower is stopping\n")


def credentials(settings: Settings) -> str:
    """`user:password` for basic authentication. Raises `InvalidConfig` without a password."""
    secret = settings.environment.flower_password
    password = secret.get_secret_value() if secret else ""
    if not password or not password.isascii():
        raise InvalidConfig("FLEET_FLOWER_PASSWORD: set it to a password of ASCII characters")
    return f"{settings.environment.flower_user}:{password}"


def _configure(host: str, port: int, login: str) -> None:
    options.address = host
    options.port = port
    options.basic_auth = [login]
    options.logging = "warning"
    enable_pretty_logging(options)
    extract_settings()
    setup_logging()


def _build(settings: Settings) -> FleetFlower:
    app, address = make_app(settings), redis_address(settings.broker_url)
    flower = FleetFlower(capp=app, options=options, **web_settings)
    flower.fleet_broker_url = settings.broker_url
    if address.master:
        # Flower asks one Sentinel. Only this process has the options: a worker would print them.
        flower.fleet_broker_url = address.url("sentinel", address.hosts[0])
        app.conf.broker_transport_options = {
            **app.conf.broker_transport_options,
            "master_name": address.master,
            "sentinel_kwargs": sentinel_options(address, settings.environment.socket_timeout),
        }
    return flower


def _leave(number: int, frame: Any) -> None:
    sys.exit(0)
