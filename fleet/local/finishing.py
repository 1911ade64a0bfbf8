"""Workers past their grace period that finish plain Celery tasks, which cannot be requeued.

Such a worker creates an empty file in the data folder, named after its process id. `fleet up`,
which supervises it, and `fleet down` read the folder.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from fleet.settings.data_folder import make_private

FOLDER = "finishing"


def begin(data_dir: Path) -> None:
    """Announce that this process finishes such tasks. Raises `OSError` if the file fails."""
    folder = make_private(data_dir) / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()


def end(data_dir: Path) -> None:
    """Withdraw the announcement of this process, if there is one."""
    with suppress(OSError):
        (data_dir / FOLDER / str(os.getpid())).unlink(missing_ok=True)


def process_groups(data_dir: Path) -> set[int]:
    """The process groups of announced processes. Files of killed processes are removed."""
    found = set()
    folder = data_dir / FOLDER
    for file in folder.iterdir() if folder.is_dir() else ():
        try:
            found.add(os.getpgid(int(file.name)))
        except (ProcessLookupError, ValueError):
            file.unlink(missing_ok=True)
    return found
