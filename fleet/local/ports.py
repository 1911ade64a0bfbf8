"""TCP ports on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack

from fleet.errors import RetryLater

LOOPBACK = "127.0.0.1"


def pick_ports(wanted: Mapping[str, int]) -> dict[str, int]:
    """A port for each variable: the one it asks for, or a free one where it says 0.

    All ports are held until the last is found, so that none is given twice. Raises
    `RetryLater`, naming the variable, where a wanted port is in use.
    """
    chosen: dict[str, int] = {}
    with ExitStack() as held:
        # Wanted ports first, or a free one could be just the one wanted next.
        for variable, port in sorted(wanted.items(), key=lambda pair: pair[1] == 0):
            listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            chosen[variable] = _hold(listener, variable, port)
    return chosen


def _hold(listener: socket.socket, variable: str, port: int) -> int:
    # Without this a port counts as in use for a minute after its last connection.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()
    except OSError as error:
        raise RetryLater(
            f"{variable}: port {port} cannot be used ({error.strerror}); stop what listens there, "
            f"set {variable} to another port, or unset it to have a free one picked"
        ) from error
    return int(listener.getsockname()[1])
