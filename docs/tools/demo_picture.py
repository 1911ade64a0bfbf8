"""Draws docs/demo.svg: runs the tasks of `fleet demo` on a real fleet and records the output.

    make picture

The picture holds the table of the tasks, the first result and the first decision. Times and ids
are those of this run.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from fleet import Fleet
from fleet.cli.decision import decision_view
from fleet.cli.demo import demo_tasks
from fleet.cli.demo_fleet import DemoFleet, demo_fleet, show_start, show_work, work_table
from fleet.cli.output import console
from fleet.cli.plain_console import PlainConsole
from fleet.cli.task_view import result_view
from fleet.settings import load_settings

PICTURE = Path(__file__).parents[1] / "demo.svg"
COLUMNS = 132
WORK_SECONDS = 150.0


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.dict("os.environ", FLEET_DATA_DIR=folder),
        demo_fleet(load_settings()) as started,
    ):
        picture = draw(started)
    PICTURE.write_text(picture.export_svg(title="make demo"))


def draw(started: DemoFleet) -> PlainConsole:
    """Run the tasks of the demo, and record the picture on the returned console."""
    show_start(console(), started.parts_until_healthy(), started.began)
    fleet = Fleet.from_env()
    chosen, _ = demo_tasks(Path(fleet.settings.config.agents.read_roots[0]))
    tasks = [
        fleet.submit(each.request_type, each.payload, tenant="demo", complexity=each.complexity)
        for each in chosen
    ]
    records = show_work(console(), chosen, tasks, time.monotonic() + WORK_SECONDS)
    picture = PlainConsole(record=True, width=COLUMNS, file=io.StringIO())
    picture.print(work_table(chosen, records))
    picture.print(f"\n{chosen[0].title}: {records[0].state}")
    picture.print(result_view(records[0].agent_type, records[0].result, None))
    picture.print(f"\nWhy the task {chosen[0].title!r} got its pool and its model")
    picture.print(decision_view(tasks[0].decision, tasks[0].model_decision))
    return picture


if __name__ == "__main__":
    main()
