"""The data folder, which only its owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fleet.errors import InvalidConfig

WIDE = 0o077
"""The rights of the group and of all others."""


def make_private(folder: Path) -> Path:
    """Create a folder if necessary, for its owner alone. Returns it.

    A folder that exists with wider rights is narrowed. Raises `InvalidConfig` for a folder with
    wider rights that belongs to somebody else, or that is made for all, such as /tmp; and
    `OSError`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    rights = stat.S_IMODE(found.st_mode)
    if not rights & WIDE:
        return folder
    if rights & stat.S_ISVTX:
        raise InvalidConfig(
            f"{folder}: the folder is for everybody (mode {rights:o}); set FLEET_DATA_DIR to a "
            "folder of its own"
        )
    if found.st_uid != os.geteuid():
        raise InvalidConfig(
            f"{folder}: the folder belongs to user {found.st_uid}, and others may use it (mode "
            f"{rights:o}); set FLEET_DATA_DIR to a folder of your own, or have its owner run: "
            f"chmod 700 {folder}"
        )
    folder.chmod(rights & ~WIDE)
    return folder
