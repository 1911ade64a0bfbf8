"""Selects the files of a scan: only those under the folders that agents may read.

A link that the request names is followed, and its target is checked. A link within a folder is not
followed but listed as skipped; the request can name its target.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path, PurePath

from fleet.errors import InvalidRequest, NotAllowed
from workers.security_scanner.hits import SourceFile
from workers.security_scanner.models import Skipped

LARGEST_FILE_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """The files to scan by their names in the findings, and the skipped files."""

    files: dict[str, Path]
    skipped: list[Skipped]


def select(
    paths: Iterable[str], roots: Sequence[Path], exclude: Sequence[str], max_files: int
) -> Selection:
    """Find the files to scan, in the order of the request, each folder's by name.

    Raises `NotAllowed` for a path outside `roots` once links are resolved, and
    `InvalidRequest` for one that does not exist and for more than `max_files` files.
    """
    folders = [root.resolve() for root in roots]
    selection = Selection(files={}, skipped=[])
    for target in [permitted(path, folders) for path in paths]:
        for path in _files_of(target, exclude, selection.skipped, folders):
            selection.files[display_name(path, folders)] = path
            if len(selection.files) > max_files:
                raise InvalidRequest(
                    f"the paths hold more than {max_files} files; name fewer folders, exclude "
                    "more, or raise max_files"
                )
    return selection


def permitted(path: str, folders: Sequence[Path]) -> Path:
    """The resolved path of a request. Its existence is revealed only inside `folders`."""
    if not folders:
        raise NotAllowed("agents may read no folder; name some under agents.read_roots")
    try:
        real = (folders[0] / path).resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidRequest(f"{path} cannot be resolved: its links form a loop") from error
    if not any(real.is_relative_to(folder) for folder in folders):
        raise NotAllowed(
            f"{path} is outside the folders that agents may read; name a path under one of: "
            f"{', '.join(map(str, folders))}, or add its folder to agents.read_roots"
        )
    if not real.exists():
        raise InvalidRequest(f"{path} does not exist; relative paths start at {folders[0]}")
    return real


def display_name(path: Path, folders: Sequence[Path]) -> str:
    """The path relative to the first folder, or absolute outside of it.

    Bytes of a name that are no UTF-8 are escaped, because a result is JSON.
    """
    inside = path.is_relative_to(folders[0])
    name = (path.relative_to(folders[0]) if inside else path).as_posix()
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def read(path: Path, name: str) -> SourceFile | Skipped:
    """The file as UTF-8 text. Invalid bytes are replaced, and a tool may reject the file."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return Skipped(file=name, reason="not a regular file")
        if status.st_size > LARGEST_FILE_BYTES:
            return Skipped(file=name, reason=f"larger than {LARGEST_FILE_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        return Skipped(file=name, reason=f"unreadable: {error.strerror or error}")
    if b"\0" in content:
        return Skipped(file=name, reason="a binary file")
    return SourceFile(name=name, path=str(path), lines=_lines(content), is_utf8=_is_utf8(content))


def _lines(content: bytes) -> tuple[str, ...]:
    """The lines as Python counts them, so that the tools' line numbers match."""
    text = content.decode("utf-8-sig", errors="replace")
    return tuple(StringIO(text, newline=None).read().removesuffix("\n").split("\n"))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _files_of(
    target: Path, exclude: Sequence[str], skipped: list[Skipped], folders: Sequence[Path]
) -> Iterator[Path]:
    if not target.is_dir():
        yield target
        return

    def unlisted(error: OSError) -> None:
        name = display_name(Path(error.filename), folders)
        skipped.append(Skipped(file=name, reason=f"unreadable: {error.strerror}"))

    for parent, subfolders, names in os.walk(target, onerror=unlisted):
        here = Path(parent)
        subfolders[:] = sorted(n for n in subfolders if not _excluded(here / n, target, exclude))
        files = sorted(n for n in names if not _excluded(here / n, target, exclude))
        links = [name for name in [*subfolders, *files] if (here / name).is_symlink()]
        reason = "a symbolic link; name its target to have it scanned"
        skipped += [Skipped(file=display_name(here / n, folders), reason=reason) for n in links]
        yield from (here / name for name in files if name not in links)


def _excluded(path: Path, target: Path, globs: Sequence[str]) -> bool:
    relative = PurePath(path.relative_to(target))
    candidates = (relative.name, relative.as_posix())
    return any(fnmatchcase(candidate, glob) for glob in globs for candidate in candidates)
