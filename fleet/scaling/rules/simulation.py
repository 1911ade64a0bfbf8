"""An event simulation of one pool: tasks arrive, a policy decides, workers start and leave.

Each task is simulated by itself: it takes the first slot that is free, in the order of arrival.
The pool decides as the real one does, with `decide` and `change`, from what can be known at that
moment: the arrivals of complete intervals, the times of ended tasks, who runs and who waits. A
worker is paid from its start, before it is ready, until its last task ends.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from heapq import heapify, heappush, heapreplace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.scaling.rules.arrivals import LONG_TERM, RECENT
from fleet.scaling.rules.policies import decide
from fleet.scaling.rules.values import (
    MAX_HOLD_SECONDS,
    Arrivals,
    PoolLoad,
    ScalingPolicy,
    ServiceTime,
    Sized,
)
from fleet.scaling.rules.victims import Worker, change

FloatArray = npt.NDArray[np.float64]
HALF_LIFE_SECONDS = 600.0
"""How fast the times of ended tasks lose their weight: the default of `routing`."""
SAMPLES = 2000
"""About how many moments a timeline has."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Tasks: when they arrive, in seconds from 0 and sorted, and the seconds that each runs.

    `past` has the arrivals before them, in intervals like those of `LONG_TERM`; its last one ends
    at 0.
    """

    arrival: FloatArray
    service: FloatArray
    past: Arrivals = field(default=Arrivals(LONG_TERM.seconds, 0.0, ()))


class Conditions(NamedTuple):
    """The pool: slots of a worker, bounds, seconds until a worker is ready, and from one decision
    to the next."""

    slots: int = 1
    min: int = 1
    max: int = 100_000
    start_seconds: float = 5.0
    decide_seconds: float = 5.0


class Moment(NamedTuple):
    """Tasks and workers at a time in seconds."""

    at: float
    queued: int
    running: int
    desired: int
    workers: int


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedOutcome:
    """Each task's wait in seconds, in the order of arrival; paid and busy slot-seconds; the most
    workers at once."""

    waits: FloatArray
    paid: float
    busy: float
    most_workers: int
    timeline: list[Moment]


def simulate(trace: Trace, policy: ScalingPolicy, conditions: Conditions) -> SimulatedOutcome:
    """The tasks of a trace under a policy, until the last of them has ended."""
    return _Pool(trace, policy, conditions).run()


class _Ended:
    """Sums over ended tasks, in which older ones count less."""

    def __init__(self) -> None:
        self.tasks, self.weight, self.seconds, self.squares = 0, 0.0, 0.0, 0.0

    def update(self, keep: float, tasks: int, seconds: float, squares: float) -> None:
        """`tasks` have ended since the last update, with the sums of their seconds and squares."""
        self.tasks += tasks
        self.weight = self.weight * keep + tasks
        self.seconds = self.seconds * keep + seconds
        self.squares = self.squares * keep + squares

    def service(self) -> ServiceTime:
        if self.weight < 1e-9:
            return ServiceTime(0.0, 0.0, 0)
        mean = max(self.seconds / self.weight, 0.0)
        return ServiceTime(mean, max(self.squares / self.weight - mean**2, 0.0), self.tasks)


class _Workers:
    """The workers and their slots. A slot: when it is free, its worker, its task's seconds."""

    def __init__(self, slots: int, start_seconds: float) -> None:
        self.slots, self.start_seconds = slots, start_seconds
        self.heap: list[tuple[float, int, float]] = []
        self.leaving: dict[int, list[tuple[float, int, float]]] = {}
        self.started: dict[int, float] = {}
        self.drained: dict[int, float] = {}
        self.numbers = 0
        self.paid_seconds = 0.0

    @property
    def size(self) -> int:
        """Workers that take tasks, now or soon."""
        return len(self.started) - len(self.leaving)

    def start(self, now: float, ready: float) -> None:
        self.numbers += 1
        self.started[self.numbers] = now
        for _ in range(self.slots):
            heappush(self.heap, (ready, self.numbers, 0.0))

    def starting(self, now: float) -> list[int]:
        """Those that are not ready, the newest first."""
        first = now - self.start_seconds
        found = (n for n, at in self.started.items() if at > first and n not in self.leaving)
        return sorted(found, reverse=True) if self.start_seconds else []

    def running(self, now: float) -> list[float]:
        """The seconds of each running task."""
        found = [s for free, _, s in self.heap if free > now and s]
        for slots in self.leaving.values():
            found += [s for free, _, s in slots if free > now and s]
        return found

    def let_go(self, now: float) -> None:
        """End the draining workers whose tasks have ended."""
        for number, slots in list(self.leaving.items()):
            last = max(max(slots)[0], self.drained[number])
            if last <= now:
                self._end(number, last)
                del self.leaving[number], self.drained[number]

    def end_all(self, now: float) -> None:
        """End what is left."""
        for number in list(self.started):
            self._end(number, now)

    def resize(self, now: float, size: int, mean: float) -> None:
        """Make it so many workers. `mean`: the seconds that a task is expected to take."""
        if size == self.size:
            return
        starting = self.starting(now)
        fresh = set(starting)
        shown = [
            Worker(str(n), self.started[n], *_left(slots, now, mean), n in self.leaving)
            for n, slots in (*_by_worker(self.heap).items(), *self.leaving.items())
            if n not in fresh
        ]
        found = change(shown, len(starting), size)
        for name in found.take_back:
            del self.drained[int(name)]
            self.heap += self.leaving.pop(int(name))
        self._remove([*starting[: found.cancel], *map(int, found.drain)], now)
        for _ in range(found.start):
            self.start(now, now + self.start_seconds)

    def _remove(self, numbers: list[int], now: float) -> None:
        gone = set(numbers)
        slots = _by_worker([slot for slot in self.heap if slot[1] in gone])
        self.heap = [slot for slot in self.heap if slot[1] not in gone]
        heapify(self.heap)
        for number in numbers:
            # A slot that never ran anything is free from now on.
            self.leaving[number] = [(f if s else now, n, s) for f, n, s in slots[number]]
            self.drained[number] = now
        self.let_go(now)

    def _end(self, number: int, now: float) -> None:
        self.paid_seconds += now - self.started.pop(number)


