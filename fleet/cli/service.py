"""`fleet service NAME`: one process of the fleet, started by hand, by a Procfile or a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fleet.cli.output import say

if TYPE_CHECKING:
    from fleet.settings import Settings

BROKER_WAIT_SECONDS = 15.0

app = typer.Typer(
    no_args_is_help=True,
    help="Run one process of the fleet in the foreground, as the Procfile does."
    "\n\nExample: `fleet service worker codegen`",
)


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="service")


@app.command()
def broker() -> None:
    """Run the embedded Valkey at the address in FLEET_BROKER_URL. It saves to the data folder.

    Example: `FLEET_BROKER_URL=redis://:secret@127.0.0.1:6379/0 fleet service broker`
    """
    from urllib.parse import unquote, urlsplit

    from fleet.local.ports import pick_ports
    from fleet.local.run_file import make_data_dir
    from fleet.local.valkey import prepare_valkey
    from fleet.settings import load_settings

    settings = load_settings()
    place = urlsplit(settings.broker_url)
    port = pick_ports({"FLEET_BROKER_URL": place.port or 6379})["FLEET_BROKER_URL"]
    folder = make_data_dir(settings) / "valkey"
    command = prepare_valkey(folder, port, unquote(place.password or ""))
    os.chdir(folder)
    _become(command)


@app.command()
def model() -> None:
    """Serve the local language model with the OpenAI API on FLEET_MODEL_PORT.

    It answers callers that have the key in FLEET_MODEL_KEY, and no web page.

    Example: `FLEET_MODEL_PORT=8099 FLEET_MODEL_KEY=secret fleet service model`
    """
    from fleet.local.model import key_of, serve_model
    from fleet.local.ports import LOOPBACK, pick_ports
    from fleet.settings import load_settings

    environment = load_settings().environment
    key = key_of(environment)
    port = pick_ports({"FLEET_MODEL_PORT": environment.model_port})["FLEET_MODEL_PORT"]
    say(f"starting the local model at http://{LOOPBACK}:{port}/v1")
    serve_model(port, key)


@app.command()
def worker(pool: Annotated[str, typer.Argument(help="The pool to serve.")]) -> None:
    """Run a Celery worker for a pool.

    Example: `fleet service worker codegen`
    """
    from fleet.local.stack import worker_arguments
    from fleet.settings import load_settings

    settings = load_settings()
    arguments = worker_arguments(settings, pool, os.getpid())
    _wait_for_broker(settings, "worker")
    os.environ["FLEET_POOL"] = pool
    _run_celery("worker", arguments, pool)


@app.command()
def beat() -> None:
    """Run Celery beat, which runs the periodic jobs. Several may run; one of them is active.

    Example: `fleet service beat`
    """
    from fleet.local.run_file import make_data_dir
    from fleet.local.stack import beat_arguments
    from fleet.settings import load_settings

    settings = load_settings()
    make_data_dir(settings)
    _wait_for_broker(settings, "beat")
    _run_celery("beat", beat_arguments(settings))


@app.command()
def flower() -> None:
    """Serve Flower on the loopback interface or FLEET_FLOWER_HOST, with a user and a password.

    With FLEET_FLOWER_VIEWER_PASSWORD there is a second user, `viewer`, who sees everything and
    changes nothing.

    Example: `FLEET_FLOWER_PORT=5555 FLEET_FLOWER_PASSWORD=secret fleet service flower`
    """
    from fleet.settings import load_settings
    from fleet.web.flower import serve_flower

    settings = load_settings()
    _wait_for_broker(settings, "flower")
    serve_flower(settings)


@app.command()
def ops() -> None:
    """Serve health, readiness, metrics and the figures that KEDA scales by.

    `/health` says that the process answers. `/ready` says that Redis answers too. `/metrics` has
    the metrics for Prometheus, `/scale/POOL` what KEDA's metrics-api trigger reads. What cannot be
    known is a 503 with the reason, never a 0. With FLEET_OPS_TOKEN, `/metrics` and `/scale/POOL`
    need that bearer token.

    Example: `FLEET_OPS_PORT=8080 fleet service ops`
    """
    from fleet.settings import load_settings
    from fleet.web.ops import serve_ops

    serve_ops(load_settings())


def _wait_for_broker(settings: Settings, role: str) -> None:
    from fleet.operations.broker import wait_for_broker

    wait_for_broker(settings, BROKER_WAIT_SECONDS, role)


def _run_celery(command: Literal["worker", "beat"], arguments: list[str], *own: str) -> None:
    from fleet.broker.command import run_celery

    run_celery(command, arguments, ["fleet", "service", command, *own])


def _become(command: list[str]) -> None:
    """Replace this process with the command."""
    # No shell reads the command, which is built from checked settings.
    os.execvp(command[0], command)  # noqa: S606  # nosec B606
