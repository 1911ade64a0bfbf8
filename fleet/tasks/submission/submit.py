"""Submitting: check, plan, and one atomic step in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple
from uuid import uuid4

from fleet.budgets.rules.refusals import Refusal
from fleet.errors import (
    FleetError,
    InEmergency,
    InvalidRequest,
    NoAgentAvailable,
    NotReplicated,
    OverBudget,
    OverLimit,
    PartlySubmitted,
    RetryLater,
    TooBusy,
    Unavailable,
)
from fleet.models.rules.choice import ModelDecision
from fleet.routing.pools_store import parse_counts
from fleet.routing.rules.routing import Ranking, RouteDecision, decide
from fleet.tasks.rules.back_pressure import QUEUE, Full, retry_after
from fleet.tasks.submission.checks import Checked, RequestChecks, Submission
from fleet.tasks.submission.planning import Plan, Planner
from fleet.tasks.submission.reservation import in_emergency, over_error
from fleet.tasks.submission.store import Entry, Placed, Step, Submissions, Unplaced

MAX_PLANNINGS = 5
"""A plan is made again where the policy has changed since; so often within one submission."""

MAX_WHOLE = 10_000
"""Tasks that may be submitted in one step: some 0.1 ms each in which Redis does nothing else."""

Refused = InvalidRequest | NoAgentAvailable | OverBudget | OverLimit | InEmergency | TooBusy
REFUSALS = (InvalidRequest, NoAgentAvailable, OverBudget, OverLimit, InEmergency, TooBusy)
"""What becomes of one task, while others of the same round trip are submitted."""

MessageEncoder = Callable[[str, Checked], str]
"""Makes the queue's message from a task's id and the checked submission."""


@dataclass(slots=True)
class Many:
    """What became of many submissions so far. `unsure` are the ids of those whose answer was lost;
    `failure` is why some were not, or may not be, written."""

    done: list[Submitted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    failure: FleetError | None = None

    def error(self, few: NotReplicated | None) -> FleetError | None:
        """What to raise of all that went wrong, None where nothing did. `few` tells what is written
        and on too few replicas."""
        problem = self._problem()
        if problem is None:
            return few
        if few is not None:
            problem.add_note(str(few))
        return problem

    def _problem(self) -> FleetError | None:
        """Why not all are written, with the ids of what is."""
        if self.failure is not None:
            return self._partly(self.failure) if self.done or self.unsure else self.failure
        if not self.refused:
            return None
        for each in self.done:
            self.refused[0].add_note(f"submitted all the same: {each.task_id}")
        return self.refused[0]

    def _partly(self, failure: FleetError) -> PartlySubmitted:
        error = PartlySubmitted(
            f"not all of these tasks are submitted: {len(self.done)} are, {len(self.unsure)} may "
            "be, the rest is not. This error's `submitted` and `unsure` have the ids. The "
            f"same call again doubles those that have no idempotency key. The cause: {failure}",
            submitted=[each.task_id for each in self.done],
            unsure=self.unsure,
        )
        error.__cause__ = failure
        if self.refused:
            error.add_note(f"refused: {len(self.refused)}, of which the first: {self.refused[0]}")
        return error


@dataclass(frozen=True, slots=True)
class Submitted:
    """A task that is written. For a repeated idempotency key, `plan` is not the task's own.
    `replicas` have it; None where nobody waited for them."""

    task_id: str
    plan: Plan
    placed: Placed
    replicas: int | None = None

    @property
    def is_new(self) -> bool:
        return self.placed.status in ("pool", "overflow", "parked", "delayed")


class DryRun(NamedTuple):
    """What would be decided now. `chosen` and `because` are as in `TaskRecord`; `refusal` is the
    limit that has no room for the task."""

    route: RouteDecision
    models: ModelDecision
    chosen: str
    because: str
    refusal: Refusal | None


class Ready(NamedTuple):
    """A checked submission with its id and its message, to be planned and placed."""

    task_id: str
    message: str
    checked: Checked


class Submitter:
    """The submit path: nothing on it opens a connection, reads a file or imports."""

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
        `TooBusy` or `Unavailable`; nothing was written then.
        """
        checked = self.checks.check(asked)
        task_id = str(uuid4())
        return self.place(task_id, self.encode(task_id, checked), checked)

    def dry_run(self, asked: Submission) -> DryRun:
        """What would be decided now: by the atomic step itself, which writes nothing then."""
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
        return DryRun(routed, plan.models, placed.chosen, placed.because, refusal)

    def submit_many(self, asked: Sequence[Submission]) -> list[Submitted]:
        """Submit many tasks in one round trip.

        All are checked before the first is written. Where one cannot be placed, its error is
        raised after the others were written; its notes name the ids that were. Raises
        `PartlySubmitted` where Redis took some and others not. A note of either names those that
        too few replicas have; `NotReplicated` does where all were written.
        """
        if not asked:
            return []
        waiting = [self._ready(each) for each in asked]
        many = Many()
        try:
            for _ in range(MAX_PLANNINGS):
                waiting = self._place_many(waiting, many)
                if not waiting:
                    break
        except RetryLater as error:
            many.failure = error
        if waiting and many.failure is None:
            many.failure = _moving()
        problem = many.error(self._too_few_replicas(many.done))
        if problem is not None:
            raise problem
        return many.done

    def _too_few_replicas(self, done: Sequence[Submitted]) -> NotReplicated | None:
        least, wait_ms = self.submissions.replicas
        few = [each for each in done if each.replicas is not None and each.replicas < least]
        if not few:
            return None
        ids = [each.task_id for each in few]
        return NotReplicated(
            f"{len(few)} submitted task{' is' if len(few) == 1 else 's are'} on "
            f"{few[0].replicas} of {least} replicas after {wait_ms} ms: they run as any other, "
            "and are lost should the master be lost now. Look at the replicas, or lower "
            f"redis.min_replicas. Submitted: {', '.join(ids)}",
            task_ids=ids,
        )

    def place(self, task_id: str, message: str, checked: Checked) -> Submitted:
        """Submit a message, one's own or one that Celery's own producer has made."""
        for _ in range(MAX_PLANNINGS):
            self.check_emergency(checked)
            plan = self.planner.plan(checked)
            entry = self._entry(task_id, message, checked, plan)
            step = self.submissions.place(entry, self.planner.known_models.is_due)
            self.planner.learn_models(step)
            if step.placed:
                (placed,) = step.placed
                if placed.status == "pool":
                    self.planner.took(plan, placed.detail)
                submitted = self._settle(entry, plan, placed, step.replicas)
                few = self._too_few_replicas([submitted])
                if few:
                    raise few
                return submitted
            self.planner.follow_policy()
        raise _moving()

    def submit_whole(self, ready: Sequence[Ready]) -> list[Submitted]:
        """Submit tasks in one atomic step: all of them, or none.

        Raises as `submit` does, for the first that is refused; nothing was written then. Raises
        `PartlySubmitted` where the answer was lost: all of them may be written, or none. Raises
        `NotReplicated` where all are.
        """
        if len(ready) > MAX_WHOLE:
            raise InvalidRequest(
                f"a group of {len(ready):,} agents' tasks; up to {MAX_WHOLE:,} are checked and "
                "held as a whole. Send several groups, or use Fleet.submit_many. Nothing was "
                "submitted"
            )
        for _ in range(MAX_PLANNINGS):
            for each in ready:
                self.check_emergency(each.checked)
            plans = [self._plan_in_turn(each.checked) for each in ready]
            entries = [self._entry(*each, plan) for each, plan in zip(ready, plans, strict=True)]
            ask_models = self.planner.known_models.is_due
            ((_, step),) = self.submissions.place_many(entries, ask_models, whole=True)
            if isinstance(step, Unplaced):
                unsure = [each.task_id for each in ready] if step.may_be_written else []
                problem = Many(unsure=unsure, failure=step.error).error(None)
                assert problem is not None
                raise problem
            self.planner.learn_models(step)
            if step.placed:
                return self._settle_whole(entries, plans, step)
            self.planner.follow_policy()
        raise _moving()

    def _settle_whole(
        self, entries: Sequence[Entry], plans: Sequence[Plan], step: Step
    ) -> list[Submitted]:
        try:
            done = [
                self._settle(entry, plan, placed, step.replicas)
                for entry, plan, placed in zip(entries, plans, step.placed, strict=False)
            ]
        except REFUSALS as error:
            error.add_note(f"none of these {len(entries)} tasks was submitted")
            raise
        few = self._too_few_replicas(done)
        if few:
            raise few
        return done

    def _ready(self, asked: Submission) -> Ready:
        checked = self.checks.check(asked)
        task_id = str(uuid4())
        return Ready(task_id, self.encode(task_id, checked), checked)

    def _place_many(self, ready: Sequence[Ready], many: Many) -> list[Ready]:
        """One round trip; those that have to be planned again, since the policy has changed."""
        prepared = {
            each.task_id: (each, self._plan_in_turn(each.checked))
            for each in self._admitted(ready, many.refused)
        }
        entries = [self._entry(*each, plan) for each, plan in prepared.values()]
        again: list[Ready] = []
        ask_models = self.planner.known_models.is_due
        for group, step in self.submissions.place_many(entries, ask_models):
            if isinstance(step, Unplaced):
                many.failure = step.error
                many.unsure += [each.task_id for each in group if step.may_be_written]
                continue
            self.planner.learn_models(step)
            if not step.placed:
                again += [prepared[entry.task_id][0] for entry in group]
            for entry, placed in zip(group, step.placed, strict=False):
                try:
                    plan = prepared[entry.task_id][1]
                    many.done.append(self._settle(entry, plan, placed, step.replicas))
                except REFUSALS as error:
                    many.refused.append(error)
        if again:
            self.planner.follow_policy()
        return again

    def check_emergency(self, checked: Checked) -> None:
        """Raise `InEmergency` where there is one that does not let the submission pass."""
        if self._passes(checked):
            return
        # The emergency may have ended since: a refusal is no answer from memory.
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
        """A plan for one of many in a round trip: the turn passes on as if the first in the
        ranking had room, since the answer comes too late for the next one."""
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


