"""The ledger of a real fleet: what workers spend is in it, and a worker rolls it up."""

from __future__ import annotations

from harness import Crew, eventually

from fleet.broker.app import Role, make_app
from fleet.broker.known_tasks import ROLL_UP
from fleet.ledger.verification import verify
from fleet.tasks.connection import open_connection


def test_what_a_task_spent_is_in_the_ledger_and_rolled_up_by_a_worker(crew: Crew) -> None:
    payload = {"instruction": "Write a Python function add(a, b).", "max_tokens": 64}
    task = crew.fleet.submit("code_generation", payload, tenant="ledger")
    record = task.wait(timeout=120)
    state = open_connection(crew.fleet.settings)
    entries = [entry for entry in state.ledger.entries.newest(100) if entry.task == task.id]
    assert len(entries) == record.model_call_count > 0
    assert sum(entry.output for entry in entries) == record.output_tokens > 0
    assert {(entry.tenant, entry.agent_type, entry.pool) for entry in entries} == {
        ("ledger", "code_generator", "codegen")
    }

    make_app(crew.fleet.settings, Role("", "")).send_task(ROLL_UP)
    newest = entries[0].id
    eventually(
        lambda: state.ledger.rollups.cursor() >= newest, what="a worker to roll the ledger up"
    )
    assert verify(state.ledger).differences == ()
