"""Whether the broker answers."""

from __future__ import annotations

import time

from fleet.errors import Unavailable
from fleet.redis.client import connect, redis_errors
from fleet.redis.keys import Keys
from fleet.redis.permissions import Permissions
from fleet.redis.scripts import Scripts
from fleet.settings import Settings

PROBE_SECONDS = 2.0
POLL_SECONDS = 0.1


def wait_for_broker(settings: Settings, patience_seconds: float) -> None:
    """Return once the broker answers. Raises `Unavailable` when it has not for so long."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return ping(settings)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def ping(settings: Settings) -> None:
    """Ask the broker for a sign of life, and whether its user may do what a fleet does.

    Raises `Unavailable`, `NotAllowed` or, where TLS refuses the other side, `InvalidConfig`.
    """
    client = connect(settings.broker_url, min(PROBE_SECONDS, settings.environment.socket_timeout))
    try:
        with redis_errors(client):
            client.ping()
        Permissions(client, Keys(settings.tag), Scripts(client)).check()
    finally:
        client.close()
