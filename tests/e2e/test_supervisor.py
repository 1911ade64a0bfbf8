"""The supervisor of `fleet up`, and a worker that is past its grace to finish plain tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from harness import ROOT, eventually

from fleet.local import finishing

PATIENCE = 60.0

SUPERVISOR = """
import sys
from functools import partial
from pathlib import Path

from fleet.local.finishing import process_groups
from fleet.local.supervisor import Supervisor

folder = Path(sys.argv[1])
supervisor = Supervisor(0.5, finishing=partial(process_groups, folder))
for name in ("finishing", "hanging"):
    supervisor.add_process(name, f"exec {sys.executable} {folder}/{name}.py {folder}")
supervisor.loop()
"""

FINISHING = """
import signal, sys, time
from pathlib import Path

from fleet.local import finishing

folder = Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: finishing.begin(folder))
signal.signal(signal.SIGQUIT, lambda *_: (folder / "go").touch())
(folder / "up").touch()
while not (folder / "go").exists():
    time.sleep(0.02)
finishing.end(folder)
(folder / "ended").touch()
"""

HANGING = """
import signal, sys
from pathlib import Path

signal.signal(signal.SIGTERM, signal.SIG_IGN)
(Path(sys.argv[1]) / "hangs").touch()
while True:
    signal.pause()
"""


def test_a_worker_that_finishes_plain_tasks_is_not_killed_for_its_grace(tmp_path: Path) -> None:
    (tmp_path / "finishing.py").write_text(FINISHING)
    (tmp_path / "hanging.py").write_text(HANGING)
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        for name in ("up", "hangs"):
            eventually((tmp_path / name).exists, PATIENCE, name)
        process.send_signal(signal.SIGTERM)
        said = "waiting for finishing: past their grace period they finish plain Celery tasks"
        eventually(lambda: said in log.read_text(), PATIENCE, "a word of it")
        assert "sending SIGKILL to hanging" in log.read_text()
        assert len(finishing.process_groups(tmp_path)) == 1
        # The first one after a SIGTERM cuts, it does not kill.
        process.send_signal(signal.SIGINT)
        process.wait(timeout=PATIENCE)
    finally:
        (tmp_path / "go").touch()
        process.kill()
        process.wait()
    assert (tmp_path / "ended").exists()
    assert "sending SIGQUIT to finishing" in log.read_text()
    assert "sending SIGKILL to finishing" not in log.read_text()


def test_what_a_killed_worker_left_behind_counts_for_nobody(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / finishing.FOLDER).mkdir()
    (tmp_path / finishing.FOLDER / str(ended.pid)).touch()
    finishing.begin(tmp_path)
    assert finishing.process_groups(tmp_path) == {os.getpgid(0)}
    finishing.end(tmp_path)
    assert finishing.process_groups(tmp_path) == set()
    assert list((tmp_path / finishing.FOLDER).iterdir()) == []


GROWING = """
import sys, threading, time
from pathlib import Path

from fleet.local.supervisor import Supervisor

folder = Path(sys.argv[1])
supervisor = Supervisor(5.0)
command = f"exec {sys.executable} {folder}/worker.py {folder}"
supervisor.add_process("pool.1", command)

def run():
    def wait(condition):
        while not condition():
            time.sleep(0.02)
    def is_up(name):
        return (folder / f"{name}.up").exists()
    wait(lambda: is_up("pool.1"))
    supervisor.add_worker("pool.2", command, {"HONCHO_PROCESS_NAME": "pool.2"})
    wait(lambda: is_up("pool.2"))
    supervisor.end_worker("pool.2")
    wait(lambda: "pool.2" not in supervisor.workers())
    (folder / "pool.2.up").unlink()
    supervisor.add_worker("pool.2", command, {"HONCHO_PROCESS_NAME": "pool.2"})
    wait(lambda: is_up("pool.2"))
    supervisor.terminate()

threading.Thread(target=run, daemon=True).start()
supervisor.loop()
"""

WORKER = """
import os, signal, sys
from pathlib import Path

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
(Path(sys.argv[1]) / (os.environ.get("HONCHO_PROCESS_NAME", "pool.1") + ".up")).touch()
while True:
    signal.pause()
"""


def test_a_worker_comes_and_goes_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("HONCHO_PROCESS_NAME", None)
    done = subprocess.run(
        [sys.executable, "-c", GROWING, str(tmp_path)],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout.count("pool.2 started") == 2, done.stdout + done.stderr
    assert done.stdout.count("sending SIGTERM to pool.2") == 2
    assert "restarting" not in done.stdout
