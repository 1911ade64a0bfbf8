"""The outcome of a submission, of one task or of many."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet.errors import FleetError, NotReplicated, PartlySubmitted
from fleet.tasks.submission.planning import Plan
from fleet.tasks.submission.refusals import Refused
from fleet.tasks.submission.store import Placed


@dataclass(frozen=True, slots=True)
class Submitted:
    """A written task. For a repeated idempotency key `plan` is not the task's own plan. `replicas`
    is the number of replicas that have the task, None without waiting for replicas."""

    task_id: str
    plan: Plan
    placed: Placed
    replicas: int | None = None

    @property
    def is_new(self) -> bool:
        return self.placed.status in ("pool", "overflow", "parked", "delayed")


@dataclass(slots=True)
class BatchOutcome:
    """The outcome of many submissions so far. `unsure` are the ids whose answer was lost; `failure`
    is the reason why some tasks were not, or may not be, written."""

    done: list[Submitted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    failure: FleetError | None = None

    def error(self, few: NotReplicated | None) -> FleetError | None:
        """The error to raise, None if all went well. `few` names the tasks on too few replicas."""
        problem = self._problem()
        if problem is None:
            return few
        if few is not None:
            problem.add_note(str(few))
        return problem

    def _problem(self) -> FleetError | None:
        """The error of tasks that were not written; it names the written ones."""
        if self.failure is not None:
            return self._partly(self.failure) if self.done or self.unsure else self.failure
        if not self.refused:
            return None
        for each in self.done:
            self.refused[0].add_note(f"submitted nevertheless: {each.task_id}")
        return self.refused[0]

    def _partly(self, failure: FleetError) -> PartlySubmitted:
        error = PartlySubmitted(
            f"not all of these tasks are submitted: {len(self.done)} are, {len(self.unsure)} may "
            "be, the rest is not. This error's `submitted` and `unsure` have the ids. Repeating "
            f"the call duplicates tasks without an idempotency key. The cause: {failure}",
            submitted=[each.task_id for each in self.done],
            unsure=self.unsure,
        )
        error.__cause__ = failure
        if self.refused:
            error.add_note(f"refused: {len(self.refused)}, of which the first: {self.refused[0]}")
        return error
