"""Who is beat now: one key that only its holder may renew or drop."""

from __future__ import annotations

from redis import Redis

from fleet.state.client import redis_errors
from fleet.state.keys import Keys
from fleet.state.scripts import Scripts


class BeatLease:
    """A lease that one of several beats holds; judged by Redis's clock."""

    def __init__(self, client: Redis, keys: Keys, owner: str, seconds: int) -> None:
        self.client = client
        self.key = keys.beat
        self.scripts = Scripts(client)
        self.owner = owner
        self.seconds = seconds

    def hold(self) -> bool:
        """Take or renew the lease. Whether this owner has it now."""
        with redis_errors(self.client):
            return bool(self.scripts.hold(keys=[self.key], args=[self.owner, self.seconds]))

    def release(self) -> None:
        """Give the lease up, where this owner has it."""
        with redis_errors(self.client):
            self.scripts.hold(keys=[self.key], args=[self.owner, 0])
