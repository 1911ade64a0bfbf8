"""The submit path: check, plan, and one atomic script in Redis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol
from uuid import uuid4

from fleet.budgets.cached_policy import MAX_CHANGES, keeps_changing
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import (
    InEmergency,
    InvalidRequest,
    NotReplicated,
    RetryLater,
)
from fleet.models.rules.choice import ModelDecision
from fleet.routing.pools_store import parse_counts
from fleet.routing.rules.routing import Ranking, RouteDecision, decide
from fleet.tasks.submission.batch import BatchOutcome, Submitted
from fleet.tasks.submission.checks import Checked, RequestChecks, Submission
from fleet.tasks.submission.planning import Plan, Planner
from fleet.tasks.submission.refusals import (
    REFUSALS,
    Refused,
    in_emergency,
    no_agent,
    over_error,
    too_busy,
)
from fleet.tasks.submission.store import Entry, Placed, Submissions, SubmitAnswer, Unplaced

MAX_WHOLE = 10_000
"""Tasks that one script may submit as a whole: some 0.1 ms each, which block Redis."""


class MessageEncoder(Protocol):
    """Writes the messages of tasks for their queue."""

    def __call__(self, task_id: str, checked: Checked) -> str:
        """The message of a checked submission."""

    def readdress(self, message: str, task_id: str) -> str:
        """The message of a kept task for another task. Raises `InvalidRequest`."""


class DryRun(NamedTuple):
    """The decision for a task that was not submitted. `chosen` and `reason` are as `chosen` and
    `because` of `TaskRecord`; `refusal` is the limit without room for the task."""

    route: RouteDecision
    models: ModelDecision
    chosen: str
    reason: str
    refusal: Refusal | None


class Ready(NamedTuple):
    """A checked submission with its id and message, ready for planning."""

    task_id: str
    message: str
    checked: Checked


class Submitter:
    """Submits tasks. No call opens a connection, reads a file or imports a module."""

    def __init__(
        self,
        checks: RequestChecks,
        planner: Planner,
        submissions: Submissions,
        encode: MessageEncoder,
    ) -> None:
        self.checks = checks
        self.planner = planner
        self.submissions = submissions
        self.encode = encode

    def submit(self, asked: Submission) -> Submitted:
        """Submit one task.

        Raises `InvalidRequest`, `OverBudget`, `OverLimit`, `NoAgentAvailable`, `InEmergency`,
        `TooBusy` or `Unavailable` if nothing was written; `NotReplicated` after a write.
        """
        checked = self.checks.check(asked)
        task_id = str(uuid4())
        return self.place(task_id, self.encode(task_id, checked), checked)

    def dry_run(self, asked: Submission) -> DryRun:
        """Decide without submitting: the same script decides, and writes nothing."""
        self.planner.follow_policy()
        self.planner.refresh()
        checked = self.checks.check(asked)
        self.check_emergency(checked)
        plan = self.planner.plan(checked)
        placed = self.submissions.place_none(plan.route, checked.tenant)
        if placed.status == "busy":
            raise too_busy(plan, placed)
        fits = placed.status not in ("over", "parked")
        routed = route_decision(plan.ranking, placed.loads, placed.detail if fits else "")
        refusal = None if fits else Refusal.parse(placed.detail)
        return DryRun(routed, plan.models, placed.chosen, placed.reason, refusal)

    def submit_many(self, asked: Sequence[Submission]) -> list[Submitted]:
        """Submit many tasks in one round trip.

        All tasks are checked before the first is written. If some are refused, the others are
        written, and the first refusal is raised; its notes name the written ids. Raises
        `PartlySubmitted` if Redis accepted only some. A note of either error names the tasks on too
        few replicas; if all tasks were written, `NotReplicated` does.
        """
        if not asked:
            return []
        waiting = [self._ready(each) for each in asked]
        outcome = BatchOutcome()
        try:
            for _ in range(MAX_CHANGES):
                waiting = self._place_many(waiting, outcome)
                if not waiting:
                    break
        except RetryLater as error:
            outcome.failure = error
        if waiting and outcome.failure is None:
            outcome.failure = keeps_changing("a task was submitted")
        problem = outcome.error(self._not_replicated(outcome.done))
        if problem is not None:
            raise problem
        return outcome.done

    def _not_replicated(self, done: Sequence[Submitted]) -> NotReplicated | None:
        least, wait_ms = self.submissions.replicas
        few = [each for each in done if each.replicas is not None and each.replicas < least]
        if not few:
            return None
        ids = [each.task_id for each in few]
        return NotReplicated(
            f"{len(few)} submitted task{' is' if len(few) == 1 else 's are'} on "
            f"{few[0].replicas} of {least} replicas after {wait_ms} ms: they run normally, but "
            "would be lost together with the master. Check the replicas, or lower "
            f"redis.min_replicas. Submitted: {', '.join(ids)}",
            task_ids=ids,
        )

    def place(self, task_id: str, message: str, checked: Checked) -> Submitted:
        """Submit a message that Fleet or Celery's own producer has encoded. Raises as `submit`."""
        for _ in range(MAX_CHANGES):
            self.check_emergency(checked)
            plan = self.planner.plan(checked)
            entry = self._entry(task_id, message, checked, plan)
            answer = self.submissions.place(entry, self.planner.known_models.is_due)
            self.planner.learn_models(answer)
            if answer.placed:
                (placed,) = answer.placed
                if placed.status == "pool":
                    self.planner.took(plan, placed.detail)
                submitted = self._settle(entry, plan, placed, answer.replicas)
                few = self._not_replicated([submitted])
                if few:
                    raise few
                return submitted
            self.planner.follow_policy()
        raise keeps_changing("a task was submitted")

    def submit_whole(self, ready: Sequence[Ready]) -> list[Submitted]:
        """Submit all tasks or none, in one atomic script.

        Raises the errors of `submit` for the first refused task; nothing was written then. Raises
        `PartlySubmitted` if the answer was lost: all tasks may be written, or none. Raises
        `NotReplicated` if all tasks were written, on too few replicas.
        """
        if len(ready) > MAX_WHOLE:
            raise InvalidRequest(
                f"a group has {len(ready):,} agents' tasks; a group may have up to {MAX_WHOLE:,}. "
                "Send several groups, or use Fleet.submit_outcome. Nothing was submitted"
            )
        for _ in range(MAX_CHANGES):
            for each in ready:
                self.check_emergency(each.checked)
            plans = [self._plan_in_turn(each.checked) for each in ready]
            entries = [self._entry(*each, plan) for each, plan in zip(ready, plans, strict=True)]
            ask_models = self.planner.known_models.is_due
            ((_, answer),) = self.submissions.place_many(entries, ask_models, whole=True)
            if isinstance(answer, Unplaced):
                unsure = [each.task_id for each in ready] if answer.may_be_written else []
                problem = BatchOutcome(unsure=unsure, failure=answer.error).error(None)
                assert problem is not None
                raise problem
            self.planner.learn_models(answer)
            if answer.placed:
                return self._settle_whole(entries, plans, answer)
            self.planner.follow_policy()
        raise keeps_changing("a task was submitted")

    def _settle_whole(
        self, entries: Sequence[Entry], plans: Sequence[Plan], answer: SubmitAnswer
    ) -> list[Submitted]:
        try:
            done = [
                self._settle(entry, plan, placed, answer.replicas)
                for entry, plan, placed in zip(entries, plans, answer.placed, strict=False)
            ]
        except REFUSALS as error:
            error.add_note(f"none of these {len(entries)} tasks was submitted")
            raise
        few = self._not_replicated(done)
        if few:
            raise few
        return done

    def _ready(self, asked: Submission) -> Ready:
        checked = self.checks.check(asked)
        task_id = str(uuid4())
        return Ready(task_id, self.encode(task_id, checked), checked)

    def _place_many(self, ready: Sequence[Ready], outcome: BatchOutcome) -> list[Ready]:
        """Submit in one round trip; the tasks to plan again, since the policy has changed."""
        prepared = {
            each.task_id: (each, self._plan_in_turn(each.checked))
            for each in self._admitted(ready, outcome.refused)
        }
        entries = [self._entry(*each, plan) for each, plan in prepared.values()]
        again: list[Ready] = []
        ask_models = self.planner.known_models.is_due
        for group, answer in self.submissions.place_many(entries, ask_models):
            if isinstance(answer, Unplaced):
                outcome.failure = answer.error
                outcome.unsure += [each.task_id for each in group if answer.may_be_written]
                continue
            self.planner.learn_models(answer)
            if not answer.placed:
                again += [prepared[entry.task_id][0] for entry in group]
            for entry, placed in zip(group, answer.placed, strict=False):
                try:
                    plan = prepared[entry.task_id][1]
                    outcome.done.append(self._settle(entry, plan, placed, answer.replicas))
                except REFUSALS as error:
                    outcome.refused.append(error)
        if again:
            self.planner.follow_policy()
        return again

    def check_emergency(self, checked: Checked) -> None:
        """Raise `InEmergency` if an emergency excludes the submission."""
        if self._passes(checked):
            return
        # The emergency may have ended since: read the policy before a refusal.
        self.planner.follow_policy()
        emergency = self.planner.controls.emergency
        if emergency is not None and not self._passes(checked):
            raise in_emergency(emergency)

    def _passes(self, checked: Checked) -> bool:
        emergency = self.planner.controls.emergency
        return emergency is None or emergency.admits(checked.tenant, checked.priority)

    def _admitted(self, ready: Sequence[Ready], refused: list[Refused]) -> Iterator[Ready]:
        for each in ready:
            try:
                self.check_emergency(each.checked)
            except InEmergency as error:
                refused.append(error)
            else:
                yield each

    def _plan_in_turn(self, checked: Checked) -> Plan:
        """A plan for one of many in a round trip. The turn passes on as if the best-ranked pool had
        room, since the answer comes too late for the next plan."""
        plan = self.planner.plan(checked)
        if plan.ranking.rules:
            self.planner.took(plan, plan.ranking.rules[0].pool)
        return plan

    def _entry(self, task_id: str, message: str, checked: Checked, plan: Plan) -> Entry:
        key = checked.idempotency_key
        return Entry(
            task_id=task_id,
            message=message,
            route=plan.route,
            plan=plan.stored,
            tenant=checked.tenant,
            idempotency_key=key,
            fingerprint=_fingerprint(checked) if key else "",
            not_before=checked.not_before,
        )

    def _settle(
        self, entry: Entry, plan: Plan, placed: Placed, replicas: int | None
    ) -> Submitted:
        if placed.loads:
            self.planner.learn(plan, placed.loads)
        if placed.status == "duplicate":
            return Submitted(placed.detail, plan, placed, replicas)
        if placed.status == "conflict":
            raise InvalidRequest(
                f"idempotency key {entry.idempotency_key!r} was used for another request "
                f"(task {placed.detail}); use a new key for a new request"
            )
        if placed.status == "no_agent":
            raise no_agent(plan)
        if placed.status == "over":
            raise over_error(Refusal.parse(placed.detail))
        if placed.status == "busy":
            raise too_busy(plan, placed)
        return Submitted(entry.task_id, plan, placed, replicas)


def route_decision(ranking: Ranking, loads: str, routed: str) -> RouteDecision:
    """The routing decision with all its numbers, from the stored form."""
    names = (rule.pool for rule in ranking.rules)
    counts = dict(zip(names, parse_counts(loads), strict=True))
    return decide(ranking, counts, chosen=routed or None)


def _fingerprint(checked: Checked) -> str:
    content = f"{checked.request_type}\0{checked.asked_complexity}\0{checked.payload}"
    if checked.quality is not None or checked.speed is not None:
        content += f"\0{checked.quality}\0{checked.speed}"
    return blake2b(content.encode(), digest_size=16).hexdigest()
