"""What is done to plain tasks, on Fleet and on stock Celery alike; what came of it, as figures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
import redis
from celery import Celery, chord
from harness import ROOT, Processes, eventually
from sides import until
from yards import HERE, PATIENCE

Figures = dict[str, Any]

WAIT_SECONDS = 4.0
QUIET = 20.0


class PlainSide(Protocol):
    """A user's application, and workers that run its tasks in threads."""

    name: str
    app: Celery
    diary: redis.Redis

    def start(self, name: str, pool: str, **more: str) -> subprocess.Popen[bytes]: ...


@dataclass
class StockYard:
    """The user's application on stock Celery, all as it ships but for late acknowledgement."""

    app: Celery
    processes: Processes
    diary: redis.Redis
    name: str = "stock Celery"

    def start(self, name: str, pool: str, **more: str) -> subprocess.Popen[bytes]:
        arguments = ["worker", "-P", pool, "-c", "4", "-n", f"{name}@stock", "-l", "INFO"]
        with (self.processes.folder / f"{name}.log").open("ab") as log:
            found = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "stock_shop", *arguments],
                cwd=self.processes.folder,
                env={**self.processes.environment, **more},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.running[name] = found
        eventually(lambda: " ready." in self.processes.log(name), PATIENCE, f"worker {name}")
        return found


@contextmanager
def open_stock_yard(port: int, folder: Path, patch: pytest.MonkeyPatch) -> Iterator[StockYard]:
    url = f"redis://127.0.0.1:{port}/0"
    variables = {"SHOP_BROKER": url, "SHOP_DIARY": f"{url[:-1]}1"}
    variables |= {"SHOP_RESULTS": f"file://{folder}", "SHOP_TABLE": f"sqlite:///{folder}/r.db"}
    for name, value in variables.items():
        patch.setenv(name, value)
    patch.syspath_prepend(str(HERE / "shop"))
    from shop_tasks import add_tasks

    paths = os.pathsep.join((str(HERE / "shop"), str(ROOT)))
    processes = Processes(folder, {**os.environ, "PYTHONPATH": paths})
    app = Celery("shop", broker=url, backend=url, set_as_current=False)
    app.conf.update(task_default_queue="shop.default", task_acks_late=True)
    add_tasks(app)
    with redis.Redis.from_url(variables["SHOP_DIARY"], decode_responses=True) as diary:
        diary.flushall()
        try:
            yield StockYard(app, processes, diary)
        finally:
            app.backend.result_consumer.cancel_for = lambda task_id: None
            app.close()
            for process in processes.running.values():
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def revoke_what_waits(side: PlainSide) -> Figures:
    """Ten tasks wait for their time, are revoked, and a second worker starts."""
    page = uuid4().hex
    side.start("first", "threads")
    note = side.app.tasks["shop.note"]
    sent = [note.apply_async((n, page), countdown=WAIT_SECONDS) for n in range(10)]
    side.app.control.revoke([each.id for each in sent], reply=True, timeout=10, limit=1)
    side.start("second", "threads")
    note.apply_async(("after", f"{page}:after"), countdown=WAIT_SECONDS).get(timeout=PATIENCE)
    until(lambda: all(each.ready() for each in sent), QUIET)
    states = {each.state for each in sent}
    return {"revoked": 10, "ran": side.diary.llen(page), "states": sorted(states)}


def tell_to_stop(side: PlainSide, seconds: float) -> Figures:
    """A worker that runs two tasks, one acknowledged early, is told to stop; they end later."""
    page = uuid4().hex
    worker = side.start("first", "threads")
    names = ("shop.wait_for_early", "shop.wait_for_late")
    sent = [side.app.tasks[name].apply_async((page, 120.0)) for name in names]
    assert until(lambda: side.diary.llen(f"{page}:begun") == 2, PATIENCE)
    os.kill(worker.pid, signal.SIGTERM)
    went_early = not until_still(lambda: worker.poll() is None, seconds)
    side.diary.set(f"{page}:go", 1)
    until(lambda: all(each.ready() for each in sent), QUIET)
    ended = sum(each.state == "SUCCESS" for each in sent)
    return {"ran on for s": seconds, "cut": went_early, "ended": ended}


def until_still(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition held all the while."""
    return not until(lambda: not condition(), seconds)


def cut_a_count(side: PlainSide) -> Figures:
    """A worker is killed when it has stored the result of a header task and not counted it."""
    page = uuid4().hex
    worker = side.start("first", "prefork", SHOP_KILLED_BEFORE="on_chord_part_return")
    echo, note = side.app.tasks["shop.echo"], side.app.tasks["shop.note"]
    sent = chord([echo.s(n) for n in range(2)], note.s(page))()
    called = until(lambda: sent.ready(), QUIET)
    assert worker.poll() is None
    return {
        "killed": int(side.diary.llen("killed") > 0),
        "called back": side.diary.llen(page),
        "hangs": not called,
    }


def shown(row: str, side: PlainSide, figures: Figures) -> str:
    return f"| {row} | {side.name} | {', '.join(f'{k} {v}' for k, v in figures.items())} |"
