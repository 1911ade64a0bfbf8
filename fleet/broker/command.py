"""Celery's commands `worker` and `beat`, run in this process.

A new process would load Python and Fleet a second time. Celery's own command line would also load
its shell, its other commands and those of all plug-ins. Together they cost a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Literal, NoReturn

APPLICATION = "workers.app"


def run_celery(
    command: Literal["worker", "beat"], arguments: Sequence[str], own: Sequence[str]
) -> NoReturn:
    """Run `celery -A workers.app COMMAND ARGUMENTS`, and exit with its status.

    `own` is the command line of Fleet's that led here. A worker that gets SIGHUP starts itself
    again with it.
    """
    from celery.app.utils import find_app
    from celery.bin.base import CLIContext

    # Celery executes Python with these arguments again.
    sys.argv = ["-m", *own]
    no_color = bool(os.environ.get("NO_COLOR")) or None
    getattr(import_module(f"celery.bin.{command}"), command).main(
        args=list(arguments),
        prog_name=f"celery {command}",
        obj=CLIContext(find_app(APPLICATION), no_color, workdir=None),
        auto_envvar_prefix=f"CELERY_{command.upper()}",
    )
    sys.exit(0)
