"""Dead letters: find them, retry them as new tasks, drop them, and bound their number.

A dead letter is retried as a new task; the old record stays unchanged, its cost included. The new
task is submitted like any other: if it is refused, the dead letter stays. The new id is derived
from the old one, so concurrent retries, and a retry after a crash, create one new task. The new
task resumes from the checkpoints of the old one.
"""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

from fleet.access.access import Guard
from fleet.access.rules import Need
from fleet.errors import FleetError, InvalidRequest, MalformedMessage, TaskNotFound
from fleet.tasks.connection import Connection
from fleet.tasks.dead_letters_store import Letter
from fleet.tasks.kept_messages import payload_of
from fleet.tasks.record import TaskRecord
from fleet.tasks.rules import DeadFilter
from fleet.tasks.set_aside_store import PREFIX, SetAsideMessage
from fleet.tasks.submission.batch import Submitted
from fleet.tasks.submission.checks import Submission
from fleet.tasks.submission.submit import Submitter

NANODOLLARS = 1_000_000_000
MALFORMED = MalformedMessage.__name__


def find_dead(fleet: Connection, wanted: DeadFilter) -> list[TaskRecord]:
    """The selected dead letters, newest first, without their model calls and history."""
    now = fleet.tasks.dead_letters.now()
    found = {record.id: record for record in fleet.tasks.dead_letters.newest()}
    return [each for each in found.values() if _fits(each, wanted, now)]


def check_own(fleet: Connection, guard: Guard, task_id: str) -> None:
    """Raise `TaskNotFound` for another tenant's task, in the words for a task that is unknown."""
    if own := guard.tenant:
        fleet.tasks.records.check_tenant(task_id, own)


def find_malformed(fleet: Connection, wanted: DeadFilter) -> list[SetAsideMessage]:
    """The selected malformed messages, newest first. They have no tenant and no request type."""
    now = fleet.tasks.dead_letters.now()
    found = fleet.tasks.set_aside.newest()
    return [each for each in found if wanted.fits("", "", MALFORMED, now - each.at)]


def refusal_to_retry(fleet: Connection, message_id: str) -> FleetError:
    """The error for an attempt to retry a message that was set aside."""
    for each in fleet.tasks.set_aside.newest():
        if each.id == message_id:
            return InvalidRequest(
                f"{message_id} cannot be retried: the message is malformed ({each.reason}). Submit "
                f"the task again, and drop this message: `fleet dead drop {message_id}`"
            )
    return TaskNotFound(f"{message_id} is not a dead letter; `fleet dead list` shows them")


def retry_dead(fleet: Connection, submitter: Submitter, task_id: str) -> Submitted:
    """Submit a dead letter as a new task.

    Raises the errors of a submission, `TaskNotFound` if the task is not a dead letter, and
    `InvalidRequest` if its message was not kept. After an error the dead letter stays.
    """
    letter = fleet.tasks.dead_letters.letter(task_id)
    if not letter.message:
        raise InvalidRequest(
            f"task {task_id} cannot be retried: its publisher stored no message; submit the "
            f"request again, and drop this one: `fleet dead drop {task_id}`"
        )
    new_id = retry_id(task_id)
    checked = submitter.checks.check(_submission(letter))
    fleet.tasks.model_calls.carry(task_id, new_id)
    submitted = submitter.place(new_id, submitter.encode.readdress(letter.message, new_id), checked)
    fleet.tasks.dead_letters.end(task_id, _ttl(fleet), retried_as=new_id)
    return submitted


def drop_dead(fleet: Connection, task_id: str) -> None:
    """Drop a dead letter. Its record is kept as long as that of any ended task, without its
    message.

    Raises `TaskNotFound` if the task is not a dead letter.
    """
    if not fleet.tasks.dead_letters.end(task_id, _ttl(fleet)):
        raise TaskNotFound(f"{task_id} is not a dead letter; `fleet dead list` shows them")


def retry_id(task_id: str) -> str:
    """The id of the task that retries a dead letter."""
    return str(uuid5(NAMESPACE_URL, f"fleet:retry:{task_id}"))


def bound_dead(fleet: Connection) -> list[str]:
    """Drop the oldest dead letters beyond `limits.dead_letters`; their ids."""
    most = fleet.settings.config.limits.dead_letters
    too_many = fleet.tasks.dead_letters.too_many(most)
    return [each for each in too_many if fleet.tasks.dead_letters.end(each, _ttl(fleet))]


def _ttl(fleet: Connection) -> int:
    return fleet.settings.config.limits.result_ttl_seconds


def _submission(letter: Letter) -> Submission:
    record = letter.record
    limit = record.limit_nanodollars
    quality, speed = record.priorities.asked if record.priorities else (None, None)
    return Submission(
        record.request_type,
        payload_of(letter.message),
        tenant=record.tenant,
        complexity=record.complexity,
        pool=record.pinned or None,
        model=record.asked_model or None,
        max_cost_usd=None if limit is None else limit / NANODOLLARS,
        quality=quality,
        speed=speed,
        tools=record.grants.tools,
        approve=record.grants.approved,
        approved_by=record.grants.by,
        untrusted=record.grants.untrusted,
    )


def _fits(record: TaskRecord, wanted: DeadFilter, now: float) -> bool:
    kind = (record.error or {}).get("type", "")
    age = now - (record.ended or now)
    return wanted.fits(record.tenant, record.request_type, kind, age)


class DeadLetterAdministration:
    """The methods of `Fleet` for dead letters.

    A failed task is a dead letter until a user retries or drops it, for at most
    `limits.dead_ttl_seconds`, and among the newest `limits.dead_letters`.
    """

    _connection: Connection
    _guard: Guard
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
        """The dead letters, newest first, without their model calls and history, which
        `fleet.task(id)` has.

        `error` is the class of the error, such as `TaskTimedOut`; ages are in seconds since the
        failure. `record.dead` is the reason: one of `fleet.tasks.rules.DEATHS`.
        """
        own = self._guard.narrowed(tenant) or ""
        wanted = DeadFilter(own, request_type, error, older_than, newer_than)
        return find_dead(self._connection, wanted)

    def malformed(
        self, *, older_than: float | None = None, newer_than: float | None = None
    ) -> list[SetAsideMessage]:
        """The malformed messages that workers have set aside, newest first. They belong to no task
        and cannot be retried. Ages are in seconds. A handle of one tenant sees none: nobody knows
        whose they are."""
        if self._guard.tenant:
            return []
        return find_malformed(self._connection, DeadFilter("", "", "", older_than, newer_than))

    def drop_dead(self, task_id: str) -> None:
        """Drop a dead letter or a malformed message. Raises `TaskNotFound` if the id is neither.

        A malformed message belongs to no tenant: the role operate drops it.
        """
        if task_id.startswith(PREFIX):
            self._guard.check(Need("operate", whole_fleet=True), "drop_dead of malformed messages")
            self._connection.tasks.set_aside.drop(task_id)
        else:
            check_own(self._connection, self._guard, task_id)
            drop_dead(self._connection, task_id)

    def _retry_dead(self, task_id: str) -> Submitted:
        if task_id.startswith(PREFIX):
            self._guard.check(Need("read", whole_fleet=True), "retry_dead of malformed messages")
            raise refusal_to_retry(self._connection, task_id)
        check_own(self._connection, self._guard, task_id)
        return retry_dead(self._connection, self._submitter, task_id)
