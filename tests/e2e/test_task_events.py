"""What a monitor such as Flower hears of a task."""

from __future__ import annotations

from typing import Any

from harness import Crew

from fleet.broker.app import make_app

LIFE = ["task-received", "task-started", "task-succeeded"]


def test_a_monitor_is_told_of_each_step_of_a_tasks_life(crew: Crew) -> None:
    app = make_app(crew.fleet.settings)
    heard: list[dict[str, Any]] = []
    sent: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        if not sent:
            # The first event, a heartbeat, says that this monitor is heard of.
            sent.append(crew.fleet.submit("nap", {"note": "watched"}, pool="naps").id)
        if event.get("uuid") in sent:
            heard.append(event)
        receiver.should_stop = event["type"] == LIFE[-1] and event.get("uuid") in sent

    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": hear})
        receiver.capture(limit=None, timeout=30, wakeup=False)
    assert [event["type"] for event in sorted(heard, key=lambda each: each["clock"])] == LIFE
