"""A network between a worker and its Redis, which the test takes away.

    with Proxy(port) as proxy:      # connect to proxy.port
        proxy.drop_packets()        # nothing arrives any more, in either direction; nobody is told
        proxy.held_up()             # how many calls have come since
        proxy.cut()                 # the same, and whoever is connected is told
        proxy.heal()                # what was on its way arrives, late, as TCP has it
        proxy.lose_an_answer()      # the next answer does not arrive, and its connection is cut
        proxy.lose_an_answer(1)     # that is passed on, and the one after it does not arrive
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK = 65536


class Proxy:
    """Passes on TCP connections to a port of this machine."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._open = threading.Event()
        self._open.set()
        self._losing = threading.Event()
        self._before_it = 0
        self._held_up = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        found: int = self._listener.getsockname()[1]
        return found

    def drop_packets(self) -> None:
        self._held_up = 0
        self._open.clear()

    def held_up(self) -> int:
        """How many calls, or connections for one, have come since the network is away."""
        return self._held_up

    def cut(self) -> None:
        """Connections break, and new ones are not answered."""
        self.drop_packets()
        for each in self._sockets:
            _close(each)

    def heal(self) -> None:
        self._open.set()

    def lose_an_answer(self, after: int = 0) -> None:
        self._before_it = after
        self._losing.set()

    def take_no_more(self) -> None:
        """New connections are refused from now on."""
        _close(self._listener)

    def has_lost_it(self) -> bool:
        return not self._losing.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.set()
        for each in (self._listener, *self._sockets):
            _close(each)
        self._thread.join(timeout=5)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._wait_until_open()
                far = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [near, far]
                for ways in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pass_on, args=ways, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                self._wait_until_open(answers)
                if answers and self._losing.is_set():
                    self._before_it -= 1
                    if self._before_it < 0:
                        self._losing.clear()
                        break
                sink.sendall(chunk)
        self._open.wait()
        _close(source)
        _close(sink)

    def _wait_until_open(self, is_answer: bool = False) -> None:
        if not is_answer and not self._open.is_set():
            self._held_up += 1
        self._open.wait()


def _close(found: socket.socket) -> None:
    with suppress(OSError):
        found.shutdown(socket.SHUT_RDWR)
    found.close()
