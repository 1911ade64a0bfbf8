"""`fleet up` and `fleet down`: start and stop a whole fleet on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import typer

from fleet.cli.output import say

if TYPE_CHECKING:
    from fleet.local.run_file import RunFile
    from fleet.local.stack import Addresses, ProcessPlan
    from fleet.local.supervisor import Supervisor
    from fleet.settings import Settings

PROCFILE = "Procfile"
DOWN_SECONDS = 20.0
EXTRA_SECONDS = 5.0
"""Workers are killed this long after the end of their grace period."""
POLL_SECONDS = 0.1
SHOWN = 5
"""Running tasks that a message names."""
SECRET_BYTES = 24


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    app.command()(up)
    app.command()(down)


def up() -> None:
    """Run broker, model, workers, beat, Flower and ops endpoint in the foreground until Ctrl-C.

    The processes are those of the `Procfile` in this folder, and one for each further pool of
    `fleet.toml`. If FLEET_BROKER_URL is set, no broker is started. If FLEET_MODEL_URL or a
    provider's key is set, no local model is started.

    Beat decides how many workers each pool has, between its `min` and `max`, and this starts and
    ends them (`[scaling]`, `fleet scale`).

    A process that dies is restarted. If it dies repeatedly, the fleet stops. On Ctrl-C the workers
    finish their tasks, for at most `[workers] grace_seconds`. After that, or on a second Ctrl-C,
    unfinished tasks are requeued and run when workers are available again.

    Example: `FLEET_FLOWER_PORT=5555 fleet up`
    """
    from fleet.local import run_file, stack
    from fleet.local.ports import pick_ports
    from fleet.models.keys import ProviderKeys
    from fleet.operations.broker import ping

    settings = _settings_of_new_run()
    _check_scaling(settings)
    keys = ProviderKeys(settings.config.providers, os.environ)
    needed = stack.needs(settings, keys)
    plan = stack.plan(read_procfile(Path(PROCFILE)), settings.config, needed)
    if not needed.broker:
        ping(settings, "administrator")
    ports = pick_ports(_wanted_ports(settings, needed.broker, needed.model))
    found = stack.addresses(settings, needed, ports, _secret(), _model_key(settings))
    data_dir = settings.environment.data_dir
    _write_signing_key(settings)
    run_file.write_run_file(data_dir, _run_file(settings, plan, ports, found))
    try:
        password = _flower_password(settings)
        _print_start(settings, plan, found)
        environment = stack.child_environment(settings, found, ports, password)
        _supervise(plan, environment, settings, found.broker_url)
    finally:
        run_file.remove_run_file(data_dir)


def _write_signing_key(settings: Settings) -> None:
    """If messages are signed and there is no key, write one: all processes that start here read the
    same stores."""
    kind = settings.config.messages.signing
    if kind == "off":
        return
    from fleet.secrets.secrets import secrets_of
    from fleet.secrets.signing_keys import ensure_key

    if ensure_key(secrets_of(settings, lambda _: None), kind):
        say("wrote a new key for signed messages to the secret messages/signing")


def down() -> None:
    """Stop the fleet of this data folder, and wait until it has stopped.

    Its workers may finish their tasks first, for at most `[workers] grace_seconds`. Plain Celery
    tasks cannot be requeued, so the command waits for them without a time limit.

    Example: `fleet down`
    """
    from fleet.errors import Unavailable
    from fleet.local.run_file import running
    from fleet.settings import load_settings

    settings = load_settings()
    data_dir = settings.environment.data_dir
    grace = settings.config.workers.grace_seconds
    run = running(data_dir)
    if run is None:
        raise Unavailable(f"no fleet is running in {data_dir}; start one with `fleet up`")
    os.kill(run.pid, signal.SIGTERM)
    say(
        f"stopping the fleet in {data_dir} (process {run.pid}); its workers have {grace:g} s to "
        "finish their tasks"
    )
    _wait_until_stopped(settings, run.pid, grace + DOWN_SECONDS)
    say(f"stopped: {', '.join(run.processes)}")


def _wait_until_stopped(settings: Settings, pid: int, seconds: float) -> None:
    """Wait for the end of `fleet up`, and print the tasks that it waits for.

    Raises `Unavailable` after `seconds`. Workers that finish plain Celery tasks extend the time.
    """
    from fleet.errors import Unavailable
    from fleet.local.finishing import process_groups
    from fleet.local.run_file import running

    data_dir = settings.environment.data_dir
    deadline = time.monotonic() + seconds
    awaited = _RunningTasks(settings)
    announced: set[int] = set()
    while (found := running(data_dir)) and found.pid == pid:
        finishing = process_groups(data_dir)
        if finishing:
            deadline = time.monotonic() + DOWN_SECONDS
        if finishing - announced:
            announced |= finishing
            numbers = ", ".join(map(str, sorted(finishing)))
            say(
                "past their grace period, workers finish plain Celery tasks, which cannot be "
                f"requeued: process {numbers}. Stop them: `kill -QUIT {numbers.replace(',', '')}`"
            )
        if time.monotonic() > deadline:
            raise Unavailable(
                f"process {pid} has not ended within {seconds:.0f} s; look at its output, or end "
                f"it with `kill -9 {pid}`"
            )
        if news := awaited.news():
            say(news)
        time.sleep(POLL_SECONDS)


class _RunningTasks:
    """The running tasks that `fleet down` waits for."""

    def __init__(self, settings: Settings) -> None:
        from fleet.tasks.connection import open_connection

        self._records = open_connection(settings).tasks.records
        self._last: list[str] = []

    def news(self) -> str:
        """A sentence if the running tasks differ from those at the last call, else "".

        The broker of the fleet stops too. After that there is no news.
        """
        from fleet.errors import RetryLater

        try:
            running = sorted(self._records.running())
        except RetryLater:
            return ""
        if running == self._last:
            return ""
        self._last = running
        if not running:
            return "no task is running any more"
        more = f" and {len(running) - SHOWN} more" if len(running) > SHOWN else ""
        return f"waiting for running tasks: {', '.join(running[:SHOWN])}{more}"


def _settings_of_new_run() -> Settings:
    """The settings. Raises `RetryLater` if a fleet is running in the data folder."""
    from fleet.local import run_file
    from fleet.settings import load_settings
    from fleet.settings.environment import load_environment, read_run_file

    data_dir = load_environment().data_dir
    if run_file.running(data_dir):
        raise run_file.already_running(data_dir)
    if read_run_file(data_dir):
        # A killed run left it behind. Its addresses are no longer valid.
        run_file.remove_run_file(data_dir)
    settings = load_settings()
    run_file.make_data_dir(settings)
    return settings


def read_procfile(path: Path) -> dict[str, str]:
    """The commands of a Procfile by name. Empty without a file. Raises `InvalidConfig`."""
    from honcho.environ import PROCFILE_LINE

    from fleet.errors import InvalidConfig

    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path}: cannot be read as UTF-8 text: {error}") from error
    found: dict[str, str] = {}
    for line in text.splitlines():
        named = PROCFILE_LINE.match(line)
        if named is None:
            continue
        name, command = named.groups()
        if name in found:
            raise InvalidConfig(f"{path}: {name} is defined twice; remove or rename one")
        found[name] = command
    return found


def _wanted_ports(settings: Settings, broker: bool, model: bool) -> dict[str, int]:
    environment = settings.environment
    wanted = {
        "FLEET_FLOWER_PORT": environment.flower_port,
        "FLEET_OPS_PORT": environment.ops_port,
    }
    if broker:
        wanted["FLEET_BROKER_PORT"] = environment.broker_port
    if model:
        wanted["FLEET_MODEL_PORT"] = environment.model_port
    return wanted


def _run_file(
    settings: Settings, plan: ProcessPlan, ports: dict[str, int], found: Addresses
) -> RunFile:
    from fleet.local.run_file import RunFile, own_start

    return RunFile(
        pid=os.getpid(),
        started=own_start(),
        broker_url=found.broker_url,
        model_url=found.model_url,
        flower_url=found.flower_url,
        flower_user=settings.environment.flower_user,
        ports=ports,
        processes=tuple(plan.commands),
        ops_url=found.ops_url,
        model_key=found.model_key,
    )


def _print_start(settings: Settings, plan: ProcessPlan, found: Addresses) -> None:
    from fleet.operations.health import sandbox_parts
    from fleet.settings.addresses import masked

    say(f"broker {masked(found.broker_url)}, data in {settings.environment.data_dir}")
    model = masked(found.model_url) if found.model_url else "from the providers whose key is set"
    say(f"model  {model}")
    say(f"flower {found.flower_url}, user {settings.environment.flower_user}")
    say(f"ops    {found.ops_url}: /health, /ready, /metrics, /scale/POOL")
    for part in sandbox_parts(settings):
        say(f"sandbox {part.where}, {part.detail}")
    for note in plan.notes:
        say(f"note: {note}")
    say("check it with `fleet status` from another terminal; stop it with Ctrl-C\n")


def _flower_password(settings: Settings) -> str:
    """The configured password, or a new one, which is printed once."""
    given = settings.environment.flower_password
    if given:
        return given.get_secret_value()
    password = _secret()
    say(f"Flower's password for this run: {password}   (FLEET_FLOWER_PASSWORD sets one)")
    return password


def _model_key(settings: Settings) -> str:
    from fleet.local.model import key_of

    environment = settings.environment
    return _secret() if environment.model_key is None else key_of(environment)


def _secret() -> str:
    import secrets

    return secrets.token_urlsafe(SECRET_BYTES)


def _check_scaling(settings: Settings) -> None:
    """Raise `InvalidConfig` for an unknown scaling policy or actuator, before anything starts."""
    from fleet.scaling.actuators import check_actuator
    from fleet.scaling.policies import check_policies, installed_policies

    check_policies(settings, installed_policies())
    check_actuator(settings)


@dataclass(frozen=True, slots=True)
class _Workers:
    """The workers that a supervisor runs, and how it starts more of them."""

    supervisor: Supervisor
    plan: ProcessPlan
    environment: Mapping[str, str]

    def workers(self) -> Mapping[str, int | None]:
        return self.supervisor.workers()

    def start_worker(self, name: str) -> None:
        from fleet.local.rules import pool_of

        command = self.plan.workers[pool_of(name)]
        self.supervisor.add_worker(name, command, _own(self.environment, name))

    def end_worker(self, name: str) -> None:
        self.supervisor.end_worker(name)


def _own(environment: Mapping[str, str], name: str) -> dict[str, str]:
    """The environment of one process."""
    return {**os.environ, **environment, "HONCHO_PROCESS_NAME": name}


def _supervise(
    plan: ProcessPlan, environment: dict[str, str], settings: Settings, broker_url: str
) -> None:
    from fleet.errors import Unavailable
    from fleet.local.finishing import process_groups
    from fleet.local.local_workers import LocalWorkers, own_orders
    from fleet.local.supervisor import Supervisor
    from fleet.scaling.actuators import PROCESSES

    seconds = settings.config.workers.grace_seconds + EXTRA_SECONDS
    finishing = partial(process_groups, settings.environment.data_dir)
    supervisor = Supervisor(seconds, finishing=finishing)
    for name, command in plan.commands.items():
        supervisor.add_process(name, command, env=_own(environment, name))
    ended = Event()
    if settings.config.scaling.actuator == PROCESSES:
        workers = _Workers(supervisor, plan, environment)
        LocalWorkers(own_orders(settings, broker_url), workers, plan.workers).thread(ended).start()
    supervisor.loop()
    ended.set()
    if supervisor.gave_up_on is not None:
        raise Unavailable(
            f"the fleet stopped because {supervisor.gave_up_on} exited repeatedly (exit status "
            f"{supervisor.returncode}); its last lines above show the reason"
        )
