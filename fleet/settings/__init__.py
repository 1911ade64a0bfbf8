"""Settings: FLEET_* variables and fleet.toml, read once by whoever composes a process."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fleet.errors import InvalidConfig
from fleet.settings.addresses import DEFAULT_BROKER_URL
from fleet.settings.config import FleetConfig, Pool
from fleet.settings.environment import Environment, load_environment

__all__ = ["Environment", "FleetConfig", "Pool", "Settings", "load_settings"]

CONFIG_FILE = "fleet.toml"
DEFAULTS = "default.toml"
SECTIONS = (
    *("models", "limits", "budgets", "rates", "leases", "agents", "routing", "health", "redis"),
)
"""The tables with fixed keys."""


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
    """A configuration from the text of a fleet.toml, laid over the defaults."""
    defaults = tomllib.loads(files(__package__).joinpath(DEFAULTS).read_text(encoding="utf-8"))
    try:
        given = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InvalidConfig(f"{source}: is not valid TOML: {why}") from error
    for name, usual in defaults.items():
        if isinstance(usual, dict) and not isinstance(given.get(name, {}), dict):
            raise InvalidConfig(
                f"{source}: {name}: has to be a table, with a line [{name}] before its keys"
            )
    try:
        return FleetConfig.model_validate(_lay_over(defaults, given))
    except ValidationError as error:
        raise InvalidConfig(explain(error, source)) from None


def _lay_over(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Tables with fixed keys are merged key by key; tables of named things are replaced."""
    merged = {**defaults, **given}
    for section in SECTIONS:
        if isinstance(given.get(section), dict):
            merged[section] = {**defaults.get(section, {}), **given[section]}
    if isinstance(merged["budgets"], dict):
        merged["budgets"] = _with_downgrades(merged, given, defaults["budgets"]["downgrade"])
    if "compatibility" not in given:
        merged["compatibility"] = _compatibility_of(merged, defaults["compatibility"])
    return merged


def _with_downgrades(
    merged: dict[str, Any], given: dict[str, Any], usual: dict[str, Any]
) -> dict[str, Any]:
    """The budgets, where no way down was given with the usual one among the catalogue's models."""
    asked = given.get("budgets", {}).get("downgrade", {})
    if not isinstance(asked, dict) or "models" in asked:
        return dict(merged["budgets"])
    there, models = merged["catalogue"], merged["models"]
    configured = isinstance(models, dict) and models.get("catalogue") == "configured"
    found = {
        dear: cheap
        for dear, cheap in usual["models"].items()
        if not configured or (dear in there and cheap in there)
    }
    return {**merged["budgets"], "downgrade": {**usual, **asked, "models": found}}


def _compatibility_of(merged: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The default rows and columns whose request and agent types are still there."""
    return {
        request_type: {k: v for k, v in row.items() if k in merged["agent_types"]}
        for request_type, row in defaults.items()
        if request_type in merged["request_types"]
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
