"""A side's broker that fails over: a master, its replica, and the Sentinels."""

from __future__ import annotations

from pathlib import Path

import redis
from redis.sentinel import Sentinel
from replicated_valkey import MASTER, PASSWORD, SENTINEL_PASSWORD, Replicated, Sentinels

from fleet.local.ports import LOOPBACK


class SentinelBroker:
    """As `sides.Broker`, as far as a failover needs it. `client` finds the master by itself."""

    def __init__(self, folder: Path) -> None:
        self.servers = Replicated(folder)
        self.sentinels = Sentinels(folder / "sentinels", self.servers)
        self.url = self.sentinels.url
        places = [(LOOPBACK, port) for port in self.sentinels.ports]
        asked = Sentinel(places, sentinel_kwargs={"password": SENTINEL_PASSWORD})
        self.client: redis.Redis = asked.master_for(MASTER, password=PASSWORD)

    def kill(self) -> None:
        self.servers.kill_master()

    def stop(self) -> None:
        self.client.close()
        self.sentinels.stop()
        self.servers.stop()
