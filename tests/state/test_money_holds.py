"""Whatever happens in whatever order, and however often it is sent: no limit is passed, nothing
that has room is refused, and the book of money, the reservations and the ledger say the same. Every
move of a task is one of the table and stands in its history.

The scripts run on a real Valkey; beside them runs a plain account of the same moves, see
`plain_money`. Its clock cannot be set, so time passes the other way: all that was charged is moved
into the past, as if it had been charged then.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from plain_money import Charge, PlainMoney, PlainTask, nonzero, scopes, windows

from fleet.budgets.reservation import NO_LIMITS, CallLimits, Choice, MoneyRules, ScopeLimits
from fleet.budgets.rules.limits import Limit, pack
from fleet.budgets.rules.refusals import Refusal
from fleet.budgets.rules.usage_counters import ROLLING
from fleet.errors import InvalidRequest, LeaseLost
from fleet.ledger.rules.entries import CORRECTION, LedgerEntry
from fleet.ledger.verification import verify
from fleet.models.rules.decision import ModelCandidate, ModelDecision
from fleet.policy.rules import Quantity, Window
from fleet.policy.store import Scope
from fleet.redis.scripts import text
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.rules import HISTORY_KEPT, MAX_CRASHES, MOVES, NEW
from fleet.tasks.store import Lease
from fleet.tasks.submission.model_planning import stored_plan
from fleet.tasks.submission.store import Entry, Placed, RankedPool
from fleet.tasks.waiting.on_hold_store import MAX_WAITS

TENANTS = ("acme", "globex")
POOLS = {"code_generator": "codegen", "security_scanner": "scanner"}
MODELS = ("dear", "cheap", "free")
SCOPES = (
    "all",
    *(f"tenant:{name}" for name in TENANTS),
    *(f"agent_type:{name}" for name in POOLS),
    *(f"model:{name}" for name in MODELS),
)
AGES = (25 * 60, 45 * 60, 2 * 3600, 86_400, 31 * 86_400)
"""Sums of these are never 60 minutes and a bit: no charge is about to leave the last 60."""
MARGIN_MS = 500
"""A move that would begin so short before a minute's end begins in the next one."""
KINDS: tuple[tuple[Window, Quantity], ...] = (
    *((w, q) for w in ("hour", "day", "month", "rolling") for q in ("dollars", "tokens")),
    ("hour", "requests"),
    ("now", "tasks"),
)
FULL = Refusal("all", "d", 1, 9, 5, 3, 2, 1000)

tenants, agent_types = st.sampled_from(TENANTS), st.sampled_from(tuple(POOLS))
picks, times = st.integers(0, 99), st.integers(1, 2)
takes = st.tuples(st.sampled_from(MODELS), st.integers(0, 9), st.integers(1, 9))
plans = st.tuples(
    st.lists(takes, min_size=1, max_size=3, unique_by=lambda take: take[0]),
    st.sampled_from(("cheaper", "next")),
    st.sampled_from((0.5, 1.0)),
)
limit_lists = st.dictionaries(st.sampled_from(KINDS), st.integers(1, 25), min_size=1, max_size=3)
limit_tables = st.dictionaries(st.sampled_from(SCOPES), limit_lists, min_size=1, max_size=4)
starts = st.lists(st.tuples(tenants, agent_types, plans, times), min_size=2, max_size=4)


def cost(model: str, nanodollars: int) -> int:
    return 0 if model == "free" else nanodollars


def step(model: str, nanodollars: int, tokens: int) -> ModelCall:
    return ModelCall(model, "fake", "first", "ok", tokens, 0, 0, cost(model, nanodollars))


class Call:
    """A step that was admitted: whose, and what it may take."""

    def __init__(self, lease: Lease, number: int, worst: ModelCall) -> None:
        self.lease, self.number, self.worst = lease, number, worst
        self.name = f"{lease.fence}.{number}"


