"""The variables FLEET_*: where things are on this machine, and its secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.errors import InvalidConfig
from fleet.settings.addresses import DEFAULT_BROKER_URL, taken_apart

RUN_FILE = "run.json"

Port = Annotated[int, Field(ge=0, le=65535)]


class Environment(BaseSettings):
    """Where things are on this machine, and its secrets. A port of 0 means: any free one.

    In a folder where `fleet up` runs, the addresses of Redis and of the local model that are not
    set are those of that fleet.
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
        description=f"The address of Redis. Default: {DEFAULT_BROKER_URL}",
    )
    broker_port: Port = Field(0, description="The port of the embedded Valkey of `fleet up`.")
    token: SecretStr | None = Field(
        None,
        description="The token of this process, where access.mode is tokens. `fleet access grant` "
        "makes one.",
    )
    model_url: Annotated[str, Field(pattern=r"^https?://")] | None = Field(
        None, description="The address of a server of the local model."
    )
    model_key: SecretStr | None = Field(
        None,
        description="The key of the server of the local model. `fleet up` makes one for the model "
        "that it starts.",
    )
    model_port: Port = Field(0, description="The port of the local model's server.")
    flower_port: Port = Field(0, description="The port of Flower.")
    flower_host: str = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9.:\-]{1,253}$",
        description="The address that Flower listens on, such as 0.0.0.0 in a container.",
    )
    flower_user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,64}$")] = Field(
        "fleet", description="The user of Flower."
    )
    flower_password: SecretStr | None = Field(None, description="The password of Flower.")
    flower_viewer_password: SecretStr | None = Field(
        None,
        description="The password of Flower's second user, `viewer`, who sees everything and "
        "changes nothing. Default: there is no such user.",
    )
    vault_token: SecretStr | None = Field(
        None, description="The token for `secrets.vault.login = \"token\"`, for development."
    )
    master_key_file: Path | None = Field(
        None,
        description="The file with the key that protects the store `file` of secrets, outside the "
        "data folder. Default: ~/.config/fleet/master.key. The first write creates it.",
    )
    ops_port: Port = Field(0, description="The port of the ops endpoint.")
    ops_host: str = Field(
        "127.0.0.1",
        description="The address that the ops endpoint listens on, such as 0.0.0.0 in a container.",
    )
    ops_token: SecretStr | None = Field(
        None,
        description="The bearer token that /metrics and /scale of the ops endpoint need. Default: "
        "they are open. /health and /ready always are.",
    )
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-+]{1,64}$")] | None = Field(
        None,
        description="The version of the agents, as `fleet deploy watch` compares it. Default: "
        "that of the package fleet.",
    )
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
    supervised: bool = Field(
        False,
        description="Whether the process that started a worker also ends it, so that the fleet may "
        "drain it to shrink its pool. `fleet up` sets it.",
    )
    idle_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = Field(
        None,
        description="A worker that has run nothing for so long shuts down. Default: it waits for "
        "tasks without end.",
    )

    @field_validator("broker_url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            taken_apart(url.get_secret_value())
        return url


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
    if environment.model_url is None:
        update["model_url"] = found.get("model_url")
        if key := found.get("model_key"):
            update["model_key"] = SecretStr(key)
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
    for name in ("model_url", "model_key"):
        if not isinstance(found.get(name), str | None):
            raise InvalidConfig(f"{path}: {name} is no text; delete it and run `fleet up` again")
    return found


def _explain(error: ValidationError) -> str:
    # Input values are left out: the variable may hold a password.
    return "; ".join(
        f"FLEET_{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors()
    )
