"""What a user's Celery settings may change of an application that `make_app` has made.

Fleet's settings lie under the user's: what a user sets holds, wherever it is set. Some that Fleet
needs are laid together with the user's, here and in `amqp.py`. One that would break the fleet is an
`InvalidConfig`, from the first connection of a publisher and from the start of a worker.
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
"""Transport options that Fleet alone sets."""

SPELLING = {"sep": SEPARATOR, "priority_steps": [0, 3, 6, 9], "global_keyprefix": ""}
"""Transport options that name the lists of a queue, which Fleet's scripts know by these values."""

BROKER_URLS = ("broker_url", "broker_read_url", "broker_write_url")
JSON = ("json", "application/json")


def transport_options(fleets: Mapping[str, Any], of_user: Mapping[str, Any]) -> dict[str, Any]:
    """A user's `broker_transport_options` over Fleet's. Raises `InvalidConfig`."""
    for name in FIXED_OPTIONS:
        if of_user.get(name, fleets[name]) != fleets[name]:
            raise InvalidConfig(f"broker_transport_options: {name} is set by Fleet; leave it out")
    for name, value in SPELLING.items():
        found = of_user.get(name)
        if isinstance(found, tuple):
            found = list(found)
        if found is not None and found != value:
            raise InvalidConfig(
                f"broker_transport_options: {name} would move messages to where no worker of the "
                "fleet looks; leave it out. FLEET_NAMESPACE keeps two fleets in one Redis apart"
            )
    least = fleets["visibility_timeout"]
    timeout = of_user.get("visibility_timeout", least)
    if not (is_number(timeout) and timeout >= least):
        raise InvalidConfig(
            f"broker_transport_options: visibility_timeout must be {least:g} or more, the seconds "
            "after which a silent worker counts as dead (leases.dead_after_seconds); leave it out"
        )
    return {**fleets, **of_user}


def result_options(fleets: Mapping[str, Any], of_user: Mapping[str, Any]) -> dict[str, Any]:
    """A user's `result_backend_transport_options` over Fleet's. Raises `InvalidConfig`."""
    of_user = check_dictionary("result_backend_transport_options", of_user)
    name = "result_backend_transport_options: retry_policy"
    of_retries = check_dictionary(name, of_user.get("retry_policy") or {})
    retries = {**fleets.get("retry_policy", {}), **of_retries}
    return {**fleets, **of_user, "retry_policy": retries}


def check_dictionary(name: str, found: Any) -> Mapping[str, Any]:
    """A setting that is a dictionary. Raises `InvalidConfig`."""
    if not isinstance(found, Mapping):
        raise InvalidConfig(f"{name} is {brief(found)}; give a dictionary, or leave it out")
    return found


def check_settings(conf: Any, settings: Settings, fleets: Mapping[str, Any]) -> None:
    """Raises `InvalidConfig` where a setting would break the fleet."""
    for name in BROKER_URLS:
        _check_broker(name, getattr(conf, name), settings, fleets["broker_url"])
    if conf.broker_transport:
        raise InvalidConfig("broker_transport: Fleet has a transport of its own; leave it out")
    if conf.task_protocol != 2:
        raise InvalidConfig("task_protocol: Fleet's tasks need Celery's protocol 2; leave it out")
    of_user = check_dictionary("broker_transport_options", conf.broker_transport_options)
    transport_options(fleets["broker_transport_options"], of_user)
    of_results = fleets["result_backend_transport_options"]
    result_options(of_results, conf.result_backend_transport_options)


def check_agent_settings(conf: Any) -> None:
    """Raises `InvalidConfig` where a setting would break a worker that is an agent."""
    if not set(JSON) & set(conf.accept_content):
        raise InvalidConfig(
            "accept_content: agents' tasks come as JSON, which this worker would throw away; add "
            '"json"'
        )
    if not conf.worker_disable_prefetch:
        raise InvalidConfig(
            "worker_disable_prefetch: an agent takes as many tasks as it has free slots; leave it "
            "out"
        )


def _check_broker(name: str, found: Any, settings: Settings, fleets: str) -> None:
    if found == fleets or (isinstance(found, str) and _same_broker(found, settings)):
        return
    # The variables that Celery reads in its place, such as CELERY_BROKER_URL, are named alike.
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
