"""The end of a worker: what it was told, by when, and who in it has to know.

    SIGTERM            nothing new is taken; agents' tasks that end in time, end, the others are
                       given back; plain tasks are waited for without end, as by a stock worker
    SIGINT             the same; a second one is as SIGQUIT, a third one ends the process
    SIGQUIT            what runs may end within `worker_soft_shutdown_timeout`, 0 s by default; then
                       agents' tasks are given back and plain ones are cut; a second one ends the
                       waiting, or the process
    the grace is over  an agent that still runs is killed, and the process ends; where even that is
                       not to be had, the kernel ends it. Not while plain tasks run

A task that is given back runs elsewhere at once, and loses none of its attempts. A plain task
cannot be given back: one that is acknowledged early is lost where its process ends, one that is
acknowledged late runs again from its beginning. As in a stock worker, a further SIGTERM changes
nothing, so whoever sends two by mistake loses nothing either.

A signal may interrupt the main thread anywhere, and that thread may wait for the pool for as long
as there are tasks. So a handler only notes what it was told, and a thread of its own does the rest.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, NamedTuple

import psutil
import structlog
from celery import bootsteps
from celery.apps import worker as handlers
from celery.platforms import EX_FAILURE
from celery.signals import worker_shutdown, worker_shutting_down
from celery.worker import state

from fleet.local import finishing
from fleet.worker.rules.grace import STOP_SECONDS, Grace

Order = Literal["drain", "give_back", "die"]

RESTORE_SECONDS = 0.5
LOOK_SECONDS = 0.2
SAY_SECONDS = 60.0
"""How often a worker says for which plain tasks it waits."""

log = structlog.get_logger(__name__)


class Notice:
    """Tells every process of a worker, once, to give back what it runs.

    It is a pipe into which nobody writes: its end is the notice. So one notice reaches all pool
    children, however many there are.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._owner = os.getpid()
        self._given = False

    def give(self) -> None:
        """Give the notice, from the main process."""
        if not self._given:
            self._given = True
            os.close(self._write)

    def watch(self, noticed: Callable[[], None]) -> None:
        """Call `noticed` in a thread when the notice is given. Call this once in each process."""
        if os.getpid() != self._owner:
            os.close(self._write)
        threading.Thread(target=self._wait, args=(noticed,), name="notice", daemon=True).start()

    def _wait(self, noticed: Callable[[], None]) -> None:
        os.read(self._read, 1)
        os.close(self._read)
        noticed()


class SoftShutdown(NamedTuple):
    """Celery's `worker_soft_shutdown_timeout`, in seconds, and whether it is kept by a worker that
    runs nothing (`worker_enable_soft_shutdown_on_idle`)."""

    seconds: float = 0.0
    on_idle: bool = False


def running_requests() -> list[Any]:
    """The tasks that run in this worker, whosever they are."""
    # Threads change the set meanwhile; this copy is one step of the interpreter.
    requests = [reference() for reference in tuple(state.active_requests.data)]
    return [request for request in requests if request is not None]


def plain_requests() -> list[Any]:
    """Those of them that would be lost, or begin anew, with this process: not those of agents,
    which are given back, and not Fleet's own jobs, which beat sends again."""
    return [each for each in running_requests() if not getattr(each.task, "comes_again", False)]


