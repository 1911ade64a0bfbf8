"""The run file: what a running `fleet up` writes about itself for other terminals.

It holds the broker's password and is readable by its owner alone. One data folder has at
most one, whose process is told from a later one with the same id by when it started.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

from fleet.errors import InvalidConfig, RetryLater
from fleet.settings import Settings
from fleet.settings.environment import RUN_FILE, read_run_file

CLOCK_SLACK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class RunFile:
    """`started` is when the process began, in seconds since 1970."""

    pid: int
    started: float
    broker_url: str
    model_url: str | None
    flower_url: str
    flower_user: str
    ports: Mapping[str, int]
    processes: tuple[str, ...]


def make_data_dir(settings: Settings) -> Path:
    """The data folder, made if need be, for its owner alone."""
    folder = settings.environment.data_dir
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def own_start(pid: int | None = None) -> float:
    """When a process began, this one by default; seconds since 1970."""
    return float(psutil.Process(pid).create_time())


def running(data_dir: Path) -> RunFile | None:
    """The run file of the folder, if the process that wrote it is alive."""
    found = read_run_file(data_dir)
    if found is None:
        return None
    try:
        run = TypeAdapter(RunFile).validate_python(found)
    except ValidationError as error:
        # Without the values: among them is the broker's password.
        where = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
        path = data_dir / RUN_FILE
        raise InvalidConfig(
            f"{path}: is not what `fleet up` writes, at {where}; delete it and run `fleet up` again"
        ) from None
    return run if _is_alive(run) else None


def write_run_file(data_dir: Path, run: RunFile) -> None:
    """Announce a run. Raises `RetryLater` where another one is announced already.

    The file appears complete or not at all, and never replaces another.
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
    """Take back the announcement, or that of a run that died."""
    (data_dir / RUN_FILE).unlink(missing_ok=True)


def already_running(data_dir: Path) -> RetryLater:
    """The error that says so."""
    return RetryLater(
        f"a fleet is running in {data_dir} already; stop it with `fleet down`, or set "
        "FLEET_DATA_DIR to another folder for a second one"
    )


def _is_alive(run: RunFile) -> bool:
    try:
        process = psutil.Process(run.pid)
        same = abs(process.create_time() - run.started) < CLOCK_SLACK_SECONDS
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, OverflowError, ValueError):
        # Gone, another user's, or a number that no process can have.
        return False
