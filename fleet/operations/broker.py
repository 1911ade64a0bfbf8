"""Checks of the broker."""

from __future__ import annotations

import time

from fleet.errors import Unavailable
from fleet.redis.client import connect, redis_errors
from fleet.redis.keys import Keys
from fleet.redis.permissions import Permissions
from fleet.redis.scripts import Scripts
from fleet.settings import Settings
from fleet.settings.addresses import redis_address

PROBE_SECONDS = 2.0
POLL_SECONDS = 0.1


def wait_for_broker(settings: Settings, timeout_seconds: float, role: str) -> None:
    """Return when the broker answers a process of this role. Raises `Unavailable` after
    `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return ping(settings, role)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def ping(settings: Settings, role: str = "") -> None:
    """Check that the broker answers, and that its user has the rights of a role, see
    `fleet.redis.roles`; without a role, of any.

    Raises `Unavailable`, `NotAllowed`, or `InvalidConfig` if TLS rejects a certificate.
    """
    client = connect(settings.broker_url, min(PROBE_SECONDS, settings.environment.socket_timeout))
    try:
        with redis_errors(client):
            client.ping()
        permissions = Permissions(client, Keys(settings.tag), Scripts(client))
        permissions.check(role, redis_address(settings.broker_url).database)
    finally:
        client.close()
