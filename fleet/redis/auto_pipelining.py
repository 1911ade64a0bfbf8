"""Auto-pipelining: simultaneous calls of many threads share one round trip.

A worker's threads begin and end tasks together. A separate round trip costs each thread a wait for
the socket and then one for the interpreter. Here the first caller leads: it sends its call. The
calls that arrive meanwhile form the next pipeline, led by the first of them. So no call is delayed
to fill a pipeline, and no extra thread is needed. Each call has its own answer or error.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

from hiredis import pack_command as pack
from redis import ConnectionError, ConnectionPool, ResponseError, TimeoutError

from fleet.hooks import weakly


class Undelivered(Exception):
    """The call has to be sent in another way: the connection broke before the answer came, so that
    the call may or may not have been executed, or it cannot be made from this thread now."""


@dataclass(slots=True, eq=False)
class Call:
    """One call: its answer, or its error, once it is `settled`. Its thread waits for `turn`, which
    is released when the call is settled, or when the thread has to lead."""

    packed: bytes
    turn: threading.Lock = field(default_factory=threading.Lock)
    answer: Any = None
    settled: bool = False

    def settle(self, answer: Any) -> None:
        self.answer, self.settled = answer, True


class AutoPipelining:
    """Calls over one connection of a pool; safe among threads, and across a fork."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._begin()
        # Before any thread of the child can call: the parent's leader does not exist there.
        os.register_at_fork(after_in_child=weakly(self._begin))

    def _begin(self) -> None:
        #: Whether this thread is in a call: a call of its signal handler would wait for itself.
        self._here = threading.local()
        self._guard = threading.Lock()
        self._calls: list[Call] = []
        self._leader: Call | None = None
        self._connection: Any = None

    def call(self, *command: str | bytes | int | float) -> Any:
        """The answer to a command. Raises Redis's error, an error of the connection, or
        `Undelivered`."""
        if getattr(self._here, "calls", False):
            raise Undelivered("a signal handler calls while its thread is in a call")
        call = Call(pack(command))  # type: ignore[arg-type]  # takes a tuple of any length
        self._here.calls = True
        try:
            if not self._join(call):
                call.turn.acquire()
            if not call.settled:
                self._lead(call)
        except BaseException:
            self._withdraw(call)
            raise
        finally:
            self._here.calls = False
        answer = call.answer
        if isinstance(answer, Exception):
            try:
                raise answer
            finally:
                # The error's traceback refers to this frame, and so to all callers' variables. A
                # reference cycle would keep them until the next garbage collection.
                del answer, call
        return answer

    def _join(self, call: Call) -> bool:
        """Queue a call. Whether its thread has to lead; else its turn comes."""
        call.turn.acquire()
        with self._guard:
            self._calls.append(call)
            self._leader = self._leader or call
            return self._leader is call

    def _lead(self, leader: Call) -> None:
        calls: list[Call] = []
        try:
            with self._guard:
                calls, self._calls = self._calls, []
            self._exchange(calls)
        finally:
            self._pass_on(leader, calls)

    def _exchange(self, calls: list[Call]) -> None:
        try:
            connection = self._connected()
        except Exception as error:
            _settle_rest(calls, type(error), *error.args)
            return
        try:
            connection.send_packed_command([b"".join(call.packed for call in calls)])
            for call in calls:
                call.settle(_answer(connection))
        except TimeoutError as error:
            # A retry of each would wait as long again.
            _settle_rest(calls, TimeoutError, *error.args)
        except (ConnectionError, OSError) as error:
            _settle_rest(calls, Undelivered, str(error))
        finally:
            # This is so only if the leader was interrupted.
            if not calls[-1].settled:
                connection.disconnect()
            _settle_rest(calls, Undelivered, "the thread that led was interrupted")

    def _connected(self) -> Any:
        if self._connection is None:
            self._connection = self._pool.get_connection()
        self._connection.connect()
        return self._connection

    def _pass_on(self, leader: Call, calls: list[Call]) -> None:
        """Wake the next leader, and all threads whose calls are settled."""
        with self._guard:
            following = self._follow()
        for call in following + calls:
            if call is not leader:
                call.turn.release()

    def _follow(self) -> list[Call]:
        """Make the first waiting call the leader. Returns it; the caller has to wake its thread."""
        following = self._calls[:1]
        self._leader = following[0] if following else None
        return following

    def _withdraw(self, call: Call) -> None:
        """Remove the call of an interrupted thread, as by Ctrl-C; it must not lead."""
        following: list[Call] = []
        with self._guard:
            if call in self._calls:
                self._calls.remove(call)
            if self._leader is call:
                following = self._follow()
        for each in following:
            each.turn.release()


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        # The traceback's frames refer to the calls, which will refer to the error: a cycle, see
        # `AutoPipelining.call`.
        return error.with_traceback(None)


def _settle_rest(calls: list[Call], kind: type[Exception], *reason: Any) -> None:
    for call in calls:
        if not call.settled:
            call.settle(kind(*reason))
