"""Runs one program under Landlock and seccomp, and exits with the program's status.

This file is not imported. The supervisor starts its text (`python -c`) with one JSON argument. The
library's own supervisor runs in this process, outside of the confined program.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    order = json.loads(sys.argv[1])
    # The library looks for a home folder on import, and a temporary user has none.
    os.environ["HOME"] = order["environment"]["TMPDIR"]
    from sandlock import Sandbox, StdioMode

    sandbox = Sandbox(**order["policy"], env=order["environment"])
    inherit = StdioMode.INHERIT
    result = sandbox.popen(order["program"], stdin=inherit, stdout=inherit, stderr=inherit).wait()
    if result.exit_code < 0:
        # After SIGKILL, sent by the library or not, the library names no signal.
        number = signal.Signals(result.signal if result.signal > 0 else signal.SIGKILL)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(result.exit_code)


if __name__ == "__main__":
    main()