class Money(RuleBasedStateMachine):
    """Moves the money at random; after each move all of it adds up."""

    fleet: Connection

    def __init__(self) -> None:
        super().__init__()
        self.fleet.client.flushall()
        for pool in POOLS.values():
            self.fleet.routing.agents.register(f"{pool}-1", pool, 3, {})
        self.plain = PlainMoney()
        self.limits: dict[str, tuple[Limit, ...]] = {}
        self.version = "0"
        self.leases: dict[str, Lease] = {}
        self.outdated: list[Lease] = []
        self.calls: list[Call] = []
        self.unwanted: set[str] = set()
        self.saved: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.waits: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.aside: set[str] = set()
        self.not_yet: set[str] = set()
        self.numbers = itertools.count(1)
        self.sent: list[Callable[[], object]] = []

    # What happens

    @initialize(table=limit_tables, starts=starts)
    def begin(self, table: Any, starts: list[Any]) -> None:
        """Some tasks run already, or hypothesis mostly moves what is not there."""
        self.change_the_limits(table)
        for tenant, agent_type, plan, times in starts:
            self.submit(tenant, agent_type, plan, "wait", None, times)
            self.claim(0, times)

    @rule(
        tenant=tenants,
        agent_type=agent_types,
        plan=plans,
        over=st.sampled_from(("refuse", "wait")),
        limit=st.one_of(st.none(), st.integers(1, 30)),
        times=times,
    )
    def submit(
        self, tenant: str, agent_type: str, plan: Any, over: Any, limit: int | None, times: int
    ) -> None:
        task_id, task = f"task-{next(self.numbers)}", PlainTask(tenant, agent_type, "", limit=limit)
        rules = self.money_rules(task, *plan, over)
        entry = self.entry(task_id, task, rules, self.version)
        with self.move():
            chosen = self.plain.chosen(self.limits, task, rules.choices, rules.nearly)
            placed = [self.place(entry) for _ in range(times)]
            assert len({_but_the_wait(each) for each in placed}) == 1
            if chosen is not None:
                assert placed[0].status in ("pool", "overflow")
                self.plain.hold(task, chosen)
            else:
                refusal = Refusal.parse(placed[0].detail)
                waits = over == "wait" and refusal.retry_after is not None
                assert placed[0].status == ("parked" if waits else "over")
                task.state = "parked" if waits else ""
        if task.state:
            self.plain.tasks[task_id] = task
            self.sent.append(partial(self.fleet.tasks.submissions.place, entry))

    @rule(pick=picks, takes=takes)
    def ask_under_an_older_policy(self, pick: int, takes: Any) -> None:
        task = PlainTask("acme", "code_generator", "")
        rules = self.money_rules(task, [takes], "next", 1.0, "refuse")
        assert self.fleet.tasks.submissions.place(self.entry("x", task, rules, "old")).placed == ()
        for lease in self.one_of(self.leases.values(), pick):
            limits = self.call_limits(lease, takes[0])._replace(version="old")
            assert (
                self.fleet.tasks.model_calls.admit(lease, 0, step(*takes), limits) == self.version
            )

    @precondition(lambda self: self.tasks("queued"))
    @rule(pick=picks, times=times)
    def claim(self, pick: int, times: int) -> None:
        for task_id, task in self.one_of(self.tasks("queued"), pick):
            self.leases[task_id] = self.claimed(task_id, task, times)
            task.state = "running"

    @rule(tenant=tenants, agent_type=agent_types, takes=takes, times=times)
    def claim_what_a_stranger_has_published(
        self, tenant: str, agent_type: str, takes: Any, times: int
    ) -> None:
        task_id = f"task-{next(self.numbers)}"
        task = PlainTask(tenant, agent_type, "running", takes[0])
        rules = self.money_rules(task, [takes], "next", 1.0, "refuse")
        plan, (choice,) = self.plan(task, rules.choices), rules.choices
        limits = CallLimits(self.version, rules.limits, choice.limits)
        # Nobody has held its money, so it is held now, or the task is not to run.
        with self.move():
            fits = self.plain.chosen(self.limits, task, [choice], 1.0) is not None
            lease = self.claimed(task_id, task, times, plan, limits)
            assert (lease.refusal is None) == fits
            if fits:
                self.plain.hold(task, choice)
                task.state = "running"
                self.leases[task_id] = lease
            else:
                assert self.fleet.tasks.records.finish(lease, lease.pool, "failed", 600, {}).kept
                task.state = "failed"
            self.plain.tasks[task_id] = task

    @precondition(lambda self: self.leases)
    @rule(pick=picks, takes=takes, times=times)
    def admit(self, pick: int, takes: Any, times: int) -> None:
        for task_id, lease in self.one_of(self.leases.items(), pick):
            task, worst = self.plain.tasks[task_id], step(*takes)
            call = Call(lease, next(self.numbers), worst)
            limits = self.call_limits(lease, worst.model)
            amounts = (worst.cost_nanodollars, worst.input_tokens, 1)
            send = partial(self.fleet.tasks.model_calls.admit, lease, call.number, worst, limits)
            with self.move():
                fits = self.plain.admits(self.limits, task, worst.model, amounts)
                answers = [send() for _ in range(times)]
                assert [answer is None for answer in answers] == [fits] * times, answers
                if fits:
                    self.plain.bind(self.limits, task, call.name, worst.model, amounts)
                    self.calls.append(call)
                    self.sent.append(send)

    @precondition(lambda self: self.calls)
    @rule(pick=picks, nanodollars=st.integers(0, 9), tokens=st.integers(1, 9), times=times)
    def settle(self, pick: int, nanodollars: int, tokens: int, times: int) -> None:
        for call in self.one_of(self.calls, pick):
            used = min(nanodollars, call.worst.cost_nanodollars)
            with self.move():
                self.settled(call, used, min(tokens, call.worst.input_tokens), times)

    @precondition(lambda self: self.calls)
    @rule(pick=picks, more=st.integers(1, 9), times=times)
    def settle_more_than_the_worst(self, pick: int, more: int, times: int) -> None:
        for call in self.one_of(self.calls, pick):
            used = cost(call.worst.model, call.worst.cost_nanodollars + more)
            with self.move(admits=False):
                self.settled(call, used, call.worst.input_tokens + more, times)

    @rule(pick=picks, takes=takes, times=times)
    def settle_what_was_never_admitted(self, pick: int, takes: Any, times: int) -> None:
        for lease in self.one_of([*self.leases.values(), *self.outdated], pick):
            call = Call(lease, next(self.numbers), step(*takes))
            with self.move(admits=False):
                self.settled(call, call.worst.cost_nanodollars, takes[2], times)

    @precondition(lambda self: self.leases)
    @rule(pick=picks, state=st.sampled_from(("succeeded", "failed", "cancelled")), times=times)
    def finish(self, pick: int, state: str, times: int) -> None:
        for task_id, lease in self.one_of(self.leases.items(), pick):
            send = partial(self.fleet.tasks.records.finish, lease, lease.pool, state, 600, {})
            with self.move():
                assert [send().kept for _ in range(times)] == [True] * times
                self.plain.end(self.plain.tasks[task_id], state)
            self.gone(task_id, send)

    @precondition(lambda self: self.tasks("queued", "parked", "running"))
    @rule(pick=picks, times=times)
    def cancel(self, pick: int, times: int) -> None:
        for task_id, task in self.one_of(self.tasks("queued", "parked", "running"), pick):
            with self.move():
                before = [self.fleet.tasks.records.cancel(task_id, 600) for _ in range(times)]
                assert before[0] == task.state
                if task.state == "running":
                    self.unwanted.add(task_id)
                else:
                    self.unwanted.discard(task_id)
                    self.not_yet.discard(task_id)
                    self.plain.end(task, "cancelled")

    @precondition(lambda self: self.leases)
    @rule(pick=picks, times=times)
    def park(self, pick: int, times: int) -> None:
        for task_id, lease in self.one_of(self.leases.items(), pick):
            send = partial(self.fleet.tasks.on_hold.add, lease, FULL, 1000)
            strange = not self.fleet.client.hexists(self.fleet.keys.task(task_id), "message")
            with self.move():
                wanted = "unwanted" if task_id in self.unwanted else "parked"
                often = self.waits[task_id] >= MAX_WAITS
                answer = "no_message" if strange else "spent" if often else wanted
                assert [send() for _ in range(times)] == [answer] * times
                if answer == wanted:
                    self.plain.end(self.plain.tasks[task_id], "parked")
            if answer == wanted:
                self.waits[task_id] += 1
                self.gone(task_id, send)

    @precondition(lambda self: self.leases)
    @rule(pick=picks, seconds=st.sampled_from((0, 600)), times=times)
    def put_back_to_be_tried_again(self, pick: int, seconds: int, times: int) -> None:
        for task_id, lease in self.one_of(self.leases.items(), pick):
            send = partial(self.fleet.tasks.retries.put_back, lease, "{}", "Unavailable", seconds)
            strange = not self.fleet.client.hexists(self.fleet.keys.task(task_id), "message")
            with self.move():
                wanted = "unwanted" if task_id in self.unwanted else "parked"
                answer = "no_message" if strange else wanted
                assert [send().status for _ in range(times)] == [answer] * times
                if not strange:
                    self.plain.end(self.plain.tasks[task_id], "parked")
            if not strange:
                self.gone(task_id, send)
                if seconds:
                    self.not_yet.add(task_id)

    @precondition(lambda self: self.tasks("parked"))
    @rule(pick=picks, plan=plans, times=times)
    def unpark(self, pick: int, plan: Any, times: int) -> None:
        for task_id, task in self.one_of(self.tasks("parked"), pick):
            rules, queue = self.money_rules(task, *plan, "wait"), self.overflow(task.agent_type)
            record = self.fleet.tasks.records.read(task_id)
            with self.move():
                chosen = self.plain.chosen(self.limits, task, rules.choices, rules.nearly)
                answers = [
                    self.fleet.tasks.on_hold.release(record, queue, self.version, rules).status
                    for _ in range(times)
                ]
                if chosen is None or task_id in self.not_yet:
                    assert answers == ["parked"] * times
                else:
                    assert answers == ["queued", "gone"][:times]
                    self.plain.hold(task, chosen)

    @precondition(lambda self: self.leases)
    @rule(pick=picks, most=st.integers(1, 3), times=times)
    def lose_the_lease(self, pick: int, most: int, times: int) -> None:
        for task_id, lease in self.one_of(self.leases.items(), pick):
            task, queue = self.plain.tasks[task_id], self.overflow(lease.agent_type)
            with self.move():
                assert self.fleet.tasks.records.renew(lease, 0)
                record = self.fleet.tasks.records.read(task_id)
                send = partial(self.fleet.tasks.records.requeue, record, queue, most)
                answer, *later = [send() for _ in range(times)]
                self.count_crash(task_id)
                strange = not self.fleet.client.hexists(
                    self.fleet.keys.task(task_id), "message"
                )
                dies = strange or (task_id not in self.aside and self.crashes[task_id] >= most)
                comes_back = "unwanted" if task_id in self.unwanted else "requeued"
                assert answer == ("failed" if dies else comes_back)
                assert set(later) <= {"alive"}
                self.plain.lose(task)
                task.state = "queued"
                if answer == "failed":
                    self.plain.end(task, "failed")
            self.gone(task_id, send)

    @precondition(lambda self: self.leases)
    @rule(pick=picks, times=times)
    def give_back(self, pick: int, times: int) -> None:
        for task_id, lease in self.one_of(self.leases.items(), pick):
            queue = self.overflow(lease.agent_type)

            def send(lease: Lease = lease, queue: str = queue) -> str:
                return self.fleet.tasks.records.requeue_on_shutdown(lease, queue)

            strange = not self.fleet.client.hexists(self.fleet.keys.task(task_id), "message")
            with self.move():
                wanted = "unwanted" if task_id in self.unwanted else "given_back"
                answer = "no_message" if strange else wanted
                assert [send() for _ in range(times)] == [answer] * times
                task = self.plain.tasks[task_id]
                self.plain.lose(task)
                task.state = "queued"
            self.outdated.append(self.leases.pop(task_id))

    @precondition(lambda self: self.leases)
    @rule(pick=picks, times=times)
    def take_over(self, pick: int, times: int) -> None:
        for task_id, lease in self.one_of(self.leases.items(), pick):
            with self.move():
                assert self.fleet.tasks.records.renew(lease, 0)
                if task_id not in self.aside and self.crashes[task_id] + 1 >= MAX_CRASHES:
                    pool = lease.pool
                    claim = (task_id, f"{pool}-1", pool, 600, "x", lease.tenant, "")
                    assert self.fleet.tasks.records.claim(*claim) == "spent"
                    continue
                self.count_crash(task_id)
                newer = self.claimed(task_id, self.plain.tasks[task_id], times)
            self.outdated.append(lease)
            self.leases[task_id] = newer

    @precondition(lambda self: self.leases)
    @rule(pick=picks, times=times)
    def begin_a_run_that_stood_aside(self, pick: int, times: int) -> None:
        for task_id, lease in self.one_of(self.leases.items(), pick):
            for _ in range(times):
                self.fleet.tasks.records.begin(lease)
            self.aside.discard(task_id)

    @precondition(lambda self: self.outdated)
    @rule(pick=picks, takes=takes)
    def a_run_that_lost_its_lease_goes_on(self, pick: int, takes: Any) -> None:
        for lease in self.one_of(self.outdated, pick):
            with self.move(), pytest.raises(LeaseLost):
                self.fleet.tasks.model_calls.admit(
                    lease, next(self.numbers), step(*takes), self.call_limits(lease, takes[0])
                )
            with pytest.raises(LeaseLost):
                self.fleet.tasks.records.begin(lease)

    @precondition(lambda self: self.sent)
    @rule(pick=picks)
    def an_answer_was_lost_and_the_same_arrives_late(self, pick: int) -> None:
        for send in self.one_of(self.sent, pick):
            with self.move(), suppress(LeaseLost):
                send()

    @rule(pick=picks, amount=st.integers(-9, 9).filter(bool), times=times)
    def correct(self, pick: int, amount: int, times: int) -> None:
        entries = self.fleet.ledger.entries.page("0-0").entries
        for entry in self.one_of([each for each in entries if each.kind != CORRECTION], pick):
            before = sum(each.amount for each in entries if entry.id in (each.id, each.of))
            once = str(next(self.numbers))
            send = partial(self.fleet.ledger.entries.correct, entry, amount, "ann", "why", once)
            with self.move(admits=False):
                if before + amount < 0:
                    with pytest.raises(InvalidRequest, match="less than 0"):
                        send()
                    continue
                assert len({send() for _ in range(times)}) == 1
                names = entry.tenant, entry.agent_type, entry.model
                self.plain.correct(Charge(int(entry.epoch), names, (0, 0, 0)), amount)
                self.plain.tasks[entry.task].corrected[entry.call] += amount
            self.sent.append(send)

    @rule(table=limit_tables)
    def change_the_limits(self, table: dict[str, dict[tuple[Window, Quantity], int]]) -> None:
        self.limits = {
            scope: tuple(Limit(*kind, most) for kind, most in found.items())
            for scope, found in table.items()
        }
        self.fleet.policy.store.set_route(Scope(), {"strategy": "least_loaded"})
        self.version = self.fleet.policy.store.read().version

    @rule(seconds=st.sampled_from(AGES))
    def time_passes(self, seconds: int) -> None:
        # What was sent before would now come from the future.
        self.sent.clear()
        with self.move():
            pass_time(self.fleet, seconds)
            self.plain.pass_time(seconds)

    # What always holds

    @invariant()
    def all_of_it_adds_up(self) -> None:
        plain, book = self.plain, self.fleet.budgets.usage.read()
        assert nonzero(book.held) == nonzero({each: plain.held(each) for each in SCOPES})
        counted = {(s, w): each for s, found in book.counters.items() for w, each in found.items()}
        charged = {key: plain.settled(*key) for key in plain.windows_with_charges()}
        assert nonzero(counted) == nonzero(charged)
        assert min(itertools.chain(*counted.values(), *book.held.values()), default=0) >= 0
        plain.now = self.moment()
        for scope, standing in self.fleet.budgets.usage.scope_usage(SCOPES).items():
            assert tuple(standing.settled["rolling"]) == plain.rolling(scope)
        assert verify(self.fleet.ledger).differences == ()

    @invariant()
    def money_is_held_for_those_that_have_not_ended_and_for_nobody_else(self) -> None:
        tasks, steps = self.fleet.budgets.usage.reserved()
        found = {task_id: tuple(each.held[:3]) for task_id, each in tasks.items()}
        held = {i: each.free for i, each in self.plain.tasks.items() if each.free is not None}
        assert found == held
        assert {self.plain.tasks[task_id].state for task_id in found} <= {"queued", "running"}
        opened = {f"{i} {call}" for i, each in self.plain.tasks.items() for call in each.open}
        assert set(steps) == opened

    @invariant()
    def the_tasks_say_what_they_have_cost(self) -> None:
        for task_id, task in self.plain.tasks.items():
            names = ["state", "cost_nanodollars"]
            state, spent = self.fleet.client.hmget(self.fleet.keys.task(task_id), names)
            assert (text(state), int(spent or 0)) == (task.state, task.spent), task_id

    @invariant()
    def every_move_is_one_of_the_table_and_stands_in_the_history(self) -> None:
        for task_id, task in self.plain.tasks.items():
            record = self.fleet.tasks.records.read(task_id)
            states = [move.state for move in record.history]
            assert states[-1] == task.state
            assert record.history[-1].attempt == record.attempts
            pairs = [*itertools.pairwise(states)]
            if len(states) < HISTORY_KEPT:
                pairs += [(NEW, states[0])]
            else:
                assert len(states) == HISTORY_KEPT
                del pairs[0]
            assert all(to in MOVES[source] for source, to in pairs), states
            assert (record.crashes, bool(record.dead)) == (
                *(self.crashes[task_id], task.state == "failed"),
            )

    @invariant()
    def who_waits_is_counted_and_who_failed_is_a_dead_letter(self) -> None:
        waiting = Counter(task.tenant for _, task in self.tasks("queued", "parked"))
        found = _texts(self.fleet.client.hgetall(self.fleet.keys.waiting))
        assert {tenant: int(count) for tenant, count in found.items()} == waiting
        dead = {text(each) for each in self.fleet.client.zrange(self.fleet.keys.dead, 0, -1)}
        assert dead == {task_id for task_id, _ in self.tasks("failed")}

    # How it is sent

    @contextmanager
    def move(self, admits: bool = True) -> Iterator[None]:
        """Bring a limit nearer than it is now, but never beyond; what was over it stays or shrinks.

        Not so where `admits` says that the move asks nobody.
        """
        self.plain.now = self.moment()
        before = self.used()
        yield
        for (scope, limit), used in self.used().items():
            assert not admits or used <= max(limit.most, before[scope, limit]), (scope, limit)

    def used(self) -> dict[tuple[str, Limit], int]:
        return {
            (scope, limit): self.plain.used(scope, limit)
            for scope, found in self.limits.items()
            for limit in found
        }

    def moment(self) -> int:
        """Redis's seconds, in a minute that does not end at once."""
        seconds, micros = self.fleet.client.time()
        left = 60 - seconds % 60 - micros / 1e6
        if left > MARGIN_MS / 1000:
            return int(seconds)
        time.sleep(left)
        return self.moment()

    def tasks(self, *states: str) -> list[tuple[str, PlainTask]]:
        return [(i, each) for i, each in self.plain.tasks.items() if each.state in states]

    def one_of(self, found: Iterable[Any], pick: int) -> list[Any]:
        """One of them, or none where there is none."""
        all_of_them = list(found)
        return [all_of_them[pick % len(all_of_them)]] if all_of_them else []

    def gone(self, task_id: str, send: Callable[[], object]) -> None:
        """A run is over; what has ended it may arrive again."""
        self.outdated.append(self.leases.pop(task_id))
        self.sent.append(send)

    def claimed(
        self,
        task_id: str,
        task: PlainTask,
        times: int,
        plan: str = "",
        limits: CallLimits = NO_LIMITS,
    ) -> Lease:
        pool, name = POOLS[task.agent_type], str(next(self.numbers))
        found = [
            self.fleet.tasks.records.claim(
                task_id, f"{pool}-1", pool, 600, name, task.tenant, plan, limits
            )
            for _ in range(times)
        ]
        assert isinstance(found[0], Lease)
        assert found == [found[0]] * times
        assert {each.name: each.value for each in found[0].saved} == self.saved[task_id]
        assert found[0].must_run_alone == (self.crashes[task_id] >= MAX_CRASHES - 1)
        self.aside.discard(task_id)
        if found[0].must_run_alone:
            self.aside.add(task_id)
        return found[0]

    def count_crash(self, task_id: str) -> None:
        """One that stands aside has not begun: its end is no crash."""
        self.crashes[task_id] += task_id not in self.aside

    def settled(self, call: Call, nanodollars: int, tokens: int, times: int) -> None:
        used = step(call.worst.model, nanodollars, tokens)
        task = self.plain.tasks[call.lease.task_id]
        send = partial(self.charge_and_save, call, used)
        spent = [send() for _ in range(times)]
        amounts = (used.cost_nanodollars, used.input_tokens, 1)
        self.plain.settle(task, call.name, used.model, amounts)
        assert spent == [task.spent] * times
        self.sent.append(send)

    def charge_and_save(self, call: Call, used: ModelCall) -> int:
        """What the task has cost. The run that has it saves the answer, and no other one does."""
        task_id, name, answer = call.lease.task_id, f"model-{used.model}", f'"{call.name}"'
        asked = call.lease, call.number, used
        if self.leases.get(task_id) is call.lease:
            settled = self.fleet.tasks.model_calls.settle(*asked, name, answer)
            assert settled.is_saved
            self.saved[task_id][name] = answer
            return settled.spent
        with pytest.raises(LeaseLost):
            self.fleet.tasks.model_calls.settle(*asked, name, answer)
        return self.fleet.tasks.model_calls.settle(*asked).spent

    def teardown(self) -> None:
        """What was saved is there as long as the task may go on from it."""
        for task_id, task in self.plain.tasks.items():
            goes_on = task.state not in ("succeeded", "cancelled")
            saved = {each.name: each.value for each in self.fleet.tasks.model_calls.saved(task_id)}
            assert saved == (self.saved[task_id] if goes_on else {}), task_id

    def place(self, entry: Entry) -> Placed:
        (placed,) = self.fleet.tasks.submissions.place(entry).placed
        return placed

    def overflow(self, agent_type: str) -> str:
        return self.fleet.settings.overflow_queue(agent_type)

    def packed(self, scope: str) -> str:
        return pack(self.limits.get(scope, ()))

    def scope_limits(self, tenant: str, agent_type: str) -> ScopeLimits:
        names = scopes((tenant, agent_type, ""))[:3]
        return ScopeLimits(*map(self.packed, names))

    def call_limits(self, lease: Lease, model: str) -> CallLimits:
        shared = self.scope_limits(lease.tenant, lease.agent_type)
        return CallLimits(self.version, shared, self.packed(f"model:{model}"))

    def money_rules(
        self, task: PlainTask, takes: list[Any], kind: str, nearly: float, over: Any
    ) -> MoneyRules:
        choices = [
            Choice(model, cost(model, n), tokens, kind if i else "planned",
                   self.packed(f"model:{model}"))
            for i, (model, n, tokens) in enumerate(takes)
        ]
        shared = self.scope_limits(task.tenant, task.agent_type)
        return MoneyRules(task.agent_type, shared, choices, over, nearly)

    def plan(self, task: PlainTask, choices: Iterable[Choice]) -> str:
        ranking = tuple(
            ModelCandidate(each.model, "fake", 1.0, each.nanodollars, each.tokens, 0, 1.0, 1.0)
            for each in choices
        )
        decision = ModelDecision(ranking, limit_nanodollars=task.limit)
        return stored_plan("any", task.agent_type, 0.5, decision, None)

    def entry(self, task_id: str, task: PlainTask, rules: MoneyRules, version: str) -> Entry:
        pool = POOLS[task.agent_type]
        ranked = [RankedPool(pool, self.fleet.settings.queue(pool), 1.0, 0.0, -1.0)]
        queue = self.overflow(task.agent_type)
        route = self.fleet.tasks.submissions.route(queue, ranked, "any", version, rules)
        message = json.dumps({"headers": {"id": task_id}})
        return Entry(task_id, message, route, self.plan(task, rules.choices), task.tenant)


