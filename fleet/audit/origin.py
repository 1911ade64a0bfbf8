"""Who acts and from where, for the audit."""

from __future__ import annotations

import os
import socket
from getpass import getuser
from typing import NamedTuple


class Origin(NamedTuple):
    """Who acts: a user, a tenant's token or an agent; and where: host and process."""

    by: str
    where: str


def origin_here(by: str = "") -> Origin:
    """The origin of what this process does; by default by the operating system's user."""
    return Origin(by or user(), f"{socket.gethostname()}:{os.getpid()}")


def user() -> str:
    """The user of the operating system; the user id if a container does not know the user."""
    try:
        return getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
