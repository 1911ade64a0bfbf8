"""Dead letters: found, retried as new tasks, dropped, and kept within their bounds.

A dead letter is retried as a task of its own: what has ended stays as it is, its cost too. The new
one is submitted as any other, so its money is held or it is refused, and then the letter stays. Its
id follows from that of the old one: however many retry it at once, or again after a crash between
the submission and its note, there is one new task. It goes on from what the old one has saved.
"""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

from fleet.errors import FleetError, InvalidRequest, MalformedMessage, TaskNotFound
from fleet.tasks.connection import Connection
from fleet.tasks.dead_letters_store import Letter
from fleet.tasks.kept_messages import payload_of, readdressed
from fleet.tasks.record import TaskRecord
from fleet.tasks.rules.dead_letters import DeadFilter
from fleet.tasks.set_aside_store import SetAsideMessage
from fleet.tasks.submission.checks import Submission
from fleet.tasks.submission.submit import Submitted, Submitter

NANODOLLARS = 1_000_000_000
MALFORMED = MalformedMessage.__name__


def find_dead(fleet: Connection, wanted: DeadFilter) -> list[TaskRecord]:
    """The dead letters that are meant, newest first, without their steps and history."""
    now = fleet.tasks.dead_letters.now()
    found = {record.id: record for record in fleet.tasks.dead_letters.newest()}
    return [each for each in found.values() if _fits(each, wanted, now)]


def find_malformed(fleet: Connection, wanted: DeadFilter) -> list[SetAsideMessage]:
    """The malformed messages that are meant, newest first. They are of no tenant and no type."""
    now = fleet.tasks.dead_letters.now()
    found = fleet.tasks.set_aside.newest()
    return [each for each in found if wanted.fits("", "", MALFORMED, now - each.at)]


def refusal_to_retry(fleet: Connection, message_id: str) -> FleetError:
    """Why a message that was set aside cannot be retried."""
    for each in fleet.tasks.set_aside.newest():
        if each.id == message_id:
            return InvalidRequest(
                f"{message_id} cannot be retried: the message is malformed ({each.reason}). Send "
                f"the task anew, and give this up with `fleet dead drop {message_id}`"
            )
    return TaskNotFound(
        f"{message_id} is no dead letter; `fleet dead list` has those there are"
    )


def retry_dead(fleet: Connection, submitter: Submitter, task_id: str) -> Submitted:
    """Submit a dead letter as a new task. Raises what a submission raises, `TaskNotFound` for what
    is no dead letter, and `InvalidRequest` where no message was kept; the letter stays then."""
    letter = fleet.tasks.dead_letters.letter(task_id)
    if not letter.message:
        raise InvalidRequest(
            f"task {task_id} cannot be retried: its publisher wrote no record that keeps its "
            "message; submit the request anew, and `fleet dead drop` this one"
        )
    new_id = retry_id(task_id)
    checked = submitter.checks.check(_submission(letter))
    fleet.tasks.model_calls.carry(task_id, new_id)
    submitted = submitter.place(new_id, readdressed(letter.message, new_id), checked)
    fleet.tasks.dead_letters.end(task_id, _ttl(fleet), retried_as=new_id)
    return submitted


def drop_dead(fleet: Connection, task_id: str) -> None:
    """Forget a dead letter: it can be shown for as long as other ended tasks, and not be retried.

    Raises `TaskNotFound` for what is none.
    """
    if not fleet.tasks.dead_letters.end(task_id, _ttl(fleet)):
        raise TaskNotFound(f"{task_id} is no dead letter; `fleet dead list` has those there are")


def retry_id(task_id: str) -> str:
    """The id of the task that a dead letter is retried as."""
    return str(uuid5(NAMESPACE_URL, f"fleet:retry:{task_id}"))


def bound_dead(fleet: Connection) -> list[str]:
    """Drop the oldest dead letters that are too many; their ids."""
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
    )


def _fits(record: TaskRecord, wanted: DeadFilter, now: float) -> bool:
    kind = (record.error or {}).get("type", "")
    age = now - (record.ended or now)
    return wanted.fits(record.tenant, record.request_type, kind, age)
