"""TCP ports, on the loopback interface unless another address is given."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack

from fleet.errors import RetryLater

LOOPBACK = "127.0.0.1"


def pick_ports(wanted: Mapping[str, int], host: str = LOOPBACK) -> dict[str, int]:
    """A port for each variable: the wanted one, or a free one for 0.

    All ports stay bound until the last is found, so no port is given twice. Raises `RetryLater`,
    which names the variable, if a wanted port is in use.
    """
    chosen: dict[str, int] = {}
    with ExitStack() as held:
        # Wanted ports first: a free port could otherwise be one that is wanted later.
        for variable, port in sorted(wanted.items(), key=lambda pair: pair[1] == 0):
            listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            chosen[variable] = _hold(listener, variable, host, port)
    return chosen


def _hold(listener: socket.socket, variable: str, host: str, port: int) -> int:
    # Without this, a port counts as in use for a minute after its last connection.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        raise RetryLater(
            f"{variable}: port {port} cannot be used ({error.strerror}); stop what uses it, "
            f"set {variable} to another port, or unset {variable} to use a free port"
        ) from error
    return int(listener.getsockname()[1])
