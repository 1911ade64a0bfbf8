"""The shutdown of a worker: what each signal does, and which tasks are requeued.

    SIGTERM            the worker takes no new tasks; agents' tasks may end within the grace, and
                       are requeued after it; plain tasks may run without a time limit, as in a
                       stock worker
    SIGINT             the same; a second one acts as SIGQUIT, a third one ends the process
    SIGQUIT            tasks may end within `worker_soft_shutdown_timeout`, 0 s by default; then
                       agents' tasks are requeued and plain ones are cut; a second one ends the
                       waiting, or the process
    the grace is over  agents that still run are killed, and the process exits; if it does not, the
                       kernel kills it. Not while plain tasks run

A requeued task runs elsewhere at once, and loses none of its attempts. A plain task cannot be
requeued: if its process exits, a task that is acknowledged early is lost, and one that is
acknowledged late runs again from its beginning. As in a stock worker, further SIGTERMs change
nothing, so a second one by mistake loses nothing either.

A signal may interrupt the main thread anywhere, and that thread may wait for the pool for as long
as there are tasks. So a handler only notes an order, and a thread of its own executes it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, NamedTuple

import psutil
from celery import bootsteps
from celery.apps import worker as handlers
from celery.platforms import EX_FAILURE
from celery.signals import worker_shutdown, worker_shutting_down
from celery.worker import state

from fleet.broker.known_tasks import is_plain
from fleet.local import finishing
from fleet.local.alive import show_alive
from fleet.tasks.background_loops import repeat
from fleet.telemetry.logger import get_logger
from fleet.worker.rules.grace import STOP_SECONDS, Grace

Order = Literal["drain", "requeue", "exit"]

RESTORE_SECONDS = 0.5
POLL_SECONDS = 0.2
ALIVE_SECONDS = 2.0
REPORT_SECONDS = 60.0
"""How often a worker logs for which plain tasks it waits."""

log = get_logger(__name__)


class Notice:
    """Tells each process of a worker, once, to requeue the tasks that it runs.

    It is a pipe to which nothing is written: closing it is the notice. So one notice reaches any
    number of pool children.
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
        """Have a thread call `noticed` when the notice is given. Call this once in each process."""
        if os.getpid() != self._owner:
            os.close(self._write)
        threading.Thread(target=self._wait, args=(noticed,), name="notice", daemon=True).start()

    def _wait(self, noticed: Callable[[], None]) -> None:
        os.read(self._read, 1)
        os.close(self._read)
        noticed()


class SoftShutdown(NamedTuple):
    """Celery's `worker_soft_shutdown_timeout`, in seconds, and whether an idle worker waits too
    (`worker_enable_soft_shutdown_on_idle`)."""

    seconds: float = 0.0
    on_idle: bool = False


def running_requests() -> list[Any]:
    """All tasks that run in this worker, agents' and plain ones."""
    # Other threads change the set; the interpreter makes this copy in one step.
    requests = [reference() for reference in tuple(state.active_requests.data)]
    return [request for request in requests if request is not None]


def plain_requests() -> list[Any]:
    """The running tasks that would be lost, or begin anew, if this process exited: not those of
    agents, which are requeued, and not Fleet's own jobs, which beat sends again."""
    return [each for each in running_requests() if is_plain(each.task)]


