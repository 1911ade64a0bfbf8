"""The base of all stores: one client, the key names, the scripts."""

from __future__ import annotations

from redis import Redis

from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts


class Store:
    """The base class of each room's store."""

    def __init__(self, client: Redis, keys: Keys, scripts: Scripts) -> None:
        self.client = client
        self.keys = keys
        self.scripts = scripts

    def now_us(self) -> int:
        """Microseconds since 1970 by Redis's clock. One call."""
        with redis_errors(self.client):
            seconds, micros = self.client.time()
        return int(seconds) * 1_000_000 + int(micros)
