"""The stores of this room."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.tasks.dead_letters_store import DeadLetters
from fleet.tasks.model_calls_store import ModelCallStore
from fleet.tasks.revocations_store import Revocations
from fleet.tasks.set_aside_store import SetAside
from fleet.tasks.store import Tasks
from fleet.tasks.submission.store import Submissions
from fleet.tasks.waiting.on_hold_store import OnHold
from fleet.tasks.waiting.queue_index_store import QueueIndex
from fleet.tasks.waiting.retries_store import RetryStore
from fleet.tasks.waiting.schedule_store import Schedule


@dataclass(frozen=True, slots=True)
class TaskStores:
    """Task records, and the places of tasks: queued, delayed, on hold, running, dead letter."""

    records: Tasks
    submissions: Submissions
    model_calls: ModelCallStore
    on_hold: OnHold
    schedule: Schedule
    queue_index: QueueIndex
    retries: RetryStore
    revocations: Revocations
    dead_letters: DeadLetters
    set_aside: SetAside
