"""The runs of two versions of the agents, for `fleet deploy watch`.

A run belongs to the version of the agent that ended it. An agent registers with its version, and is
forgotten after it has left, so the watch notes which agents it has seen.
"""

from __future__ import annotations

from fleet.errors import InvalidRequest
from fleet.operations.rules.rollout import TaskRun
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.tasks.connection import Connection
from fleet.tasks.record import TaskRecord, parse_record

MAX_TASKS = 5000
"""Tasks whose records one watch reads: the newest."""
FIELDS = ("state", "plan", "agent", "started", "ended", "cost_nanodollars")
ENDS = ("succeeded", "unverified", "failed")
"""States that count. A cancellation says nothing about a version."""


class VersionWatch:
    """Notes the agents of a version, and reads the runs that have ended."""

    def __init__(self, connection: Connection, version: str) -> None:
        self._connection = connection
        self._version = version
        #: The ids of the version's agents that were seen.
        self.agents: set[str] = set()

    def note_agents(self) -> None:
        """Note the agents of the version that are known now."""
        agents = self._connection.routing.agents.agents()
        self.agents.update(each.id for each in agents if each.version == self._version)

    def runs(self, since: float) -> tuple[list[TaskRun], list[TaskRun]]:
        """The runs of other versions, and those of this one, that ended after a time, in seconds
        since 1970. Three calls."""
        old: list[TaskRun] = []
        new: list[TaskRun] = []
        for record in self._records():
            if record.ended is None or record.ended < since or record.state not in ENDS:
                continue
            run = TaskRun(
                record.request_type,
                record.state == "succeeded",
                record.run_seconds or 0.0,
                record.cost_nanodollars,
            )
            (new if record.agent in self.agents else old).append(run)
        return old, new

    def _records(self) -> list[TaskRecord]:
        client, keys = self._connection.client, self._connection.keys
        with redis_errors(client):
            ids = [text(each) for each in client.zrevrange(keys.tasks, 0, MAX_TASKS - 1)]
            pipeline = client.pipeline(transaction=False)
            for task_id in ids:
                pipeline.hmget(keys.task(task_id), *FIELDS)
            rows = pipeline.execute()
        found = []
        for task_id, row in zip(ids, rows, strict=True):
            fields = {name: value for name, value in zip(FIELDS, row, strict=True) if value}
            if "state" in fields:
                found.append(parse_record(task_id, fields))
        return found


def newest_version(connection: Connection) -> str:
    """The version of the agent that registered last. Raises `InvalidRequest` without a version."""
    agents = [each for each in connection.routing.agents.agents() if each.version]
    if not agents:
        raise InvalidRequest("no live agent has a version; start workers, or name one by --version")
    return max(agents, key=lambda agent: agent.registered).version
