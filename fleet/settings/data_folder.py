"""The data folder, which only its owner may read."""

from __future__ import annotations

import os
from pathlib import Path

from fleet.errors import InvalidConfig

WIDE = 0o077
"""The rights of the group and of all others."""


def make_private(folder: Path) -> Path:
    """Create a folder if necessary, for its owner alone. Returns it.

    A folder that exists with wider rights is narrowed. Raises `InvalidConfig` if it has wider
    rights and belongs to somebody else.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_mode & WIDE:
            if found.st_uid != os.geteuid():
                raise InvalidConfig(
                    f"{folder}: the folder belongs to user {found.st_uid}, and others may use it "
                    f"(mode {found.st_mode & 0o777:o}); set FLEET_DATA_DIR to a folder of your "
                    f"own, or let its owner run: chmod 700 {folder}"
                )
            folder.chmod(found.st_mode & 0o700)
    except OSError as error:
        raise InvalidConfig(
            f"{folder}: the folder cannot be made or used ({error.strerror}); set FLEET_DATA_DIR "
            "to a folder of your own"
        ) from error
    return folder
