"""Removes a folder that a hostile program has filled."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from fleet.telemetry.logger import get_logger

log = get_logger(__name__)
PASSES_AT_MOST = 100_000


def remove_folder(folder: Path) -> None:
    """Remove the folder and its contents. Never fails; logs a folder that cannot be removed.

    Folders without permissions get permissions first. Trees deeper than the maximum path length are
    removed from the top: the contents of a folder move up beside it before it is removed, so that
    no look-up uses more than two names.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(PASSES_AT_MOST):
            went = [_removed(top, name) for name in os.listdir(top)]  # noqa: PTH208
            if True not in went:
                break
    finally:
        os.close(top)
    try:
        folder.rmdir()
    except OSError as error:
        log.warning("removing the sandbox folder failed", folder=str(folder), error=str(error))


def _removed(top: int, name: str) -> bool:
    """Remove one entry, or move its contents up. Returns whether anything changed."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=top)
            return True
        os.chmod(name, 0o700, dir_fd=top)
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
    except OSError:
        return False
    try:
        for entry in os.listdir(inner):  # noqa: PTH208
            _lift(inner, entry, top)
    finally:
        os.close(inner)
    try:
        os.rmdir(name, dir_fd=top)
    except OSError:
        return False
    return True


def _lift(inner: int, entry: str, top: int) -> None:
    try:
        if stat.S_ISDIR(os.stat(entry, dir_fd=inner, follow_symlinks=False).st_mode):
            os.chmod(entry, 0o700, dir_fd=inner)  # a folder that moves has to be writable
            os.rename(entry, secrets.token_hex(16), src_dir_fd=inner, dst_dir_fd=top)
        else:
            os.unlink(entry, dir_fd=inner)
    except OSError:
        return
