"""The variables FLEET_*: where things are on this machine, and its secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.errors import InvalidConfig
from fleet.settings.addresses import REDIS_SCHEMES, check_amqp, taken_apart

RUN_FILE = "run.json"
DEFAULT_BROKER_URL = "redis://127.0.0.1:6379/0"
AMQP_SCHEMES = ("amqp", "amqps")

Port = Annotated[int, Field(ge=0, le=65535)]


class Environment(BaseSettings):
    """Where things are on this machine, and its secrets. A port of 0 means: any free one.

    In a folder where `fleet up` runs, the addresses of the broker, of Redis and of the local model
    that are not set are those of that fleet.
    """

    model_config = SettingsConfigDict(env_prefix="FLEET_", frozen=True)

    config: Path | None = Field(
        None,
        description="The configuration file. Default: fleet.toml in the working folder, if any.",
    )
    data_dir: Path = Field(
        Path(".fleet"),
        description="The folder of what Fleet stores: the archive of the ledger, prices, and the "
        "data of the embedded Valkey.",
    )
    namespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_\-]{0,30}$")] = Field(
        "fleet", description="The name that every key and queue of this fleet begins with."
    )
    broker_url: SecretStr | None = Field(
        None,
        description="The address of Redis, or of RabbitMQ, which carries the messages. Default: "
        f"{DEFAULT_BROKER_URL}",
    )
    state_url: SecretStr | None = Field(
        None,
        description="The address of the Redis that keeps the state, beside a RabbitMQ alone.",
    )
    broker_port: Port = Field(0, description="The port of the embedded Valkey of `fleet up`.")
    model_url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        None, description="The address of a server of the local model."
    )
    model_port: Port = Field(0, description="The port of the local model's server.")
    flower_port: Port = Field(0, description="The port of Flower.")
    flower_user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,64}$")] = Field(
        "fleet", description="The user of Flower."
    )
    flower_password: SecretStr | None = Field(None, description="The password of Flower.")
    socket_timeout: Annotated[float, Field(gt=0, le=120)] = Field(
        5.0, description="How long Redis may take to answer."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Log lines of this level and above are written."
    )
    pool: str | None = Field(
        None,
        description="The pool that a Celery worker serves as an agent. `fleet service worker` sets "
        "it. Without it the worker is no agent.",
    )

    @field_validator("broker_url")
    @classmethod
    def _is_a_broker(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and is_amqp(url.get_secret_value()):
            check_amqp(url.get_secret_value())
        elif url is not None:
            _check_redis(url.get_secret_value(), (*REDIS_SCHEMES, *AMQP_SCHEMES))
        return url

    @field_validator("state_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            _check_redis(url.get_secret_value(), REDIS_SCHEMES)
        return url

    @model_validator(mode="after")
    def _has_one_redis(self) -> Self:
        broker, state = self.broker_url, self.state_url
        if broker is not None and is_amqp(broker.get_secret_value()):
            if state is None:
                raise ValueError(
                    "RabbitMQ carries the messages alone: name the Redis that keeps the state, "
                    "such as redis://127.0.0.1:6379/0"
                )
        elif state is not None and state != broker:
            raise ValueError(
                "a Redis that is the broker keeps the state too, in one step with the messages: "
                "set FLEET_BROKER_URL alone"
            )
        return self


def is_amqp(url: str) -> bool:
    """Whether an address is that of a RabbitMQ."""
    return url.partition("://")[0] in AMQP_SCHEMES


def _check_redis(url: str, schemes: tuple[str, ...]) -> None:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in schemes:
        known = ", ".join(f"{each}://" for each in schemes)
        raise ValueError(f"must start with one of {known}, such as redis://127.0.0.1:6379/0")
    taken_apart(url)


def load_environment() -> Environment:
    """Read FLEET_* and, for what they leave open, the run file of a `fleet up` in this folder.

    Raises `InvalidConfig` naming the variable and what is allowed.
    """
    try:
        environment = Environment()
    except ValidationError as error:
        raise InvalidConfig(_explain(error)) from None
    found = read_run_file(environment.data_dir)
    if found is None or environment.broker_url is not None:
        return environment
    update: dict[str, Any] = {"broker_url": SecretStr(found["broker_url"])}
    if found.get("state_url"):
        update["state_url"] = SecretStr(found["state_url"])
    if environment.model_url is None:
        update["model_url"] = found.get("model_url")
    return environment.model_copy(update=update)


def read_run_file(data_dir: Path) -> dict[str, Any] | None:
    """What the running `fleet up` wrote about itself, or None where none runs here."""
    path = data_dir / RUN_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidConfig(
            f"{path}: cannot be read ({error}); delete it and run `fleet up` again"
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("broker_url"), str):
        raise InvalidConfig(f"{path}: names no broker_url; delete it and run `fleet up` again")
    for name in ("state_url", "model_url"):
        if not isinstance(found.get(name), str | None):
            raise InvalidConfig(f"{path}: {name} is no text; delete it and run `fleet up` again")
    return found


def _explain(error: ValidationError) -> str:
    # Input values are left out: the variable may hold a password.
    return "; ".join(
        f"FLEET_{str((*item['loc'], 'state_url')[0]).upper()}: "
        f"{item['msg'].removeprefix('Value error, ')}"
        for item in error.errors()
    )