class Ending:
    """Ends one worker. `leave` takes it out of the registry, and `soft` is how it was set up. In
    `data_dir` it says that it takes longer than its grace. `hand_over` gives back the agents' tasks
    that have not stopped when the process ends."""

    def __init__(
        self,
        grace_seconds: float,
        notice: Notice,
        data_dir: Path,
        plain: Callable[[], list[Any]] = plain_requests,
    ) -> None:
        self.grace = Grace(grace_seconds)
        self.notice = notice
        self.data_dir = data_dir
        self.plain = plain
        self.soft = SoftShutdown()
        #: Whether the process waits though it may run nothing.
        self.waits_idle = False
        self.began = False
        self.leave: Callable[[], None] = lambda: None
        self.hand_over: Callable[[], None] = lambda: None
        self.restore: Callable[[], None] = lambda: None
        self._orders: SimpleQueue[Order] = SimpleQueue()

    def start(self) -> None:
        """Wait for orders, in a daemon thread."""
        threading.Thread(target=self._run, name="ending", daemon=True).start()

    def order(self, order: Order) -> None:
        """Note an order; safe in a signal handler, and as often as wanted."""
        self.began = True
        if order == "give_back":
            self.waits_idle = self.soft.on_idle and self.soft.seconds > 0
        self._orders.put(order)

    def has_begun(self) -> bool:
        """Whether nothing may be taken any more."""
        return self.began

    def _run(self) -> None:
        order: Order | None = self._orders.get()
        self._began = time.monotonic()
        self._killed_at = self._began + self.grace.kill_seconds
        threading.Thread(target=self.leave, name="leave", daemon=True).start()
        if order == "drain":
            order = self._warm()
        if order == "give_back":
            self._cold()
        self._die()

    def _warm(self) -> Order | None:
        """What comes after SIGTERM: the order that ended it, None where the time did."""
        drained = self._began + self.grace.drain_seconds
        order = self._next(lambda: drained)
        if order is not None:
            return order
        log.info("what still runs is given back")
        self.notice.give()
        self._said = float("-inf")
        self._ends = self._began + self.grace.end_seconds
        return self._next(self._end_of_plain_tasks)

    def _end_of_plain_tasks(self) -> float:
        """The process has to end so soon after the last plain task, and not before it."""
        plain, now = self.plain(), time.monotonic()
        if plain:
            self._ends = max(self._ends, now + STOP_SECONDS)
            self._killed_at = self._ends + RESTORE_SECONDS
            self._say_who_is_awaited(plain, now)
        return self._ends

    def _say_who_is_awaited(self, plain: list[Any], now: float) -> None:
        if now < self._said + SAY_SECONDS:
            return
        self._said = now
        tasks = [f"{each.name}[{each.id}]" for each in plain]
        log.warning("past its grace this worker waits for plain tasks to end", tasks=tasks)
        try:
            finishing.begin(self.data_dir)
        except OSError as error:
            log.warning("whoever supervises this worker may kill it meanwhile", error=str(error))

    def _cold(self) -> None:
        """What comes after SIGQUIT, and after a second SIGINT."""
        seconds = self.soft.seconds
        if seconds > 0 and (self.soft.on_idle or running_requests()):
            log.warning("soft shutdown: what runs may end", seconds=seconds)
            over = time.monotonic() + seconds
            self._killed_at = over + self.grace.seconds
            self._next(lambda: over if self.soft.on_idle or running_requests() else 0.0)
        self.waits_idle = False
        log.info("what still runs is given back")
        self.notice.give()
        ends = time.monotonic() + self.grace.stop_seconds
        self._killed_at = ends + RESTORE_SECONDS
        self._next(lambda: ends, spares_plain_tasks=False)

    def _next(
        self, until: Callable[[], float], *, spares_plain_tasks: bool = True
    ) -> Order | None:
        """The next order that changes something; None where the time is over first."""
        while (left := until() - time.monotonic()) > 0:
            self._have_the_kernel_watch(spares_plain_tasks)
            try:
                order = self._orders.get(timeout=min(left, LOOK_SECONDS))
            except Empty:
                continue
            if order != "drain":
                return order
        return None

    def _have_the_kernel_watch(self, spares_plain_tasks: bool) -> None:
        """Threads stand still where C code keeps the interpreter's lock, and while it is taken
        down: then the kernel ends the process, unless that would cut a plain task."""
        left = max(0.01, self._killed_at - time.monotonic())
        spared = spares_plain_tasks and bool(self.plain())
        signal.setitimer(signal.ITIMER_REAL, 0 if spared else left)

    def _die(self) -> None:
        """End the process though something in it does not. Its messages go back first, in so far
        as Redis answers; else they do so when nobody renews them any more."""
        log.warning("not all tasks could be stopped in time; this process ends now")
        lost = [f"{each.name}[{each.id}]" for each in self.plain() if each.acknowledged]
        if lost:
            log.error("plain tasks that were acknowledged early are cut, and lost", tasks=lost)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        # What runs in threads would go on beside whoever gets it next, but for a moment.
        for last in (self.hand_over, self.restore):
            thread = threading.Thread(target=last, daemon=True)
            thread.start()
            thread.join(RESTORE_SECONDS)
        finishing.end(self.data_dir)
        sys.stdout.flush()
        os._exit(EX_FAILURE)


def ending_step(ending: Ending) -> type[bootsteps.StartStopStep]:
    """The part of a worker that listens to signals, from when its pool has started."""

    class EndingStep(bootsteps.StartStopStep):
        """Also hears of an end that came without a signal, such as a remote command."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            conf = worker.app.conf
            ending.soft = SoftShutdown(
                float(conf.worker_soft_shutdown_timeout or 0),
                bool(conf.worker_enable_soft_shutdown_on_idle),
            )
            finishing.end(ending.data_dir)
            ending.start()
            # Sent by Celery's handlers of SIGTERM and of the first SIGINT.
            worker_shutting_down.connect(lambda **_: ending.order("drain"), weak=False)
            # Python looks at all its objects when it ends, which takes a busy machine seconds.
            worker_shutdown.connect(lambda **_: gc.freeze(), weak=False)
            worker_shutdown.connect(lambda **_: finishing.end(ending.data_dir), weak=False)
            _listen(worker, ending)

        def close(self, worker: Any) -> None:
            ending.order("drain")

        def stop(self, worker: Any) -> None:
            """The pool's own stop waits for its tasks, where there are any."""
            while ending.waits_idle:
                time.sleep(LOOK_SECONDS)

        terminate = stop

    return EndingStep


def _listen(worker: Any, ending: Ending) -> None:
    """Put Fleet's cold shutdown in the place of Celery's, which kills children and cannot stop
    threads. Celery's handlers stay around it: they say what goes on and stop the consumer."""

    def first_interrupt(_: Any) -> None:
        handlers.safe_say(
            "worker: Ctrl+C again gives back what runs, and cuts plain tasks", sys.__stdout__
        )
        _install(worker, "SIGINT", give_back)

    def give_back(_: Any) -> None:
        handlers.safe_say("worker: giving back what runs; once more ends it", sys.__stdout__)
        ending.order("give_back")
        for name in cold:
            _install(worker, name, die)

    def die(_: Any) -> None:
        ending.order("die")

    remapped = ("SIGTERM",) if handlers.REMAP_SIGTERM == "SIGQUIT" else ()
    cold = ("SIGINT", "SIGQUIT", *remapped)
    handlers.install_worker_int_handler(worker, callback=first_interrupt)
    for name in ("SIGQUIT", *remapped):
        _install(worker, name, give_back)


def _install(worker: Any, name: str, callback: Callable[[Any], None]) -> None:
    handlers.install_worker_term_hard_handler(
        worker, sig=name, how="Warm", callback=callback, verbose=False
    )
