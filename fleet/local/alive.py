"""A file in the data folder shows that a process without HTTP lives.

Kubernetes looks how old `alive/NAME` is, which costs no start of Python: see charts/fleet. The file
says nothing about Redis, because a restart does not help while Redis is away.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fleet.settings.data_folder import make_private

FOLDER = "alive"


def show_alive(data_dir: Path, name: str) -> None:
    """Touch the file. A full disk does not stop the process."""
    with suppress(OSError):
        folder = make_private(data_dir) / FOLDER
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