def _moving() -> Unavailable:
    return Unavailable(
        f"the policy has changed {MAX_PLANNINGS} times while a task was submitted; find out who "
        "keeps changing it: `fleet audit`"
    )


def no_agent(plan: Plan) -> NoAgentAvailable:
    """The refusal of a task that no live agent could take."""
    return NoAgentAvailable(
        f"no pool that serves {plan.agent_type} takes tasks now "
        f"({', '.join(plan.route.pools) or 'there is no such pool'}): no agent of it is alive, or "
        "it is in maintenance; `fleet pools` and `fleet agents` tell. Start one with `fleet up`, "
        "resume it with `fleet pools resume` or `fleet agents resume`, or try again later"
    )


def too_busy(plan: Plan, placed: Placed) -> TooBusy:
    """The refusal of a task while as many wait as may."""
    full = Full.parse(placed.detail)
    rows = parse_counts(placed.loads)
    slots = sum(row.capacity for row in rows)
    typical = [row.overall.response_seconds for row in rows if row.overall.response_seconds]
    wait = retry_after(full.waiting, slots, max(typical, default=1.0))
    of, key = f"the queue of {plan.agent_type}", "waiting_per_pool"
    if full.scope != QUEUE:
        of, key = full.scope, "waiting_per_tenant"
    return TooBusy(
        f"{full.waiting:,} tasks of {of} wait, and {full.most:,} may; try again in {wait:.0f} s, "
        f"add agents, or raise limits.{key}",
        wait,
    )


def route_decision(ranking: Ranking, loads: str, routed: str) -> RouteDecision:
    """The decision with all its numbers, from the values that are stored with a task."""
    names = (rule.pool for rule in ranking.rules)
    counts = dict(zip(names, parse_counts(loads), strict=True))
    return decide(ranking, counts, chosen=routed or None)


def _fingerprint(checked: Checked) -> str:
    content = f"{checked.request_type}\0{checked.asked_complexity}\0{checked.payload}"
    if checked.quality is not None or checked.speed is not None:
        content += f"\0{checked.quality}\0{checked.speed}"
    return blake2b(content.encode(), digest_size=16).hexdigest()
