"""The workers of both sides, each a real process with threads, and an end to all of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from balancing_parts.load import Pool

ROOT = Path(__file__).resolve().parents[2]
SLEEPER = Path(__file__).resolve().parent / "sleeper_package"
PATIENCE_SECONDS = 5.0
SHARED_QUEUE = "shared"


class Crew:
    """A context that stops what it started, however it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._running.values():
            process.terminate()
        give_up = time.monotonic() + PATIENCE_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(0.1, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start_fleet(self, pools: Sequence[Pool], diary: Path) -> None:
        """A worker of Fleet's for each pool, of the fleet that FLEET_* here name."""
        for pool in pools:
            command = ["-m", "fleet", "service", "worker", pool.name]
            self._start(f"fleet {pool.name}", command, pool, diary)

    def start_stock(self, pools: Sequence[Pool], diary: Path, url: str) -> None:
        """A worker of stock Celery's for each pool, on the pool's queue and on the shared one."""
        for pool in pools:
            command = ["-m", "celery", "-A", "sleeper.stock", "worker", "--loglevel", "warning"]
            command += ["--pool", "threads", "--concurrency", str(pool.slots)]
            command += ["--queues", f"{pool.name},{SHARED_QUEUE}", "--hostname", f"{pool.name}@%h"]
            name = f"stock {pool.name}"
            self._start(name, command, pool, diary, {"CELERY_BROKER_URL": url})

    def fallen(self) -> str:
        """What there is to say of a process that has ended by itself; empty where none has."""
        for name, process in self._running.items():
            if process.poll() is not None:
                end = self._log(name).read_text(errors="replace")[-2000:]
                return f"{name} ended with status {process.returncode}; its log ends:\n{end}"
        return ""

    def _start(
        self,
        name: str,
        command: Sequence[str],
        pool: Pool,
        diary: Path,
        more: Mapping[str, str] | None = None,
    ) -> None:
        path = [str(SLEEPER), str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "SLEEPER_POOL": pool.name,
            "SLEEPER_SPEED": repr(pool.speed),
            "SLEEPER_DIARY": str(diary),
            **(more or {}),
        }
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the benchmark, which then stops them.
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.log"
