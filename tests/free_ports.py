"""Ports for servers of tests: of two test runs side by side each gets its own."""

from __future__ import annotations

from fleet.local.ports import pick_ports


def free_port() -> int:
    """A port that the system gives to nobody else for now. The wheel's own search takes the first
    free one of a list, which another run may take as well before the server listens."""
    return pick_ports({"PORT": 0})["PORT"]
