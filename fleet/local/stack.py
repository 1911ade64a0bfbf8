"""The processes of a fleet on one machine, with their commands and environment.

`fleet up` makes a plan here and gives it to the supervisor. The plan follows the Procfile of the
working folder. Processes that are missing there get their standard command.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from fleet.errors import InvalidConfig
from fleet.local.ports import LOOPBACK
from fleet.models.keys import ProviderKeys
from fleet.settings import FleetConfig, Settings

SERVICES = ("broker", "model", "beat", "flower", "ops")


@dataclass(frozen=True, slots=True)
class Needs:
    """Which of the services that may run elsewhere must run here."""

    broker: bool
    model: bool


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """Commands by process name, in order, and a sentence for each process that is left out.
    `workers` are the commands of workers by pool."""

    commands: Mapping[str, str]
    notes: tuple[str, ...]
    workers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the services. Only `broker_url` contains a password. `model_key` is the key
    of the local model that is started here."""

    broker_url: str = field(repr=False)
    model_url: str | None
    flower_url: str
    ops_url: str
    model_key: str | None = field(default=None, repr=False)


def needs(settings: Settings, keys: ProviderKeys) -> Needs:
    """A broker unless FLEET_BROKER_URL is set. A model unless FLEET_MODEL_URL or a key is set."""
    provided = settings.environment.model_url or keys.providers
    return Needs(broker=settings.environment.broker_url is None, model=not provided)


def plan(procfile: Mapping[str, str], config: FleetConfig, needed: Needs) -> ProcessPlan:
    """Plan the processes. A pool that starts with two agents has `codegen.1` and `codegen.2`.

    Raises `InvalidConfig` if a pool has the name of a service.
    """
    for name in SERVICES:
        if name in config.pools:
            raise InvalidConfig(f"pools.{name}: a service has this name; rename the pool")
    counts = _counts(config, needed)
    commands: dict[str, str] = {}
    workers: dict[str, str] = {}
    for name, count in counts.items():
        command = runnable(procfile.get(name, built_in(name)))
        if name not in SERVICES:
            workers[name] = command
        names = [name] if name in SERVICES else [f"{name}.{i + 1}" for i in range(count)]
        commands.update(dict.fromkeys(names[:count], command))
    return ProcessPlan(commands, _notes(procfile, counts), workers)


def _counts(config: FleetConfig, needed: Needs) -> dict[str, int]:
    counts = {"broker": int(needed.broker), "model": int(needed.model)}
    counts |= {name: pool.min for name, pool in config.pools.items()}
    return counts | {"beat": 1, "flower": 1, "ops": 1}


def _notes(procfile: Mapping[str, str], counts: Mapping[str, int]) -> tuple[str, ...]:
    reasons = {
        "broker": "FLEET_BROKER_URL names a broker",
        "model": "FLEET_MODEL_URL or a provider's key is set",
    }
    empty = "its pool has min = 0; the first task starts a worker"
    skipped = [
        f"{name}: not started, {reasons.get(name, empty)}"
        for name, count in counts.items()
        if count == 0
    ]
    unknown = [
        f"{name}: not started, the configuration has no such pool"
        for name in procfile
        if name not in counts
    ]
    return (*skipped, *unknown)


def built_in(name: str) -> str:
    """The standard command of a service or pool that the Procfile lacks."""
    return f"fleet service {name}" if name in SERVICES else f"fleet service worker {name}"


def runnable(command: str) -> str:
    """A Procfile command that runs this installation of Fleet, whatever is on the PATH.

    `exec` avoids a shell between the supervisor and the process.
    """
    if command.split(maxsplit=1)[:1] != ["fleet"]:
        return command
    return f"exec {shlex.quote(sys.executable)} -m {command}"


def addresses(
    settings: Settings, needed: Needs, ports: Mapping[str, int], secret: str, model_key: str
) -> Addresses:
    """The addresses of the services, from the chosen ports, the broker's password and the key of
    the local model."""
    broker = f"redis://:{quote(secret, safe='')}@{LOOPBACK}:{ports.get('FLEET_BROKER_PORT')}/0"
    model = f"http://{LOOPBACK}:{ports.get('FLEET_MODEL_PORT')}/v1"
    return Addresses(
        broker_url=broker if needed.broker else settings.broker_url,
        model_url=model if needed.model else settings.environment.model_url,
        flower_url=f"http://{LOOPBACK}:{ports['FLEET_FLOWER_PORT']}",
        ops_url=f"http://{LOOPBACK}:{ports['FLEET_OPS_PORT']}",
        model_key=model_key if needed.model else None,
    )


def child_environment(
    settings: Settings, found: Addresses, ports: Mapping[str, int], flower_password: str
) -> dict[str, str]:
    """The variables that every process of the fleet gets in addition to those of its parent."""
    given = {
        "FLEET_BROKER_URL": found.broker_url,
        "FLEET_SUPERVISED": "true",
        "FLEET_DATA_DIR": str(settings.environment.data_dir.resolve()),
        "FLEET_FLOWER_PASSWORD": flower_password,
        "PYTHONUNBUFFERED": "1",
        **{variable: str(port) for variable, port in ports.items()},
    }
    if found.model_url:
        given["FLEET_MODEL_URL"] = found.model_url
    if found.model_key:
        given["FLEET_MODEL_KEY"] = found.model_key
    return given


def worker_arguments(settings: Settings, pool_name: str, process: int) -> list[str]:
    """Celery's arguments for a worker of a pool. The worker finds its queues by FLEET_POOL.

    Its name contains the process id, because two fleets on one machine may share a broker. Raises
    `InvalidConfig` for an unknown pool. No argument contains a secret.
    """
    pool = settings.config.pools.get(pool_name)
    if pool is None:
        known = ", ".join(sorted(settings.config.pools))
        raise InvalidConfig(f"no pool is called {pool_name!r}; use one of: {known}")
    return [
        *_arguments(settings),
        "--pool", pool.execution,
        "--concurrency", str(pool.slots),
        "--hostname", f"{pool_name}-{process}@%h",
        "--without-gossip",
        "--without-mingle",
    ]  # fmt: skip


def beat_arguments(settings: Settings) -> list[str]:
    """Celery's arguments for beat. The last run of each job is stored in Redis."""
    return _arguments(settings)


def _arguments(settings: Settings) -> list[str]:
    return ["--loglevel", settings.environment.log_level]
