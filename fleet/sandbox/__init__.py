"""Runs Python programs that nobody has read, within limits and without anything of the host.

`await run_python("print(1 + 1)")` gives a `SandboxResult` that says how the program ended, what
it wrote, and in which kind of isolation it ran.
"""

from fleet.sandbox.isolation import DESCRIPTIONS, isolation_for
from fleet.sandbox.limits import Isolation, KilledBy, Mode, SandboxLimits, SandboxResult
from fleet.sandbox.run import Channel, channels, run_python

__all__ = [
    "DESCRIPTIONS",
    "Channel",
    "Isolation",
    "KilledBy",
    "Mode",
    "SandboxLimits",
    "SandboxResult",
    "channels",
    "isolation_for",
    "run_python",
]
