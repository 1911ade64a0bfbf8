"""One client of Redis, and the translation of its errors into Fleet's."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import InvalidResponse
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from fleet.errors import FleetError, InvalidConfig, InvalidRequest, NotAllowed, Unavailable
from fleet.redis.replies import answer_of, translated
from fleet.settings.addresses import CHECK, RedisAddress, check_files, redis_address, tls_error

RETRIES = 2
"""Every script may be sent twice: the second call gets the lost answer, see the heads in `lua/`."""


def connect(url: str, socket_timeout: float) -> redis.Redis:
    """A client with a pool of connections, opened when first used. Safe to keep across a fork.

    `socket_timeout`, in seconds, limits every call, so that a dead peer is an error, not a
    hang. Raises `InvalidConfig` for an address that cannot be parsed, and for a missing TLS
    file.
    """
    address = redis_address(url)
    check_files(address.tls)
    options = _options(socket_timeout)
    if address.master:
        return _master(address, options)
    try:
        client = redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise InvalidConfig(f"FLEET_BROKER_URL: {error}; use redis://HOST:PORT/DATABASE") from None
    renew_locks_after_forks(client)
    return client


def _options(socket_timeout: float) -> dict[str, Any]:
    return {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": socket_timeout,
        "socket_keepalive": True,
        "health_check_interval": 30,
        # A refused or cut connection is retried at once. A server that hangs is not: the time-out
        # is over already.
        "retry": Retry(
            ExponentialWithJitterBackoff(base=0.05, cap=0.5),
            RETRIES,
            supported_errors=(redis.ConnectionError,),
        ),
    }


def _master(address: RedisAddress, options: dict[str, Any]) -> redis.Redis:
    """A client of the current master: each new connection asks the Sentinels for it."""
    found: Any = Sentinel(  # type: ignore[no-untyped-call]
        address.hosts,
        sentinel_kwargs=sentinel_options(address, options["socket_timeout"]),
        db=address.database,
        username=address.username or None,
        password=address.password or None,
        **options,
        **tls_options(address),
    )
    client: redis.Redis = found.master_for(address.master)
    renew_locks_after_forks(client)
    return client


def sentinel_options(address: RedisAddress, socket_timeout: float) -> dict[str, Any]:
    """Options of the connections to the Sentinels. A Sentinel that does not answer is not retried:
    the next one is asked, and all of them when the connection is retried."""
    return {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": socket_timeout,
        "username": address.sentinel_username or None,
        "password": address.sentinel_password or None,
        **tls_options(address),
    }


def tls_options(address: RedisAddress) -> dict[str, Any]:
    """redis-py's options for TLS; empty without TLS."""
    return {} if address.tls is None else {"ssl": True, **address.tls}


def renew_locks_after_forks(client: redis.Redis) -> None:
    """Give the client's connection pool new locks in each process that is forked from now on.

    The children of prefork workers use a client that was made before the fork. In a child, the
    stock pool empties itself under a lock that it inherits. If a thread of the parent held that
    lock at the fork, the child would wait for that thread forever.
    """
    kept = weakref.ref(client.connection_pool)

    def renew() -> None:
        pool = kept()
        if pool is not None:
            pool._lock, pool._fork_lock = threading.RLock(), threading.RLock()

    os.register_at_fork(after_in_child=renew)


def place(url: str) -> str:
    """The place of an address, without its user and password."""
    return redis_address(url).place


@contextmanager
def redis_errors(client: redis.Redis) -> Iterator[None]:
    """Turn errors of redis-py into Fleet's errors, with the cause chained."""
    try:
        yield
    except redis.RedisError as error:
        found = _fleet_error(error, client)
        if found is None:
            raise
        raise found from error
    except UnicodeEncodeError:
        raise InvalidRequest(
            "a name holds half a surrogate pair, or bytes that are no UTF-8, which a name cannot "
            "hold; correct it"
        ) from None


def _fleet_error(error: redis.RedisError, client: redis.Redis) -> FleetError | None:
    """Fleet's error for one of redis-py; None for an error that the caller made."""
    answer = answer_of(error)
    if answer is not None:
        return translated(answer, _where(client))
    if isinstance(error, MasterNotFoundError):
        return _no_master(client)
    if isinstance(error, InvalidResponse):
        return Unavailable(
            f"the server at {_where(client)} does not speak Redis's protocol; correct "
            "FLEET_BROKER_URL"
        )
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return _not_reached(error, _where(client))
    return None


def _not_reached(error: Exception, where: str) -> FleetError:
    refused = tls_error(error)
    if refused:
        return InvalidConfig(f"TLS with Redis at {where} failed ({refused}); {CHECK}")
    return Unavailable(
        f"Redis at {where} does not answer; start it with `fleet up`, or correct FLEET_BROKER_URL"
    )


def _no_master(client: redis.Redis) -> FleetError:
    """The reason why no master was found. redis-py does not keep the Sentinels' errors, so they are
    asked again."""
    where, pool = _where(client), client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    for sentinel in pool.sentinel_manager.sentinels:
        try:
            sentinel.ping()
        except redis.RedisError as error:
            answer = answer_of(error)
            refused = translated(answer, where) if answer is not None else None
            if isinstance(refused, NotAllowed):
                return refused
            if tls_error(error):
                return _not_reached(error, where)
        else:
            break
    return Unavailable(
        f"no Sentinel names a {where} that is up; wait for the failover, start the servers that "
        "are down, or correct FLEET_BROKER_URL"
    )


def _where(client: redis.Redis) -> str:
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        asked = (each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels)
        hosts = ",".join(sorted(f"{each['host']}:{each['port']}" for each in asked))
        return f"master {pool.service_name} of the Sentinels {hosts}"
    arguments = pool.connection_kwargs
    return f"{arguments.get('host', 'localhost')}:{arguments.get('port', 6379)}"
