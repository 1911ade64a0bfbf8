"""The run file: a running `fleet up` writes its addresses into it for other terminals.

It holds the broker's password and the local model's key, and only its owner may read it. A data
folder has at most one. The start time in it tells its process from a later process with the same
id.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

from fleet.errors import InvalidConfig, RetryLater
from fleet.settings import Settings
from fleet.settings.data_folder import make_private
from fleet.settings.environment import RUN_FILE, read_run_file

CLOCK_SLACK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class RunFile:
    """`started` is when the process began, in seconds since 1970.

    `ops_url` and `model_key` are None in the file of an older version.
    """

    pid: int
    started: float
    broker_url: str = field(repr=False)
    model_url: str | None
    flower_url: str
    flower_user: str
    ports: Mapping[str, int]
    processes: tuple[str, ...]
    ops_url: str | None = None
    model_key: str | None = field(default=None, repr=False)


def make_data_dir(settings: Settings) -> Path:
    """The data folder, see `make_private`. Raises `InvalidConfig`."""
    return make_private(settings.environment.data_dir)


def own_start(pid: int | None = None) -> float:
    """The start time of a process, by default of this one, in seconds since 1970."""
    return float(psutil.Process(pid).create_time())


def running(data_dir: Path) -> RunFile | None:
    """The run file of the folder, or None if the process that wrote it is dead."""
    found = read_run_file(data_dir)
    if found is None:
        return None
    try:
        run = TypeAdapter(RunFile).validate_python(found)
    except ValidationError as error:
        # Without the values: one of them is the broker's password.
        where = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        path = data_dir / RUN_FILE
        raise InvalidConfig(
            f"{path}: invalid run file, at {where}; delete it and run `fleet up` again"
        ) from None
    return run if _is_alive(run) else None


def write_run_file(data_dir: Path, run: RunFile) -> None:
    """Write the run file atomically. It never replaces another one.

    Raises `RetryLater` if the folder already has a run file.
    """
    descriptor, name = tempfile.mkstemp(dir=data_dir, prefix=RUN_FILE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(run), file, indent=2)
        os.link(name, data_dir / RUN_FILE)
    except FileExistsError:
        raise already_running(data_dir) from None
    finally:
        Path(name).unlink()


def remove_run_file(data_dir: Path) -> None:
    """Remove the run file, also that of a dead run."""
    (data_dir / RUN_FILE).unlink(missing_ok=True)


def already_running(data_dir: Path) -> RetryLater:
    """The error for a data folder whose fleet is running."""
    return RetryLater(
        f"a fleet is already running in {data_dir}; stop it with `fleet down`, or set "
        "FLEET_DATA_DIR to another folder for a second fleet"
    )


def _is_alive(run: RunFile) -> bool:
    try:
        process = psutil.Process(run.pid)
        same = abs(process.create_time() - run.started) < CLOCK_SLACK_SECONDS
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, OverflowError, ValueError):
        # The process is gone, belongs to another user, or the number is out of range.
        return False
