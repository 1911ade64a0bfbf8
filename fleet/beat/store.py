"""The lease of the active beat process, and the last start of each job."""

from __future__ import annotations

from typing import NamedTuple

from redis import Redis

from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.lease import Lease
from fleet.redis.scripts import Scripts, text


class JobRun(NamedTuple):
    """The last run of a job: its name, and how long ago it started by Redis's clock."""

    name: str
    seconds_ago: float


class BeatLease:
    """The lease that one of several beat processes holds, by Redis's clock. Only the holder may
    renew or release it."""

    def __init__(self, client: Redis, keys: Keys, owner: str, seconds: int) -> None:
        self.client = client
        self.key = keys.beat
        self.runs_key = keys.beat_runs
        self.scripts = Scripts(client)
        self.owner = owner
        self.seconds = seconds

    def hold(self) -> bool:
        """Take or renew the lease. Returns whether this owner holds it."""
        return self._lease().hold()

    def runs(self) -> dict[str, JobRun]:
        """The last run of each job, started by any process. Two calls."""
        with redis_errors(self.client):
            seconds, micros = self.client.time()
            found = self.client.hgetall(self.runs_key)
        now = seconds + micros / 1e6
        return {text(job): JobRun(text(at), now - int(at) / 1000) for job, at in found.items()}

    def begin(self, job: str, last: str) -> str:
        """Start a job. `last` is the last run that this owner knows, '' for none.

        Returns the name of the new run, or '' if another process has started the job or holds the
        lease.
        """
        keys, arguments = [self.key, self.runs_key], [self.owner, job, last]
        with redis_errors(self.client):
            return text(self.scripts.begin_job(keys=keys, args=arguments))

    def release(self) -> None:
        """Release the lease, if this owner holds it."""
        self._lease().release()

    def _lease(self) -> Lease:
        return Lease(self.client, self.scripts, self.key, self.owner, self.seconds)
