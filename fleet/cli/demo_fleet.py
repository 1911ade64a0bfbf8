"""The fleet of a demo: `fleet up` as a child, with its output in a file."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.cli.status import look
from fleet.errors import Unavailable
from fleet.local.run_file import already_running, make_data_dir, running
from fleet.local.supervisor import end_with_parent
from fleet.settings import Settings, load_settings

if TYPE_CHECKING:
    from fleet.operations.health import Part

START_SECONDS = 90.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.25
LAST_LINES = 15


@dataclass(frozen=True, slots=True)
class Login:
    """What opens Flower."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class DemoFleet:
    """A fleet that was started for the demo, at `began` by the monotonic clock."""

    began: float
    process: subprocess.Popen[bytes]
    log: Path
    login: Login

    def parts_until_healthy(self) -> Iterator[list[Part]]:
        """Every look at the parts until all are well, that one included.

        Raises `Unavailable`, with the end of the log, where the fleet ends or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._still_there(deadline)
            settings = load_settings()
            parts = look(settings) if running(settings.environment.data_dir) else []
            yield parts
            if parts and all(part.ok for part in parts):
                return
            time.sleep(POLL_SECONDS)

    def _still_there(self, deadline: float) -> None:
        ended = self.process.poll()
        late = time.monotonic() > deadline
        if ended is None and not late:
            return
        reason = f"was not healthy within {START_SECONDS:.0f} s" if late else "ended"
        raise Unavailable(f"the fleet {reason}; the end of {self.log}:\n{_tail(self.log)}")


@contextmanager
def demo_fleet(settings: Settings) -> Iterator[DemoFleet]:
    """Start a fleet and stop it, with all its processes, when the block ends in any way.

    Raises `RetryLater` where one is running in the data folder already.
    """
    data_dir = settings.environment.data_dir
    if running(data_dir):
        raise already_running(data_dir)
    log = make_data_dir(settings) / "logs" / "up.log"
    log.parent.mkdir(mode=0o700, exist_ok=True)
    login = _login(settings)
    began = time.monotonic()
    process = _start(log, login)
    try:
        yield DemoFleet(began, process, log, login)
    finally:
        _stop(process, settings.config.workers.grace_seconds + STOP_SECONDS)


def _login(settings: Settings) -> Login:
    given = settings.environment.flower_password
    password = given.get_secret_value() if given else secrets.token_urlsafe(12)
    return Login(settings.environment.flower_user, password)


def _start(log: Path, login: Login) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "fleet", "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "FLEET_FLOWER_PASSWORD": login.password},
            # Ctrl-C is for the demo, which then stops its fleet in order.
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
        )


def _stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        # Its children die with it, see `end_with_parent`.
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as lines:
        return "".join(deque(lines, LAST_LINES)).rstrip()
