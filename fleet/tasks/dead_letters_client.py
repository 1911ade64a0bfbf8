"""The part of `Fleet` that deals with dead letters: tasks that failed for good."""

from __future__ import annotations

from fleet.tasks.connection import Connection
from fleet.tasks.dead_letters import (
    drop_dead,
    find_dead,
    find_malformed,
    refusal_to_retry,
    retry_dead,
)
from fleet.tasks.rules.dead_letters import DeadFilter
from fleet.tasks.set_aside_store import PREFIX, SetAsideMessage
from fleet.tasks.store import TaskRecord
from fleet.tasks.submission.submit import Submitted, Submitter


class DeadLetterAdministration:
    """A task is a dead letter from its failure until somebody retries or drops it, for as long as
    `limits.dead_ttl_seconds` and among the newest `limits.dead_letters`."""

    _connection: Connection
    _submitter: Submitter

    def dead(
        self,
        *,
        tenant: str = "",
        request_type: str = "",
        error: str = "",
        older_than: float | None = None,
        newer_than: float | None = None,
    ) -> list[TaskRecord]:
        """The dead letters, newest first, without their steps and history: `fleet.task(id)`
        has those.

        `error` is the class of the error, such as `TaskTimedOut`; ages are in seconds since the
        failure. `record.dead` says why: one of `fleet.tasks.rules.retries.DEATHS`.
        """
        wanted = DeadFilter(tenant, request_type, error, older_than, newer_than)
        return find_dead(self._connection, wanted)

    def malformed(
        self, *, older_than: float | None = None, newer_than: float | None = None
    ) -> list[SetAsideMessage]:
        """Messages that no worker could take and that were set aside, newest first. They are of no
        task, and cannot be retried. Ages are in seconds."""
        return find_malformed(self._connection, DeadFilter("", "", "", older_than, newer_than))

    def drop_dead(self, task_id: str) -> None:
        """Give a dead letter up, or a malformed message. Raises `TaskNotFound` for what is none."""
        if task_id.startswith(PREFIX):
            self._connection.tasks.set_aside.drop(task_id)
        else:
            drop_dead(self._connection, task_id)

    def _retry_dead(self, task_id: str) -> Submitted:
        if task_id.startswith(PREFIX):
            raise refusal_to_retry(self._connection, task_id)
        return retry_dead(self._connection, self._submitter, task_id)
