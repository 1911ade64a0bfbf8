"""`fleet demo --load burst`: pools grow and shrink on this machine, and nothing is lost.

A stand-in for a language model answers each call after a fixed time, so that the machine has time
for workers. It counts the calls of each task: a task whose run was cut, or that runs twice, asks
twice.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.cli.output import check_plot, new_figure, own_command, save
from fleet.errors import InvalidRequest, Unavailable
from fleet.text import unknown

if TYPE_CHECKING:
    from rich.console import Console

    from fleet import Fleet, Task
    from fleet.cli.demo_fleet import DemoFleet
    from fleet.settings import Settings
    from fleet.tasks.store import TaskRecord

POOL = "codegen"
CONFIG = """
[agent_types.code_generator]

[pools.codegen]
agent_type = "code_generator"
slots = 4
min = 1
max = 3

[request_types.code_generation]
agent_type = "code_generator"

[scaling]
seconds = 1
"""
ANSWER_SECONDS = 2.0
TASKS = 60
SAMPLE_SECONDS = 0.25
BURST_SECONDS = 180.0
CALM_SECONDS = 120.0
INCHES = (9.0, 5.5)
NUMBER = re.compile(r"task_(\d+)\b")


class Sample(NamedTuple):
    """The pool at one moment: seconds since the first, tasks, and workers."""

    seconds: float
    queued: int
    running: int
    desired: int
    ready: int


@dataclass
class StandIn:
    """A model that answers after a while. `calls` counts the calls of each task by its number."""

    calls: Counter[int] = field(default_factory=Counter)
    guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve on a free port of the loopback interface; the address of the API."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send({"object": "list", "data": []})

            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
                found = NUMBER.search(asked)
                number = int(found[1]) if found else -1
                with stand_in.guard:
                    stand_in.calls[number] += 1
                time.sleep(ANSWER_SECONDS)
                self._send(_completion(f"def task_{number}():\n    return {number}\n"))

            def _send(self, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        return Handler


def _completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"```python\n{text}```"}
    return {
        "id": "stand-in",
        "object": "chat.completion",
        "created": 0,
        "model": "stand-in",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20},
    }


def check_load(load: str) -> None:
    """Raise `InvalidRequest` for an unknown load."""
    if load != "burst":
        raise InvalidRequest(unknown("load", load, ["burst"]))


def run_burst(screen: Console, settings: Settings, bursts: int, plot: Path | None) -> bool:
    """Run the demo. Returns whether a check failed."""
    from fleet.cli.demo_fleet import demo_fleet
    from fleet.local.run_file import make_data_dir
    from fleet.settings import load_settings

    folder = make_data_dir(settings) / "demo" / "burst"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = plot or folder / "burst.png"
    check_plot(target)
    (folder / "fleet.toml").write_text(CONFIG, encoding="utf-8")
    stand_in = StandIn()
    with stand_in.serving() as url:
        variables = {
            "FLEET_CONFIG": str((folder / "fleet.toml").resolve()),
            "FLEET_DATA_DIR": str((folder / "data").resolve()),
            "FLEET_MODEL_URL": url,
        }
        with _environment(variables), demo_fleet(load_settings()) as started:
            screen.print(f"Starting a fleet; its processes log to {started.log}")
            return _run(screen, started, stand_in, bursts, target)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables, and a broker of the fleet's own."""
    before = dict(os.environ)
    os.environ.update(variables)
    os.environ.pop("FLEET_BROKER_URL", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run(
    screen: Console, started: DemoFleet, stand_in: StandIn, bursts: int, target: Path
) -> bool:
    from fleet import Fleet

    for _ in started.parts_until_healthy():
        pass
    fleet = Fleet.from_env()
    samples: list[Sample] = []
    records: list[TaskRecord] = []
    reactions: list[float] = []
    for number in range(bursts):
        screen.print(f"burst {number + 1} of {bursts}: {TASKS} tasks at once")
        tasks = _submit(fleet, number)
        _follow(fleet, samples, started.began, partial(_have_ended, tasks), BURST_SECONDS)
        found = [task.record() for task in tasks]
        reaction = _reaction(fleet, found)
        reactions += [reaction] if reaction is not None else []
        records += found
        screen.print(_burst_line(found, reaction, samples))
        _follow(fleet, samples, started.began, partial(_is_calm, fleet), CALM_SECONDS)
    _draw(samples, target)
    screen.print(f"queued, running, desired and ready over time: {target}")
    return _verdict(screen, started, stand_in, records, reactions)


def _submit(fleet: Fleet, burst: int) -> list[Task]:
    from fleet import Submission

    numbers = range(burst * TASKS, (burst + 1) * TASKS)
    payloads = [{"instruction": f"Write a function task_{n} that returns {n}."} for n in numbers]
    return fleet.submit_many(
        Submission("code_generation", payload, tenant="demo") for payload in payloads
    )


def _follow(
    fleet: Fleet,
    samples: list[Sample],
    began: float,
    is_over: Callable[[], bool],
    at_most: float,
) -> None:
    """Take samples until it is over."""
    deadline = time.monotonic() + at_most
    while True:
        (size,) = [each for each in fleet.sizes() if each.pool == POOL]
        after = time.monotonic() - began
        samples.append(
            Sample(after, size.queued, size.running, size.desired or size.ready, size.ready)
        )
        if is_over() or time.monotonic() > deadline:
            return
        time.sleep(SAMPLE_SECONDS)


def _have_ended(tasks: Sequence[Task]) -> bool:
    from fleet.tasks.store import ENDED

    return all(task.state() in ENDED for task in tasks)


def _is_calm(fleet: Fleet) -> bool:
    """Whether the pool is at its least size again, and nothing of it is about to end."""
    (size,) = [each for each in fleet.sizes() if each.pool == POOL]
    return size.desired == size.ready == size.min and not (size.starting or size.draining)


def _reaction(fleet: Fleet, records: Sequence[TaskRecord]) -> float | None:
    """Seconds from the burst until the first new worker was ready, by Redis's clock."""
    began = min(record.submitted or 0.0 for record in records)
    ready = [agent.registered for agent in fleet.agents() if agent.registered > began]
    return min(ready) - began if ready else None


def _burst_line(
    records: Sequence[TaskRecord], reaction: float | None, samples: Sequence[Sample]
) -> str:
    waits = sorted(record.wait_seconds or 0.0 for record in records)
    middle = waits[len(waits) // 2]
    grown = "no new worker" if reaction is None else f"first new worker after {reaction:.1f} s"
    most = max(sample.ready for sample in samples)
    return f"  {grown}, {most} workers at most; half of the tasks waited over {middle:.1f} s"


def _verdict(
    screen: Console,
    started: DemoFleet,
    stand_in: StandIn,
    records: Sequence[TaskRecord],
    reactions: Sequence[float],
) -> bool:
    """Check what is promised, and print each check. Returns whether one failed."""
    log = started.log.read_text(encoding="utf-8", errors="replace")
    lost = [record.id for record in records if not record.has_ended]
    lost += [str(number) for number in range(len(records)) if not stand_in.calls[number]]
    twice = [number for number, calls in stand_in.calls.items() if calls > 1]
    good = ("succeeded", "unverified")
    cut = [record.id for record in records if record.crashes or record.state not in good]
    killed = log.count("sending SIGKILL")
    ended = log.count("sending SIGTERM")
    checks = (
        (f"{len(records)} tasks submitted, {len(lost)} lost", not lost),
        (f"{len(twice)} run twice", not twice),
        (f"{len(cut)} runs cut, {ended} workers ended, {killed} killed", not (cut or killed)),
    )
    for line, is_good in checks:
        screen.print(f"{'ok    ' if is_good else 'FAILED'}  {line}")
    if reactions:
        p95 = sorted(reactions)[max(0, -(-len(reactions) * 95 // 100) - 1)]
        screen.print(f"from a burst to the first new worker ready: p95 {p95:.1f} s")
    screen.print(f"why it grew and shrank: `{own_command()} scale history` while a fleet runs")
    if not stand_in.calls:
        raise Unavailable("no task has asked the model; see the log of the fleet")
    return not all(is_good for _, is_good in checks)


def _draw(samples: Sequence[Sample], path: Path) -> None:
    """Draw tasks and workers over time as PNG."""
    drawing = new_figure(*INCHES)
    tasks, workers = drawing.subplots(2, 1, sharex=True)
    seconds = [sample.seconds for sample in samples]
    tasks.plot(seconds, [sample.queued for sample in samples], label="queued")
    tasks.plot(seconds, [sample.running for sample in samples], label="running")
    tasks.set_ylabel("tasks")
    desired = [sample.desired for sample in samples]
    workers.step(seconds, desired, where="post", label="desired", color="C2")
    workers.step(
        seconds, [sample.ready for sample in samples], where="post", label="ready", color="C3"
    )
    workers.set_ylabel("workers")
    workers.set_xlabel("seconds since the start of the fleet")
    for axes in (tasks, workers):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right")
    save(drawing, path)