class _Pool:
    """One pool from its first decision to the end of its last task."""

    def __init__(self, trace: Trace, policy: ScalingPolicy, conditions: Conditions) -> None:
        self.trace, self.policy, self.conditions = trace, policy, conditions
        self.arrival, self.service = array("d", trace.arrival), array("d", trace.service)
        self.seconds = array("d", [0.0, *np.cumsum(trace.service)])
        self.squares = array("d", [0.0, *np.cumsum(trace.service**2)])
        self.recent = _counts(trace.arrival, RECENT.seconds)
        self.long_term = [*trace.past.counts, *_counts(trace.arrival, trace.past.interval)]
        self.long_arrivals = trace.past
        self.workers = _Workers(conditions.slots, conditions.start_seconds)
        self.waits = array("d")
        self.ended = _Ended()
        #: Tasks, their seconds and squares, of all that have ended.
        self.known = (0, 0.0, 0.0)
        self.desired = conditions.min
        self.history: list[Sized] = []

    def run(self) -> SimulatedOutcome:
        step, total = self.conditions.decide_seconds, len(self.arrival)
        every = max(1, int((self.arrival[-1] if total else 0.0) / step / SAMPLES))
        timeline, most = [], 0
        for _ in range(self.conditions.min):
            self.workers.start(0.0, 0.0)
        number = 0
        while True:
            now = number * step
            load = self._load(now)
            if len(self.waits) == total and not load.running:
                break
            decision = decide(load, self.policy)
            self.history.append(Sized(now, decision.wanted))
            self.desired = decision.workers
            self.workers.resize(now, decision.workers, load.service.mean)
            in_all = len(self.workers.started)
            most = max(most, in_all)
            if number % every == 0:
                timeline.append(Moment(now, load.queued, load.running, self.desired, in_all))
            number += 1
            self._take(number * step)
        self.workers.end_all(now)
        paid = self.workers.paid_seconds * self.conditions.slots
        return SimulatedOutcome(np.array(self.waits), paid, self.seconds[-1], most, timeline)

    def _take(self, until: float) -> None:
        """Tasks take slots, until a moment."""
        arrival, service, waits, heap = self.arrival, self.service, self.waits, self.workers.heap
        if not heap:
            return
        for number in range(len(waits), bisect_left(arrival, until)):
            came, (free, worker, _) = arrival[number], heap[0]
            start = came if came > free else free
            if start >= until:
                return
            seconds = service[number]
            heapreplace(heap, (start + seconds, worker, seconds))
            waits.append(start - came)

    def _load(self, now: float) -> PoolLoad:
        self.workers.let_go(now)
        conditions, workers, begun = self.conditions, self.workers, len(self.waits)
        running = workers.running(now)
        self._learn(begun, running)
        starting = len(workers.starting(now))
        queued = bisect_right(self.arrival, now) - begun
        horizon = now - MAX_HOLD_SECONDS
        if self.history and self.history[0].at < horizon - MAX_HOLD_SECONDS:
            self.history = [each for each in self.history if each.at > horizon]
        return PoolLoad(
            pool="simulated",
            now=now,
            age=0.0,
            min=conditions.min,
            max=conditions.max,
            slots=conditions.slots,
            desired=self.desired,
            history=tuple(self.history),
            ready=workers.size - starting,
            starting=starting,
            draining=len(workers.leaving),
            running=len(running),
            queued=queued,
            oldest_seconds=now - self.arrival[begun] if queued else 0.0,
            on_hold=0,
            recent=self._recent(now),
            long_term=self._long_term(now),
            service=self.ended.service(),
            start_seconds=conditions.start_seconds,
        )

    def _learn(self, begun: int, running: list[float]) -> None:
        """Count the tasks that have ended since the last decision."""
        squares = sum(seconds * seconds for seconds in running)
        known = (
            begun - len(running),
            self.seconds[begun] - sum(running),
            self.squares[begun] - squares,
        )
        keep = 0.5 ** (self.conditions.decide_seconds / HALF_LIFE_SECONDS)
        tasks, seconds, square = (new - old for new, old in zip(known, self.known, strict=True))
        self.ended.update(keep, int(tasks), seconds, square)
        self.known = known

    def _recent(self, now: float) -> Arrivals:
        end = int(now // RECENT.seconds)
        counts = self.recent[max(0, end - RECENT.kept) : end]
        counts += [0] * (min(end, RECENT.kept) - len(counts))
        return Arrivals(RECENT.seconds, end * RECENT.seconds, tuple(counts))

    def _long_term(self, now: float) -> Arrivals:
        """Made anew when an interval has ended."""
        interval = self.long_arrivals.interval
        ended = int(now // interval)
        if self.long_arrivals.ended < ended * interval:
            end = len(self.trace.past.counts) + ended
            counts = self.long_term[max(0, end - LONG_TERM.kept) : end]
            self.long_arrivals = Arrivals(interval, ended * interval, tuple(counts))
        return self.long_arrivals


def _counts(arrival: FloatArray, interval: float) -> list[int]:
    """How many arrive in each interval from 0 on."""
    numbers = (arrival // interval).astype(np.intp)
    counted: list[int] = np.bincount(numbers).tolist()
    return counted


def _by_worker(
    slots: list[tuple[float, int, float]],
) -> dict[int, list[tuple[float, int, float]]]:
    found: dict[int, list[tuple[float, int, float]]] = {}
    for slot in slots:
        found.setdefault(slot[1], []).append(slot)
    return found


def _left(
    slots: list[tuple[float, int, float]], now: float, mean: float
) -> tuple[int, float]:
    """How many tasks of a worker run, and the seconds that they are expected to take still."""
    busy = [mean - (now - (free - seconds)) for free, _, seconds in slots if free > now and seconds]
    return len(busy), max(0.0, *busy) if busy else 0.0
