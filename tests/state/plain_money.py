"""The rules of the money in plain Python, without Redis: what the scripts have to come to.

Every charge is kept in a list, and every sum is made anew from all of them: slow, and easy to see
through. All amounts are nano-dollars, tokens and requests, in this order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fleet.budgets.reservation import Choice
from fleet.budgets.rules.limits import LETTERS, Limit
from fleet.budgets.rules.usage_counters import ROLLING_MINUTES
from fleet.budgets.usage_store import window_ids

Amounts = tuple[int, ...]
Limits = Mapping[str, Sequence[Limit]]

NOTHING: Amounts = (0, 0, 0)


@dataclass
class Charge:
    """What an entry of the ledger counts, and when its windows were open, in seconds."""

    seconds: int
    names: tuple[str, str, str]
    amounts: Amounts


@dataclass(frozen=True)
class Bound:
    """A step under way: its model and the worst that it may take."""

    model: str
    worst: Amounts


@dataclass
class PlainTask:
    """A task. `free` is None where no money is held for it. `lost` are the steps that were charged
    at their worst, by call, and `corrected` what somebody has added to those since."""

    tenant: str
    agent_type: str
    state: str
    model: str = ""
    free: Amounts | None = None
    limit: int | None = None
    spent: int = 0
    open: dict[str, Bound] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    lost: dict[str, Charge] = field(default_factory=dict)
    corrected: Counter[str] = field(default_factory=Counter)

    def names(self, model: str) -> tuple[str, str, str]:
        return self.tenant, self.agent_type, model


@dataclass
class PlainMoney:
    """All charges and all tasks by their ids. `now` is in seconds since 1970."""

    now: int = 0
    charges: list[Charge] = field(default_factory=list)
    tasks: dict[str, PlainTask] = field(default_factory=dict)

    # What stands in the book

    def held(self, scope: str) -> tuple[int, ...]:
        """In a scope: dollars, tokens, requests, tasks."""
        total: tuple[int, ...] = (0, 0, 0, 0)
        for task in self.tasks.values():
            if task.free is not None and scope in scopes(task.names(task.model)):
                total = plus(total, (*task.free, 1))
            for bound in task.open.values():
                if scope in scopes(task.names(bound.model)):
                    total = plus(total, (*bound.worst, 0))
        return total

    def settled(self, scope: str, window: str) -> Amounts:
        """In a scope and a window by its id, such as `d20261124`."""
        found = [c.amounts for c in self._of(scope) if window in windows(c.seconds)]
        return total_of(found)

    def rolling(self, scope: str) -> Amounts:
        """In the last 60 minutes, and the part of a minute before them."""
        oldest = self.now // 60 - ROLLING_MINUTES
        return total_of([c.amounts for c in self._of(scope) if c.seconds // 60 >= oldest])

    def used(self, scope: str, limit: Limit) -> int:
        """What a limit counts: settled in its window, and held."""
        held = self.held(scope)
        if limit.window == "now":
            return held[3]
        which = ("dollars", "tokens", "requests").index(limit.quantity)
        if limit.window == "rolling":
            return self.rolling(scope)[which] + held[which]
        letter = LETTERS[limit.window]
        (window,) = (each for each in windows(self.now) if each.startswith(letter))
        return self.settled(scope, window)[which] + held[which]

    def windows_with_charges(self) -> set[tuple[str, str]]:
        """Every scope and window that has a charge."""
        return {
            (scope, window)
            for charge in self.charges
            for scope in scopes(charge.names)
            for window in windows(charge.seconds)
        }

    def _of(self, scope: str) -> Iterator[Charge]:
        return (charge for charge in self.charges if scope in scopes(charge.names))

    # What fits

    def fits(self, limits: Limits, names: tuple[str, str, str], asked: Sequence[int]) -> bool:
        """Whether dollars, tokens, requests and tasks have room in every scope and window."""
        return all(
            self.used(scope, limit) + wanted <= limit.most
            for scope in scopes(names)
            for limit in limits.get(scope, ())
            if (wanted := asked[_place(limit)]) > 0
        )

    def share(self, limits: Limits, names: tuple[str, str, str], asked: int) -> float:
        """The largest share of a limit of dollars that would be used."""
        return max(
            (
                (self.used(scope, limit) + asked) / limit.most
                for scope in scopes(names)
                for limit in limits.get(scope, ())
                if limit.quantity == "dollars" and asked
            ),
            default=0.0,
        )

    def chosen(
        self, limits: Limits, task: PlainTask, choices: Sequence[Choice], nearly: float
    ) -> Choice | None:
        """The model that is to be held for, or None where none has room."""
        fitting = [
            each
            for each in choices
            if self.fits(limits, task.names(each.model), (each.nanodollars, each.tokens, 1, 1))
        ]
        planned = choices[0]
        if planned not in fitting:
            return fitting[0] if fitting else None
        if self.share(limits, task.names(planned.model), planned.nanodollars) <= nearly:
            return planned
        cheaper = [each for each in fitting if each.kind == "cheaper"]
        return cheaper[0] if cheaper else planned

    def admits(self, limits: Limits, task: PlainTask, model: str, worst: Amounts) -> bool:
        """Whether a step has room, where what is free for its task may be used up for it."""
        bound = sum(each.worst[0] for each in task.open.values())
        if task.limit is not None and worst[0] and task.spent + bound + worst[0] > task.limit:
            return False
        before, task.free = task.free, None
        moves = model != task.model
        try:
            fitting = self.fits(limits, task.names(model), (*worst, 0))
            only = {f"model:{model}": limits.get(f"model:{model}", ())}
            return fitting and (not moves or self.fits(only, task.names(model), (0, 0, 0, 1)))
        finally:
            task.free = before

    # What happens

    def hold(self, task: PlainTask, choice: Choice) -> None:
        task.state, task.model = "queued", choice.model
        task.free = (choice.nanodollars, choice.tokens, 1)

    def bind(
        self, limits: Limits, task: PlainTask, call: str, model: str, worst: Amounts
    ) -> None:
        """A step that was admitted. What stays free has to fit the model's own limits too."""
        rest = at_least_nothing(minus(task.free or NOTHING, worst))
        task.free = None
        task.open[call] = Bound(model, worst)
        only = {f"model:{model}": limits.get(f"model:{model}", ())}
        kept = self.fits(only, task.names(model), (*rest, 0))
        task.free, task.model = rest if kept else NOTHING, model

    def settle(self, task: PlainTask, call: str, model: str, used: Amounts) -> None:
        """A step has told what it took: for the first time, or after it was given up for lost."""
        if call in task.lost:
            self._put_right(task, call, used[0])
            return
        if call in task.settled:
            return
        bound = task.open.pop(call, None)
        if task.free is not None and (bound is None or bound.model == task.model):
            back = bound.worst if bound else NOTHING
            task.free = at_least_nothing(minus(plus(task.free, back), used))
        self._charge(task, call, model, used)

    def end(self, task: PlainTask, state: str) -> None:
        """A run ends: what is under way is charged at its worst, the rest given back."""
        self.lose(task)
        task.state, task.free = state, None

    def lose(self, task: PlainTask) -> None:
        for call, bound in task.open.items():
            task.lost[call] = self._charge(task, call, bound.model, bound.worst)
        task.open.clear()

    def correct(self, charge: Charge, amount: int) -> None:
        self.charges.append(replace(charge, amounts=(amount, 0, 0)))

    def pass_time(self, seconds: int) -> None:
        """All that was charged was charged so much earlier."""
        for charge in (*self.charges, *(c for t in self.tasks.values() for c in t.lost.values())):
            charge.seconds -= seconds

    def _charge(self, task: PlainTask, call: str, model: str, amounts: Amounts) -> Charge:
        task.settled.add(call)
        task.spent += amounts[0]
        charge = Charge(self.now, task.names(model), amounts)
        self.charges.append(charge)
        return replace(charge)

    def _put_right(self, task: PlainTask, call: str, used: int) -> None:
        lost = task.lost.pop(call)
        task.spent += used - lost.amounts[0]
        self.correct(lost, used - lost.amounts[0] - task.corrected[call])


def scopes(names: tuple[str, str, str]) -> tuple[str, ...]:
    tenant, agent_type, model = names
    return "all", f"tenant:{tenant}", f"agent_type:{agent_type}", f"model:{model}"


def windows(seconds: int) -> tuple[str, ...]:
    return tuple(window_ids(seconds).values())


def plus(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def minus(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a - b for a, b in zip(one, other, strict=True))


def at_least_nothing(amounts: Sequence[int]) -> Amounts:
    return tuple(max(0, amount) for amount in amounts)


def total_of(found: Sequence[Sequence[int]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(NOTHING, *found, strict=True)))


def _place(limit: Limit) -> int:
    return ("dollars", "tokens", "requests", "tasks").index(limit.quantity)


def nonzero(sums: Mapping[Any, Sequence[int]]) -> dict[Any, tuple[int, ...]]:
    """Those that are not nothing, so that what was never counted is equal to 0."""
    return {name: tuple(found) for name, found in sums.items() if any(found)}

