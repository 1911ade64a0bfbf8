"""Runs one program under Landlock and seccomp, and ends as it ended.

This file is not imported: its text is what the supervisor starts (`python -c`), with one JSON
argument. The library's own supervisor lives in this process, outside what it confines.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    order = json.loads(sys.argv[1])
    # The library looks for a home when it is imported, and a user of the moment has none.
    os.environ["HOME"] = order["environment"]["TMPDIR"]
    from sandlock import Sandbox, StdioMode

    sandbox = Sandbox(**order["policy"], env=order["environment"])
    inherit = StdioMode.INHERIT
    result = sandbox.popen(order["program"], stdin=inherit, stdout=inherit, stderr=inherit).wait()
    if result.exit_code < 0:
        # Where SIGKILL ended it, by the library's own hand or not, the library names no signal.
        number = signal.Signals(result.signal if result.signal > 0 else signal.SIGKILL)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(result.exit_code)


if __name__ == "__main__":
    main()
