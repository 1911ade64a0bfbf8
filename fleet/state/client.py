"""One client of Redis, and what its errors mean to Fleet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)
from redis.retry import Retry

from fleet.errors import InvalidConfig, NotAllowed, Unavailable
from fleet.state.forks import renew_locks_after_forks

RETRIES = 2
"""Every script may be sent twice: a lost answer is given again, see the heads in `lua/`."""

NOT_YOU = (AuthenticationError, AuthorizationError, NoPermissionError)
NOT_NOW = (BusyLoadingError, ClusterDownError, MasterDownError, OutOfMemoryError, ReadOnlyError)


def connect(url: str, socket_timeout: float) -> redis.Redis:
    """A client with a pool of connections, opened when first used. Safe to keep across a fork.

    `socket_timeout` in seconds bounds every call, so that a dead peer is an error, not a
    hang. Raises `InvalidConfig` for an address that cannot be understood.
    """
    try:
        client = redis.Redis.from_url(
            url,
            socket_timeout=socket_timeout,
            socket_connect_timeout=socket_timeout,
            socket_keepalive=True,
            health_check_interval=30,
            # A refused or cut connection is tried again at once; a server that hangs has
            # taken its time already.
            retry=Retry(
                ExponentialWithJitterBackoff(base=0.05, cap=0.5),
                RETRIES,
                supported_errors=(redis.ConnectionError,),
            ),
        )
    except ValueError as error:
        raise InvalidConfig(f"FLEET_BROKER_URL: {error}; use redis://HOST:PORT/DATABASE") from None
    renew_locks_after_forks(client)
    return client


def place(url: str) -> str:
    """Host and port of an address, without the user and password that it may hold."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


@contextmanager
def redis_errors(client: redis.Redis) -> Iterator[None]:
    """Turn what redis-py raises into Fleet's errors, with the cause chained."""
    try:
        yield
    except NOT_YOU as error:
        raise NotAllowed(
            f"Redis refused the user, the password or the user's rights ({error}); check "
            "FLEET_BROKER_URL"
        ) from error
    except NOT_NOW as error:
        raise Unavailable(f"Redis cannot take it now ({error}); nothing was written") from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        arguments = client.connection_pool.connection_kwargs
        where = f"{arguments.get('host', 'localhost')}:{arguments.get('port', 6379)}"
        raise Unavailable(
            f"Redis at {where} does not answer; start it with `fleet up`, or correct "
            "FLEET_BROKER_URL"
        ) from error
