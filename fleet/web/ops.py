"""The ops endpoint: health, readiness, metrics, and the figures that KEDA scales by.

It listens on the loopback interface unless FLEET_OPS_HOST says otherwise; in a cluster, a
NetworkPolicy guards it. /health and /ready need no login: they tell nothing about tasks and pools.
With FLEET_OPS_TOKEN, /metrics and /scale need that bearer token, which Prometheus and KEDA can
send. Every answer that cannot be known is a 503 with a sentence.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from hmac import compare_digest
from types import FrameType

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fleet.errors import FleetError, InvalidConfig, RetryLater
from fleet.operations.broker import PROBE_SECONDS
from fleet.operations.fleet_figures import FiguresReader
from fleet.redis.client import redis_errors
from fleet.settings import Environment, Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.text import unknown
from fleet.web.metrics import FleetCollector

STOP_SECONDS = 5
NOT_KNOWN = 503


def serve_ops(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `RetryLater` if the port cannot be used."""
    listener = _listen(settings.environment)
    host, port = listener.getsockname()[:2]
    app = make_ops(open_connection(_impatient(settings)))
    sys.stdout.write(f"the ops endpoint is running at http://{host}:{port}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        app,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    # Uvicorn raises the signal again after its orderly end.
    signal.signal(signal.SIGTERM, _leave)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except (KeyboardInterrupt, SystemExit):
        sys.stdout.write("the ops endpoint is stopping\n")


def make_ops(connection: Connection) -> Starlette:
    """The application for one fleet."""
    figures = FiguresReader(connection)
    secret = connection.settings.environment.ops_token
    wanted = f"Bearer {secret.get_secret_value()}".encode() if secret else b""

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def ready(_request: Request) -> Response:
        with redis_errors(connection.client):
            connection.client.ping()
        return JSONResponse({"status": "ready"})

    def refused(request: Request) -> Response | None:
        given = request.headers.get("authorization", "").encode()
        if not wanted or compare_digest(given, wanted):
            return None
        sentence = "this needs FLEET_OPS_TOKEN as a bearer token"
        return JSONResponse({"error": sentence}, 401, {"WWW-Authenticate": "Bearer"})

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        found = FleetCollector(connection.settings.config, figures.read())
        return Response(encode(found), headers={"content-type": content_type})

    def scale(request: Request) -> Response:
        name, pools = request.path_params["pool"], connection.settings.config.pools
        if name not in pools:
            return JSONResponse({"error": unknown("pool", name, pools)}, 404)
        return JSONResponse(_scale(figures, name))

    def closed(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
        return lambda request: refused(request) or answer(request)

    routes: Mapping[str, Callable[[Request], object]] = {
        "/health": health,
        "/ready": ready,
        "/metrics": closed(metrics),
        "/scale/{pool}": closed(scale),
    }
    return Starlette(
        routes=[Route(path, answer) for path, answer in routes.items()],
        exception_handlers={FleetError: _not_known},
    )


def _scale(figures: FiguresReader, name: str) -> dict[str, object]:
    pool = figures.read(with_agents=False).pools[name]
    return {
        "pool": name,
        "queued": pool.queued,
        "running": pool.running,
        "desired": pool.desired,
        "oldest_seconds": round(pool.oldest_seconds, 3),
    }


def _not_known(request: Request, error: Exception) -> Response:
    if request.url.path == "/metrics":
        return PlainTextResponse(f"{error}\n", NOT_KNOWN)
    return JSONResponse({"error": str(error)}, NOT_KNOWN)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def _impatient(settings: Settings) -> Settings:
    """The settings with a shorter wait for Redis: probes and scrapes give up after seconds."""
    seconds = min(PROBE_SECONDS, settings.environment.socket_timeout)
    environment = settings.environment.model_copy(update={"socket_timeout": seconds})
    return replace(settings, environment=environment)


def _listen(environment: Environment) -> socket.socket:
    host, port = environment.ops_host, environment.ops_port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except socket.gaierror as error:
        raise InvalidConfig(
            f"FLEET_OPS_HOST: {host} is no address of this machine ({error.strerror}); correct it"
        ) from error
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise RetryLater(
            f"FLEET_OPS_PORT: the ops endpoint cannot listen on port {port} of {host} ({reason}); "
            "stop what uses the port, or correct FLEET_OPS_PORT or FLEET_OPS_HOST"
        ) from error
