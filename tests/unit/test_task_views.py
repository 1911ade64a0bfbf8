"""What `fleet task`, `explain` and `tasks` show of a task's money."""

from __future__ import annotations

import json
from io import StringIO

from rich.console import Console, RenderableType

from fleet.cli.decision import money_view
from fleet.cli.rows import table
from fleet.cli.task_view import TASKS, money_json, record_json, record_view
from fleet.models.rules.usage import MISSING, UNPRICED
from fleet.tasks.model_call import ModelCall
from fleet.tasks.record import TaskRecord, parse_record

REFUSAL = "tenant:acme|d|1|5000000000|4900000000|0|200000000|3600000"
WHY = (
    "Budget exceeded for tenant acme: limit $5 per UTC day, $4.9 spent, $0 reserved, $0.2 requested"
)


def record(state: str, **fields: str) -> TaskRecord:
    return parse_record("task-1", {"state": state, "tenant": "acme", **fields})


def shown(*parts: RenderableType) -> str:
    screen = Console(file=StringIO(), width=400)
    screen.print(*parts)
    assert isinstance(screen.file, StringIO)
    return " ".join(screen.file.getvalue().split())


def test_a_parked_task_says_what_it_waits_for_and_until_when() -> None:
    parked = record("parked", parked_for=REFUSAL, parked_until="1764000000000")
    for view in (shown(record_view(parked)), shown(*money_view(parked))):
        assert "until about 2025-11-2" in view
        assert WHY in view
    assert "parked to 2025-11-2" in shown(table([parked], TASKS))
    told = money_json(parked)["waits_for"]
    assert (told["sentence"], told["until"], told["limit"]) == (WHY, 1764000000.0, 5_000_000_000)


def test_a_task_that_waits_no_longer_says_nothing_of_it() -> None:
    cancelled = record("cancelled", parked_for=REFUSAL, parked_until="1764000000000")
    assert money_view(cancelled) == []
    assert WHY not in shown(record_view(cancelled))
    assert record_json(cancelled)["waits_for"] is None


def test_a_task_says_why_its_money_is_not_held_for_the_best_model() -> None:
    lower = record("running", chosen="gpt-4o", because="dear|gpt-5|250000000")
    why = "gpt-4o, since gpt-5 would cost $0.25, over the downgrade threshold"
    assert why in shown(record_view(lower))
    assert shown(*money_view(lower)) == f"Money: reserved for {why}"
    told = record_json(lower)
    assert (told["held_for"], told["because"]) == ("gpt-4o", why.partition("since ")[2])


def test_costs_that_are_not_known_are_shown_as_such() -> None:
    lost = ModelCall("gpt-5", "openai", "first", "lost", 70, 0, 100, 5_000_000, usage=MISSING)
    free = ModelCall("odd", "openai", "again", "ok", 70, 0, 100, 0, usage=UNPRICED)
    stored = {f"step:{n}": f"1764000000000 {s.stored}" for n, s in enumerate((lost, free), 1)}
    view = shown(record_view(record("failed", steps="2", uncertain_calls="2", **stored)))
    assert "lost 70 0 100 <= $0.005" in view
    assert "ok 70 0 100 no price" in view
    assert "2 calls with unknown usage" in view


def test_what_is_told_to_programs_can_be_written_as_json() -> None:
    parked = record("parked", parked_for=REFUSAL, parked_until="1764000000000")
    assert json.loads(json.dumps(record_json(parked)))["state"] == "parked"
