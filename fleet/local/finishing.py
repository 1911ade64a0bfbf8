"""Workers that are past their grace, since they finish tasks that nobody else could run.

Such a worker leaves an empty file with the number of its process in the data folder. It shares the
folder with the `fleet up` that supervises it, and with `fleet down`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

FOLDER = "finishing"


def begin(data_dir: Path) -> None:
    """Say that this process finishes such tasks. Raises `OSError` where nothing can be written."""
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / str(os.getpid())).touch()


def end(data_dir: Path) -> None:
    """Say that this process does not, or no more."""
    with suppress(OSError):
        (data_dir / FOLDER / str(os.getpid())).unlink(missing_ok=True)


def process_groups(data_dir: Path) -> set[int]:
    """The groups of the processes that do. What a killed one left behind is removed."""
    found = set()
    folder = data_dir / FOLDER
    for file in folder.iterdir() if folder.is_dir() else ():
        try:
            found.add(os.getpgid(int(file.name)))
        except (ProcessLookupError, ValueError):
            file.unlink(missing_ok=True)
    return found
