"""The connection of a command that needs more than `Fleet` offers, after the same check."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.access.access import Guard
    from fleet.access.rules import Role
    from fleet.settings import Settings
    from fleet.tasks.connection import Connection


def connect(role: Role, what: str) -> Connection:
    """The connection for a command that concerns the whole fleet. Raises `NotAllowed`."""
    from fleet.access.rules import Need

    connection, guard = guarded_connection()
    guard.check(Need(role, whole_fleet=True), what)
    return connection


def guarded_connection() -> tuple[Connection, Guard]:
    """The connection, and the rights of FLEET_TOKEN, which the caller checks."""
    from fleet.access.access import Guard
    from fleet.settings import load_settings
    from fleet.tasks.connection import open_connection

    connection = open_connection(load_settings())
    return connection, Guard(connection.access, connection.settings.environment.token)


def check_alone(settings: Settings, role: Role, what: str) -> None:
    """Check FLEET_TOKEN for a command that must also work without an available model, where no
    `Connection` can be made. Raises `NotAllowed`."""
    from fleet.access.access import Access, Guard
    from fleet.access.rules import Need
    from fleet.access.store import TokenStore
    from fleet.redis.client import connect as redis_client
    from fleet.redis.keys import Keys
    from fleet.redis.scripts import Scripts

    client = redis_client(settings.broker_url, settings.environment.socket_timeout)
    tokens = TokenStore(client, Keys(settings.tag), Scripts(client))
    guard = Guard(Access(tokens, settings.config.access.mode), settings.environment.token)
    guard.check(Need(role, whole_fleet=True), what)
