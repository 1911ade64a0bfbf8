"""Runs untrusted Python programs within limits and without access to the host.

`await run_python("print(1 + 1)")` returns a `SandboxResult` with the program's end, its output, and
the kind of isolation.
"""

from fleet.sandbox.isolation import DESCRIPTIONS, isolation_for
from fleet.sandbox.limits import Isolation, KilledBy, Mode, SandboxLimits, SandboxResult
from fleet.sandbox.run import StdioChannel, channels, run_python

__all__ = [
    "DESCRIPTIONS",
    "Isolation",
    "KilledBy",
    "Mode",
    "SandboxLimits",
    "SandboxResult",
    "StdioChannel",
    "channels",
    "isolation_for",
    "run_python",
]
