"""Who is beat now, and when it began each job: one key that only its holder may renew or drop."""

from __future__ import annotations

from typing import NamedTuple

from redis import Redis

from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts, text


class Run(NamedTuple):
    """The last run of a job: a name for it, and how long ago it began by Redis's clock."""

    name: str
    seconds_ago: float


class BeatLease:
    """A lease that one of several beats holds; judged by Redis's clock."""

    def __init__(self, client: Redis, keys: Keys, owner: str, seconds: int) -> None:
        self.client = client
        self.key = keys.beat
        self.runs_key = keys.beat_runs
        self.scripts = Scripts(client)
        self.owner = owner
        self.seconds = seconds

    def hold(self) -> bool:
        """Take or renew the lease. Whether this owner has it now."""
        with redis_errors(self.client):
            return self._take(self.seconds)

    def runs(self) -> dict[str, Run]:
        """The last run of each job that any beat has begun. Two calls."""
        with redis_errors(self.client):
            seconds, micros = self.client.time()
            found = self.client.hgetall(self.runs_key)
        now = seconds + micros / 1e6
        return {text(job): Run(text(at), now - int(at) / 1000) for job, at in found.items()}

    def begin(self, job: str, last: str) -> str:
        """Begin a job whose last run, as far as this owner knows, is `last`, '' for none. The new
        run's name, or '' where another beat has begun it or has the lease."""
        keys, arguments = [self.key, self.runs_key], [self.owner, job, last]
        with redis_errors(self.client):
            return text(self.scripts.begin_job(keys=keys, args=arguments))

    def release(self) -> None:
        """Give the lease up, where this owner has it."""
        with redis_errors(self.client):
            self._take(0)

    def _take(self, seconds: int) -> bool:
        return bool(self.scripts.take_lease(keys=[self.key], args=[self.owner, seconds]))
