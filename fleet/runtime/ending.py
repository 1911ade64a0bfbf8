"""The end of a worker: what it was told, by when, and who in it has to know.

    SIGTERM            nothing new is taken; what ends in time, ends; the rest is given back
    SIGINT             the same; a second one gives back at once, a third one ends the process
    SIGQUIT            what runs is given back at once; a second one ends the process
    the grace is over  whoever still runs is killed, and the process ends; where even that is not
                       to be had, the kernel ends it

A task that is given back runs elsewhere at once, and loses none of its attempts. As in a stock
worker, a further SIGTERM changes nothing, so whoever sends two by mistake loses nothing either.

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
from queue import Empty, SimpleQueue
from typing import Any, Literal

import psutil
import structlog
from celery import bootsteps
from celery.apps import worker as handlers
from celery.platforms import EX_FAILURE
from celery.signals import worker_shutdown, worker_shutting_down

from fleet.core.grace import Grace

Order = Literal["drain", "give_back", "die"]

RESTORE_SECONDS = 0.5

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


class Ending:
    """Ends one worker. `leave` takes it out of the registry."""

    def __init__(self, grace_seconds: float, notice: Notice) -> None:
        self.grace = Grace(grace_seconds)
        self.notice = notice
        self.began = False
        self.leave: Callable[[], None] = lambda: None
        self.restore: Callable[[], None] = lambda: None
        self._orders: SimpleQueue[Order] = SimpleQueue()

    def start(self) -> None:
        """Wait for orders, in a daemon thread."""
        threading.Thread(target=self._run, name="ending", daemon=True).start()

    def order(self, order: Order) -> None:
        """Note an order; safe in a signal handler, and as often as wanted."""
        self.began = True
        self._orders.put(order)

    def has_begun(self) -> bool:
        """Whether nothing may be taken any more."""
        return self.began

    def _run(self) -> None:
        order = self._orders.get()
        began = time.monotonic()
        # Threads stand still where C code keeps the interpreter's lock, and while it is taken down.
        signal.setitimer(signal.ITIMER_REAL, self.grace.kill_seconds)
        threading.Thread(target=self.leave, name="leave", daemon=True).start()
        if order == "drain":
            order = self._next(began + self.grace.drain_seconds)
        if order == "give_back":
            log.info("what still runs is given back")
            self.notice.give()
            stopped = time.monotonic() + self.grace.stop_seconds
            self._next(min(stopped, began + self.grace.end_seconds))
        self._die()

    def _next(self, until: float) -> Order:
        """The next order that changes something; `give_back` where the time is over first."""
        while True:
            try:
                order = self._orders.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                return "give_back"
            if order != "drain":
                return order

    def _die(self) -> None:
        """End the process though something in it does not. Its messages go back first, in so far
        as Redis answers; else they do so when nobody renews them any more."""
        log.warning("not all tasks could be stopped in time; this process ends now")
        threads = threading.Thread(target=self.restore, daemon=True)
        threads.start()
        threads.join(RESTORE_SECONDS)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        sys.stdout.flush()
        os._exit(EX_FAILURE)


def ending_step(ending: Ending) -> type[bootsteps.StartStopStep]:
    """The part of a worker that listens to signals, from when its pool has started."""

    class EndingStep(bootsteps.StartStopStep):
        """Also hears of an end that came without a signal, such as a remote command."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            ending.start()
            # Sent by Celery's handlers of SIGTERM and of the first SIGINT.
            worker_shutting_down.connect(lambda **_: ending.order("drain"), weak=False)
            # Python looks at all its objects when it ends, which takes a busy machine seconds.
            worker_shutdown.connect(lambda **_: gc.freeze(), weak=False)
            _listen(worker, ending)

        def close(self, worker: Any) -> None:
            ending.order("drain")

        def stop(self, worker: Any) -> None:
            """The pool's own stop waits for its tasks."""

        terminate = stop

    return EndingStep


def _listen(worker: Any, ending: Ending) -> None:
    """Put Fleet's cold shutdown in the place of Celery's, which kills children and cannot stop
    threads. Celery's handlers stay around it: they say what goes on and stop the consumer."""

    def first_interrupt(_: Any) -> None:
        handlers.safe_say("worker: Ctrl+C again gives back what runs", sys.__stdout__)
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
