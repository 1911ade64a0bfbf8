"""Flower with basic authentication, on the loopback interface unless FLEET_FLOWER_HOST differs.

It is started here and not by its own command, which would take the password as an argument that
every user of the machine can read.

Stock Flower checks the login in each of its pages, and `/metrics`, `/healthcheck` and the static
files check none. Here one check comes before every route, so a page that a later Flower adds is
closed too. A second user, `viewer`, sees everything and changes nothing: the server refuses every
request that is not a reading one, and the pages show no buttons.

The pages show the tasks of all tenants, so tokens of `fleet access` do not open them.
"""

from __future__ import annotations

import atexit
import copy
import signal
import sys
from base64 import b64decode
from functools import cached_property
from hmac import compare_digest
from typing import Any, Literal, NamedTuple

from flower.app import Flower
from flower.command import extract_settings, setup_logging
from flower.options import options
from flower.urls import settings as web_settings
from flower.views.tasks import TasksDataTable
from pydantic import SecretStr
from tornado.httputil import HTTPServerRequest
from tornado.log import enable_pretty_logging
from tornado.web import RequestHandler

from fleet.broker.app import make_app
from fleet.broker.application import FleetCelery
from fleet.broker.known_tasks import add_seen_tasks
from fleet.errors import InvalidConfig
from fleet.local.ports import pick_ports
from fleet.redis.client import sentinel_options
from fleet.settings import Settings
from fleet.settings.addresses import redis_address

VIEWER = "viewer"
"""The user with FLEET_FLOWER_VIEWER_PASSWORD."""
READING = ("GET", "HEAD", "OPTIONS")
"""The methods with which no route of Flower changes anything."""
READING_POSTS = (TasksDataTable,)
"""The routes that only read, and are asked with POST: the list of tasks on the page of tasks."""


class Logins(NamedTuple):
    """The logins of Flower, each as `user:password`. Without a viewer the second is empty."""

    operator: str
    viewer: str = ""

    def role(self, header: str) -> Literal["operate", "read"] | None:
        """The role of a request with this Authorization header, None without a right login."""
        scheme, _, given = header.partition(" ")
        try:
            found = b64decode(given, validate=True)
        except ValueError:
            return None
        if scheme != "Basic" or not found:
            return None
        if compare_digest(found, self.operator.encode()):
            return "operate"
        return "read" if compare_digest(found, self.viewer.encode()) else None


class Refusal(RequestHandler):
    """The answer to a request without the login or the role that it needs."""

    def initialize(self, status: int) -> None:
        """Set the status of the answer."""
        self.set_status(status)

    def check_xsrf_cookie(self) -> None:
        """Nothing is done here that another site could have asked for."""

    def prepare(self) -> None:
        """Answer any method."""
        if self.get_status() == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="flower"')
            self.finish("Access denied\n")
        else:
            self.finish(f"The user {VIEWER} may look and change nothing\n")


class _ViewersOptions:
    """Flower's options as a viewer's pages see them: without buttons."""

    read_only = True

    def __init__(self, all_options: Any) -> None:
        self._all = all_options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._all, name)


class FleetFlower(Flower):  # type: ignore[misc]
    """Flower with access to Fleet's queues, with the tasks of all workers, and with one check of
    the login before every route."""

    fleet_broker_url: str

    def __init__(self, capp: FleetCelery, logins: Logins, **options: Any) -> None:
        # This must happen before Flower looks up a task.
        add_seen_tasks(capp, self._seen_tasks)
        self._logins = logins
        super().__init__(capp=capp, **options)

    def get_handler_delegate(
        self,
        request: HTTPServerRequest,
        target_class: type[RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,
    ) -> Any:
        """Tornado's, through which every request goes: the route for the role, or a refusal."""
        role = self._logins.role(request.headers.get("Authorization", ""))
        if role is None:
            return super().get_handler_delegate(request, Refusal, {"status": 401})
        reads = request.method in READING or target_class in READING_POSTS
        if role == "read" and not reads:
            return super().get_handler_delegate(request, Refusal, {"status": 403})
        shown = self if role == "operate" else self._for_viewers
        return super(FleetFlower, shown).get_handler_delegate(
            request, target_class, target_kwargs, path_args, path_kwargs
        )

    @cached_property
    def _for_viewers(self) -> FleetFlower:
        """The same application, with the same events and workers, for handlers that serve a viewer.
        They read `options.read_only` from it."""
        shown = copy.copy(self)
        shown.options = _ViewersOptions(self.options)
        return shown

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
    found = logins(settings)
    _configure(host, port, found)
    flower = _build(settings, found)
    atexit.register(flower.stop)
    signal.signal(signal.SIGTERM, _leave)
    bound = flower.start_http_server()
    sys.stdout.write(f"Flower is running at http://{host}:{bound}\n")
    try:
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        sys.stdout.write("Flower is stopping\n")


def logins(settings: Settings) -> Logins:
    """The logins of both users. Raises `InvalidConfig` without a usable password."""
    environment = settings.environment
    operator = _password("FLEET_FLOWER_PASSWORD", environment.flower_password)
    user = environment.flower_user
    if environment.flower_viewer_password is None:
        return Logins(f"{user}:{operator}")
    if user == VIEWER:
        raise InvalidConfig(f"FLEET_FLOWER_USER: {VIEWER} is the user who only looks; name another")
    viewer = _password("FLEET_FLOWER_VIEWER_PASSWORD", environment.flower_viewer_password)
    return Logins(f"{user}:{operator}", f"{VIEWER}:{viewer}")


def _password(name: str, secret: SecretStr | None) -> str:
    password = secret.get_secret_value() if secret else ""
    if not password or not password.isascii():
        raise InvalidConfig(f"{name}: set it to a password of ASCII characters")
    return password


def _configure(host: str, port: int, found: Logins) -> None:
    options.address = host
    options.port = port
    # Flower's own check of the login, and that of requests from other sites, stay on.
    options.basic_auth = [each for each in found if each]
    options.logging = "warning"
    enable_pretty_logging(options)
    extract_settings()
    setup_logging()


def _build(settings: Settings, found: Logins) -> FleetFlower:
    app, address = make_app(settings), redis_address(settings.broker_url)
    flower = FleetFlower(capp=app, logins=found, options=options, **web_settings)
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
