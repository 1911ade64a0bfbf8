"""A lease in Redis that one of several owners holds, by Redis's clock."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from fleet.redis.client import redis_errors
from fleet.redis.scripts import Scripts


@dataclass(frozen=True, slots=True)
class Lease:
    """One owner's side of a lease of so many seconds. Only the holder may renew or release it."""

    client: Redis
    scripts: Scripts
    key: str
    owner: str
    seconds: int

    def hold(self) -> bool:
        """Take or renew the lease. Returns whether this owner holds it."""
        return self._take(self.seconds)

    def release(self) -> None:
        """Release the lease, if this owner holds it."""
        self._take(0)

    def _take(self, seconds: int) -> bool:
        with redis_errors(self.client):
            return bool(self.scripts.take_lease(keys=[self.key], args=[self.owner, seconds]))