def _but_the_wait(placed: Placed) -> tuple[Any, ...]:
    """What was answered; who is refused again is told the ms that are left by then."""
    if placed.status == "over":
        return placed.status, Refusal.parse(placed.detail)._replace(wait_ms=0)
    return placed.status, placed.detail, placed.loads


def pass_time(fleet: Connection, seconds: int) -> None:
    """Let all that was charged have been charged so much earlier.

    The entries move, in the same order, and what names them; the counters of their windows are
    made anew from them, for a day before yesterday may have been another month.
    """
    client, keys = fleet.client, fleet.keys
    entries = [earlier(entry, seconds) for entry in fleet.ledger.entries.page("0-0").entries]
    client.delete(
        keys.ledger, keys.rollup_cursor, *map(keys.rollup, fleet.ledger.rollups.periods())
    )
    client.delete(keys.rollups)
    sums: dict[str, list[int]] = {}
    for entry in entries:
        fields: Any = entry.fields
        client.xadd(keys.ledger, fields, id=entry.id)
        correction = entry.kind == CORRECTION
        counts = (entry.amount, entry.input + entry.output, int(not correction))
        for scope, window in itertools.product(entry.scopes, entry.windows.split(",")):
            found = sums.setdefault(f"{window} {scope}", [0, 0, 0])
            found[:] = [a + b for a, b in zip(found, counts, strict=True)]
    book = {name: ",".join(map(str, found)) for name, found in sums.items()}
    for name, packed in client.hgetall(keys.money).items():
        window, _, scope = text(name).partition(" ")
        if window == "held":
            book[text(name)] = text(packed)
        elif window == ROLLING:
            *amounts, first, last = map(int, packed.split(b","))
            moved = [each and each - seconds // 60 for each in (first, last)]
            book[text(name)] = ",".join(map(str, (*amounts, *moved)))
        elif window.startswith(ROLLING):
            book[f"{ROLLING}{int(window[1:]) - seconds // 60} {scope}"] = text(packed)
    client.delete(keys.money)
    if book:
        client.hset(keys.money, mapping=book)
    _move_what_names_entries(fleet, seconds)


def _move_what_names_entries(fleet: Connection, seconds: int) -> None:
    client, keys = fleet.client, fleet.keys
    corrections = {
        f"of:{earlier_id(name.removeprefix('of:'), seconds)}": value
        for name, value in _texts(client.hgetall(keys.corrections)).items()
        if name.startswith("of:")
    }
    client.delete(keys.corrections)
    if corrections:
        client.hset(keys.corrections, mapping=corrections)
    for key in client.scan_iter(keys.task("*")):
        for name, value in _texts(client.hgetall(key)).items():
            if name.startswith("lost:"):
                entry_id, charged, minute, _ = value.split(" ")
                moved, at = earlier_id(entry_id, seconds), int(minute) - seconds // 60
                counted = ",".join(windows(int(moved.partition("-")[0]) // 1000))
                client.hset(key, name, f"{moved} {charged} {at} {counted}")


def earlier(entry: LedgerEntry, seconds: int) -> LedgerEntry:
    """The entry as it would be, had it been written so much earlier."""
    counted = earlier_id(entry.of or entry.id, seconds)
    return entry._replace(
        id=earlier_id(entry.id, seconds),
        of=counted if entry.of else "",
        windows=",".join(windows(int(counted.partition("-")[0]) // 1000)),
    )


def earlier_id(entry_id: str, seconds: int) -> str:
    ms, _, number = entry_id.partition("-")
    return f"{int(ms) - seconds * 1000}-{number}"


def _texts(found: Any) -> dict[str, str]:
    return {text(name): text(value) for name, value in found.items()}


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


def test_no_limit_is_passed_and_all_of_it_adds_up_whatever_happens(fleet: Connection) -> None:
    run_state_machine_as_test(
        type("Machine", (Money,), {"fleet": fleet}),
        settings=settings(stateful_step_count=30, suppress_health_check=list(HealthCheck)),
    )


def test_what_stays_free_fits_the_limits_of_the_model_that_a_task_goes_to(
    fleet: Connection,
) -> None:
    money = type("Machine", (Money,), {"fleet": fleet})()
    money.change_the_limits({"model:cheap": {("day", "dollars"): 5}})
    money.submit("acme", "code_generator", ([("dear", 9, 9)], "next", 1.0), "refuse", None, 1)
    money.claim(0, 1)
    money.admit(0, ("cheap", 2, 2), 1)
    money.all_of_it_adds_up()
    assert fleet.budgets.usage.scope_usage(["model:cheap"])["model:cheap"].held.amount == 2
