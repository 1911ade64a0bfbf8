"""The Celery settings that a user may change in an application that `make_app` has made.

A user's settings override Fleet's, wherever they are set. Dictionaries of options are merged with
Fleet's, here and in `amqp.py`. A setting that would break the fleet raises `InvalidConfig`, at the
first connection of a publisher and at the start of a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.errors import InvalidConfig
from fleet.redis.keys import SEPARATOR
from fleet.settings import Settings
from fleet.settings.addresses import redis_address
from fleet.text import brief, is_number

FIXED_OPTIONS = (
    "fleet",
    *("unacked_key", "unacked_index_key", "unacked_mutex_key"),
    *("unacked_restore_interval", "unacked_restore_throttle"),
)
"""Transport options that only Fleet sets."""

FIXED_VALUES = {"sep": SEPARATOR, "priority_steps": [0, 3, 6, 9], "global_keyprefix": ""}
"""Transport options that decide the key names of a queue; Fleet's scripts assume these values."""

BROKER_URLS = ("broker_url", "broker_read_url", "broker_write_url")
JSON = ("json", "application/json")


def transport_options(defaults: Mapping[str, Any], of_user: Mapping[str, Any]) -> dict[str, Any]:
    """A user's `broker_transport_options`, merged over Fleet's. Raises `InvalidConfig`."""
    for name in FIXED_OPTIONS:
        if of_user.get(name, defaults[name]) != defaults[name]:
            raise InvalidConfig(f"broker_transport_options: {name} is set by Fleet; leave it out")
    for name, value in FIXED_VALUES.items():
        found = of_user.get(name)
        if isinstance(found, tuple):
            found = list(found)
        if found is not None and found != value:
            raise InvalidConfig(
                f"broker_transport_options: {name} would put messages into lists that no worker of "
                "the fleet reads; leave it out. FLEET_NAMESPACE separates two fleets in one Redis"
            )
    least = defaults["visibility_timeout"]
    timeout = of_user.get("visibility_timeout", least)
    if not (is_number(timeout) and timeout >= least):
        raise InvalidConfig(
            f"broker_transport_options: visibility_timeout must be {least:g} or more, the seconds "
            "after which a silent worker counts as dead (leases.dead_after_seconds); leave it out"
        )
    return {**defaults, **of_user}


def result_options(defaults: Mapping[str, Any], of_user: Mapping[str, Any]) -> dict[str, Any]:
    """A user's `result_backend_transport_options`, merged over Fleet's. Raises `InvalidConfig`."""
    of_user = check_dictionary("result_backend_transport_options", of_user)
    name = "result_backend_transport_options: retry_policy"
    of_retries = check_dictionary(name, of_user.get("retry_policy") or {})
    retries = {**defaults.get("retry_policy", {}), **of_retries}
    return {**defaults, **of_user, "retry_policy": retries}


def check_dictionary(name: str, found: Any) -> Mapping[str, Any]:
    """A setting that is a dictionary. Raises `InvalidConfig`."""
    if not isinstance(found, Mapping):
        raise InvalidConfig(f"{name} is {brief(found)}; give a dictionary, or leave it out")
    return found


def check_settings(conf: Any, settings: Settings, defaults: Mapping[str, Any]) -> None:
    """Raise `InvalidConfig` if a setting would break the fleet."""
    for name in BROKER_URLS:
        _check_broker(name, getattr(conf, name), settings, defaults["broker_url"])
    if conf.broker_transport:
        raise InvalidConfig("broker_transport: Fleet has a transport of its own; leave it out")
    if conf.task_protocol != 2:
        raise InvalidConfig("task_protocol: Fleet's tasks need Celery's protocol 2; leave it out")
    of_user = check_dictionary("broker_transport_options", conf.broker_transport_options)
    transport_options(defaults["broker_transport_options"], of_user)
    of_results = defaults["result_backend_transport_options"]
    result_options(of_results, conf.result_backend_transport_options)


def check_agent_settings(conf: Any) -> None:
    """Raise `InvalidConfig` if a setting would break a worker that is an agent."""
    if not set(JSON) & set(conf.accept_content):
        raise InvalidConfig(
            "accept_content: agents' tasks are JSON, which this worker would discard; add "
            '"json"'
        )
    if not conf.worker_disable_prefetch:
        raise InvalidConfig(
            "worker_disable_prefetch: an agent takes as many tasks as it has free slots; leave it "
            "out"
        )


def _check_broker(name: str, found: Any, settings: Settings, default: str) -> None:
    if found == default or (isinstance(found, str) and _same_broker(found, settings)):
        return
    # Celery also reads environment variables of the same names, such as CELERY_BROKER_URL.
    raise InvalidConfig(
        f"{name} (or the variable CELERY_{name.upper()}) names another broker than the fleet's; "
        "leave it out, and set FLEET_BROKER_URL"
    )


def _same_broker(found: str, settings: Settings) -> bool:
    if found == settings.broker_url:
        return True
    try:
        there, here = redis_address(found), redis_address(settings.broker_url)
    except InvalidConfig:
        return False
    return (there.hosts, there.database) == (here.hosts, here.database)
