"""Settings: FLEET_* variables and fleet.toml, read once by each composition root."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fleet.errors import InvalidConfig
from fleet.settings import defaults
from fleet.settings.addresses import DEFAULT_BROKER_URL
from fleet.settings.budgets import CHEAPER_MODELS, REFERENCE_CHEAPER_MODELS
from fleet.settings.config import FleetConfig
from fleet.settings.environment import Environment, load_environment
from fleet.settings.routing import Pool

__all__ = ["Environment", "FleetConfig", "Pool", "Settings", "load_settings"]

CONFIG_FILE = "fleet.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a process was told: its environment, the fleet's configuration and its source."""

    environment: Environment
    config: FleetConfig
    source: str

    @property
    def namespace(self) -> str:
        return self.environment.namespace

    @property
    def tag(self) -> str:
        """The hash tag that every key and queue begins with, so that all share a cluster slot."""
        return "{" + self.environment.namespace + "}"

    @property
    def broker_url(self) -> str:
        """The address of the fleet's Redis, password and all: never print it."""
        secret = self.environment.broker_url
        return secret.get_secret_value() if secret else DEFAULT_BROKER_URL

    def queue(self, pool: str) -> str:
        """The Celery queue of a pool."""
        return self.config.pools[pool].queue or f"{self.tag}.{pool}"

    def overflow_queue(self, agent_type: str) -> str:
        """The queue for tasks of an agent type that found no free slot anywhere."""
        return f"{self.tag}.overflow.{agent_type}"


def load_settings() -> Settings:
    """Read the environment and the configuration. Raises `InvalidConfig` with what to mend."""
    environment = load_environment()
    path = environment.config or Path(CONFIG_FILE)
    if environment.config is not None and not path.is_file():
        raise InvalidConfig(f"FLEET_CONFIG: there is no file {path}; correct it or unset it")
    text = _read(path) if path.is_file() else ""
    source = str(path) if path.is_file() else "built-in defaults"
    config = parse_config(text, source)
    settings = Settings(environment, config, source)
    _check_queues(settings)
    _check_waits(settings)
    return settings


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path}: cannot be read as UTF-8 text: {error}") from error


def parse_config(text: str, source: str) -> FleetConfig:
    """A configuration from the text of a fleet.toml. A key that it leaves out has its default.

    A key of a table leaves the other keys of the table. A table of named things, such as
    [pools.NAME], replaces all default ones. Raises `InvalidConfig` naming file, key and fault.
    """
    try:
        given = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InvalidConfig(f"{source}: is not valid TOML: {why}") from error
    for name, value in given.items():
        if name in FleetConfig.tables() and not isinstance(value, dict):
            raise InvalidConfig(
                f"{source}: {name}: has to be a table, with a line [{name}] before its keys"
            )
    try:
        return FleetConfig.model_validate(_with_defaults_that_fit(given))
    except ValidationError as error:
        raise InvalidConfig(explain(error, source)) from None


def _with_defaults_that_fit(given: dict[str, Any]) -> dict[str, Any]:
    """The file with those defaults that name types and models, without the names that it has not.

    A default row of the compatibility table, or pair of the cheaper models, goes with its names.
    """
    laid = dict(given)
    if "compatibility" not in given:
        agent_types = given.get("agent_types", defaults.agent_types())
        request_types = given.get("request_types", defaults.request_types())
        laid["compatibility"] = {
            request_type: {name: fit for name, fit in row.items() if name in agent_types}
            for request_type, row in defaults.compatibility().items()
            if request_type in request_types
        }
    budgets = given.get("budgets", {})
    downgrade = budgets.get("downgrade", {})
    if isinstance(downgrade, dict) and "models" not in downgrade:
        laid["budgets"] = {**budgets, "downgrade": {**downgrade, "models": _cheaper_models(given)}}
    return laid


def _cheaper_models(given: dict[str, Any]) -> dict[str, str]:
    """The default pairs whose models are both in the catalogue that is chosen."""
    if given.get("models", {}).get("catalogue", "configured") != "configured":
        return dict(REFERENCE_CHEAPER_MODELS)
    there = given.get("catalogue", defaults.catalogue())
    return {
        model: cheaper
        for model, cheaper in CHEAPER_MODELS.items()
        if model in there and cheaper in there
    }


def explain(error: ValidationError, source: str) -> str:
    """A validation error as one line a fault: file, key, what was wrong."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        problem = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            problem = "is not a known key; remove it or correct its spelling"
        lines.append(": ".join(part for part in (source, key, problem) if part))
    return "\n".join(lines)


def _check_waits(settings: Settings) -> None:
    redis, most = settings.config.redis, settings.environment.socket_timeout
    if redis.min_replicas and redis.wait_seconds >= most:
        raise InvalidConfig(
            f"{settings.source}: redis.wait_seconds ({redis.wait_seconds:g}) must be less than "
            f"FLEET_SOCKET_TIMEOUT ({most:g}), or a slow replica looks like a dead Redis"
        )


def _check_queues(settings: Settings) -> None:
    overflow = settings.overflow_queue("")
    owners = {f"{settings.tag}.jobs": "the fleet itself"}
    for name, pool in settings.config.pools.items():
        if pool.queue and not pool.queue.startswith(settings.tag + "."):
            raise InvalidConfig(
                f"{settings.source}: pools.{name}.queue: {pool.queue!r} must start with "
                f"'{settings.tag}.', or leave it out for '{settings.tag}.{name}'"
            )
        queue = settings.queue(name)
        owner = "the fleet itself" if queue.startswith(overflow) else owners.get(queue)
        if owner is not None:
            raise InvalidConfig(
                f"{settings.source}: pools.{name}: its queue {queue} is that of {owner}; give the "
                "pool another name, or a queue of its own"
            )
        owners[queue] = f"pool {name}"