class Shutdown:
    """Shuts down one worker.

    `leave` takes it out of the registry. `soft` holds Celery's settings. `requeue_running` requeues
    the agents' tasks that have not stopped when the process exits. `restore` requeues the messages
    that the worker holds. A file in `data_dir` shows that the worker takes longer than its grace.
    """

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
        #: Whether the process waits even if it runs no task.
        self.waits_idle = False
        self.began = False
        self.leave: Callable[[], None] = lambda: None
        self.requeue_running: Callable[[], None] = lambda: None
        self.restore: Callable[[], None] = lambda: None
        self._orders: SimpleQueue[Order] = SimpleQueue()

    def start(self) -> None:
        """Wait for orders, in a daemon thread."""
        threading.Thread(target=self._run, name="shutdown", daemon=True).start()

    def order(self, order: Order) -> None:
        """Note an order. Safe in a signal handler, and may be called repeatedly."""
        self.began = True
        if order == "requeue":
            self.waits_idle = self.soft.on_idle and self.soft.seconds > 0
        self._orders.put(order)

    def has_begun(self) -> bool:
        """Whether the worker takes no more tasks."""
        return self.began

    def _run(self) -> None:
        order: Order | None = self._orders.get()
        self._began = time.monotonic()
        self._killed_at = self._began + self.grace.kill_seconds
        threading.Thread(target=self.leave, name="leave", daemon=True).start()
        if order == "drain":
            order = self._warm_shutdown()
        if order == "requeue":
            self._cold_shutdown()
        self._exit()

    def _warm_shutdown(self) -> Order | None:
        """Shut down after SIGTERM. Returns the order that ended it, None if the time did."""
        drained = self._began + self.grace.drain_seconds
        order = self._next(lambda: drained)
        if order is not None:
            return order
        log.info("requeueing running tasks")
        self.notice.give()
        self._reported_at = float("-inf")
        self._ends = self._began + self.grace.end_seconds
        return self._next(self._end_of_plain_tasks)

    def _end_of_plain_tasks(self) -> float:
        """When the process has to exit: never before its last plain task, and soon after it."""
        plain, now = self.plain(), time.monotonic()
        if plain:
            self._ends = max(self._ends, now + STOP_SECONDS)
            self._killed_at = self._ends + RESTORE_SECONDS
            self._report_plain_tasks(plain, now)
        return self._ends

    def _report_plain_tasks(self, plain: list[Any], now: float) -> None:
        if now < self._reported_at + REPORT_SECONDS:
            return
        self._reported_at = now
        tasks = [f"{each.name}[{each.id}]" for each in plain]
        log.warning("grace is over, waiting for plain tasks to end", tasks=tasks)
        try:
            finishing.begin(self.data_dir)
        except OSError as error:
            log.warning("supervisor not informed, it may kill this worker", error=str(error))

    def _cold_shutdown(self) -> None:
        """Shut down after SIGQUIT, or after a second SIGINT."""
        seconds = self.soft.seconds
        if seconds > 0 and (self.soft.on_idle or running_requests()):
            log.warning("soft shutdown: waiting for running tasks to end", seconds=seconds)
            over = time.monotonic() + seconds
            self._killed_at = over + self.grace.seconds
            self._next(lambda: over if self.soft.on_idle or running_requests() else 0.0)
        self.waits_idle = False
        log.info("requeueing running tasks")
        self.notice.give()
        ends = time.monotonic() + self.grace.stop_seconds
        self._killed_at = ends + RESTORE_SECONDS
        self._next(lambda: ends, spares_plain_tasks=False)

    def _next(
        self, until: Callable[[], float], *, spares_plain_tasks: bool = True
    ) -> Order | None:
        """The next order that changes something; None if the time is over first."""
        while (left := until() - time.monotonic()) > 0:
            self._set_kernel_timer(spares_plain_tasks)
            try:
                order = self._orders.get(timeout=min(left, POLL_SECONDS))
            except Empty:
                continue
            if order != "drain":
                return order
        return None

    def _set_kernel_timer(self, spares_plain_tasks: bool) -> None:
        """Have the kernel kill the process if its threads cannot run, unless that would cut a plain
        task. Threads cannot run while C code holds the interpreter's lock, or while the interpreter
        exits."""
        left = max(0.01, self._killed_at - time.monotonic())
        spared = spares_plain_tasks and bool(self.plain())
        signal.setitimer(signal.ITIMER_REAL, 0 if spared else left)

    def _exit(self) -> None:
        """Exit the process although some tasks have not stopped. Its messages are requeued first,
        if Redis answers; else they are requeued when their renewal stops."""
        log.warning("not all tasks stopped in time; this process exits now")
        lost = [f"{each.name}[{each.id}]" for each in self.plain() if each.acknowledged]
        if lost:
            log.error("plain tasks that were acknowledged early are cut, and lost", tasks=lost)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        # Tasks in threads would run beside their next run, but only for a moment.
        for last in (self.requeue_running, self.restore):
            thread = threading.Thread(target=last, daemon=True)
            thread.start()
            thread.join(RESTORE_SECONDS)
        finishing.end(self.data_dir)
        sys.stdout.flush()
        os._exit(EX_FAILURE)


def shutdown_step(shutdown: Shutdown) -> type[bootsteps.StartStopStep]:
    """The boot step of a worker that handles signals, once its pool has started."""

    class ShutdownStep(bootsteps.StartStopStep):
        """Also handles a shutdown without a signal, such as by a remote command."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            conf = worker.app.conf
            shutdown.soft = SoftShutdown(
                float(conf.worker_soft_shutdown_timeout or 0),
                bool(conf.worker_enable_soft_shutdown_on_idle),
            )
            finishing.end(shutdown.data_dir)
            shutdown.start()
            # Also while the consumer has lost Redis, and while the worker drains.
            shows = partial(show_alive, shutdown.data_dir, "worker")
            shows()
            repeat("alive", shows, ALIVE_SECONDS, ALIVE_SECONDS).start()
            # Sent by Celery's handlers of SIGTERM and of the first SIGINT. One may interrupt the
            # other, and each takes the signal's lock.
            worker_shutting_down.lock = threading.RLock()
            worker_shutting_down.connect(lambda **_: shutdown.order("drain"), weak=False)
            # Python scans all its objects at exit, which takes seconds on a busy machine.
            worker_shutdown.connect(lambda **_: gc.freeze(), weak=False)
            worker_shutdown.connect(lambda **_: finishing.end(shutdown.data_dir), weak=False)
            _listen(worker, shutdown)

        def close(self, worker: Any) -> None:
            shutdown.order("drain")

        def stop(self, worker: Any) -> None:
            """Wait if idle; if there are tasks, the pool's own stop waits for them."""
            while shutdown.waits_idle:
                time.sleep(POLL_SECONDS)

        terminate = stop

    return ShutdownStep


def _listen(worker: Any, shutdown: Shutdown) -> None:
    """Replace Celery's cold shutdown, which kills children and cannot stop threads, by Fleet's.
    Celery's handlers stay around it: they print messages and stop the consumer."""

    def first_interrupt(_: Any) -> None:
        handlers.safe_say(
            "worker: Ctrl+C again requeues agents' tasks and cuts plain ones", sys.__stdout__
        )
        _install(worker, "SIGINT", requeue)

    def requeue(_: Any) -> None:
        handlers.safe_say("worker: requeueing tasks; Ctrl+C again exits at once", sys.__stdout__)
        shutdown.order("requeue")
        for name in cold:
            _install(worker, name, exit_now)

    def exit_now(_: Any) -> None:
        shutdown.order("exit")

    remapped = ("SIGTERM",) if handlers.REMAP_SIGTERM == "SIGQUIT" else ()
    cold = ("SIGINT", "SIGQUIT", *remapped)
    handlers.install_worker_int_handler(worker, callback=first_interrupt)
    for name in ("SIGQUIT", *remapped):
        _install(worker, name, requeue)


def _install(worker: Any, name: str, callback: Callable[[Any], None]) -> None:
    handlers.install_worker_term_hard_handler(
        worker, sig=name, how="Warm", callback=callback, verbose=False
    )
