"""Every command shows rows whose text is hostile: none fails, and none hands on what acts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import redis
from malformed_messages import good_message
from typer.testing import CliRunner

from fleet import Fleet
from fleet.broker.messages import message_encoder
from fleet.cli.main import app
from fleet.ledger.rules.entries import LedgerEntry
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.submission.checks import Submission

ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
HOSTILE = (
    "[red]",
    "[/]",
    "[/red]",
    "[link=https://example.org]x",
    "[bold",
    "[[]]",
    "\\[red]",
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b31m",
    "a\rb",
    "a\nb",
    "a\u2028b",
    "\u202eevil",
    "\x01\x7f",
    ":smile:",
    "%s {} {0}",
    "$\\frac{$",
)
FINDING = {"id": "F1", "severity": "high", "cwe": 79, "line": 1, "file": "f", "message": "m"}
RESULTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "code_generator": lambda text: {
        "code": text,
        "verified": False,
        "tests_run": True,
        "asserts_passed": 1,
        "attempts": [{"code": text, "message": text}],
    },
    "security_scanner": lambda text: {
        "findings": [{**FINDING, "id": text, "file": text, "message": text}],
        "counts": {text: 1},
        "files_scanned": 1,
        "triage": {"written_by": text, "text": text},
    },
    "performance_tester": lambda text: {
        "confidence": 0.95,
        "timings": [
            dict.fromkeys(("median", "median_low", "median_high", "p95", "spread"), 0.1)
            | {"name": text}
        ],
        "comparisons": [
            {"verdict": "faster", "ratio": 1.0, "low": 1.0, "high": 1.0, "name": text}
            | {"reference": text}
        ],
        "same_result": False,
    },
}
WINDOWS = "h2026112421,d20261124,m202611"
ASK = Submission("code_generation", {"instruction": "add"})


@pytest.fixture
def connection(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    pool = '[pools.codegen]\nagent_type = "code_generator"\nslots = 2'
    found = open_connection(settings_of(pool))
    found.routing.agents.register("codegen-1", "codegen", 2, {})
    return found


@pytest.fixture
def ids(connection: Connection, client: redis.Redis) -> list[str]:
    """One task for each hostile text, with it in every field, and all else that commands show."""
    done = connection.submitter(message_encoder()).submit_many([ASK] * len(HOSTILE))
    found = [each.task_id for each in done]
    types = list(RESULTS)
    for number, (task_id, text) in enumerate(zip(found, HOSTILE, strict=True)):
        _rewrite(client, connection.keys.task(task_id), text, types[number % len(types)])
        client.zadd(connection.keys.dead, {task_id: 1})
        connection.routing.agents.register(
            f"agent {text}", "codegen", 2, {"host": text, "pid": "1"}
        )
        connection.tasks.set_aside.keep(text, text.encode(), text)
        client.xadd(connection.keys.ledger, entry(task_id, text).fields)  # type: ignore[arg-type]
        cause = AuditActor(text, text)
        connection.policy.store.set_limits(
            {LimitKey("all", "day", "dollars"): number + 10**9}, cause
        )
        pair = {f"limit:tenant:{text} day dollars": 5}
        client.hset(connection.keys.money, mapping=pair)  # type: ignore[arg-type]
        alert = {"scope": text, "window": "day", "window_id": "d20261124", "threshold": "50"}
        amounts = {"limit": "1", "settled": "1", "held": "1"}
        client.xadd(connection.keys.alerts, {**alert, **amounts})  # type: ignore[arg-type]
    connection.policy.store.set_emergency(HOSTILE, AuditActor("x", "y"))
    connection.ledger.rollups.roll_up()
    return found


def _rewrite(client: redis.Redis, record: str, text: str, agent_type: str) -> None:
    fields = {raw.decode(): value for raw, value in client.hgetall(record).items()}
    plan = json.loads(fields["plan"])
    plan["agent_type"] = agent_type
    plan["request_type"] = text
    decision = plan["model_decision"]
    for where in (plan.get("ranking"), decision):
        if where is not None:
            where["rejected"] = [[text, text]]
    error = json.dumps({"type": text, "message": f"{text} \ud800"})
    step = {"model": text, "provider": text, "why": text, "ended": text}
    hostile = {
        **dict.fromkeys(("tenant", "agent", "pool", "progress", "summary", "model"), text),
        **dict.fromkeys(("chosen", "dead", "retry_of", "retried_as"), text),
        "plan": json.dumps(plan),
        "state": "failed",
        "ended": fields["submitted"],
        "error": error,
        "retry_error": error,
        "result": json.dumps(RESULTS[agent_type](text)),
        "steps": 1,
        "step:1": f"1000 {json.dumps(step)}",
        "history": f"1000 queued 1 {text} {text}\n1000 failed 1 x {text}",
    }
    client.hset(record, mapping=hostile)
    client.hset(record.replace(":task:", ":saved:"), text, "1000 1 {}")


def entry(task: str, text: str) -> LedgerEntry:
    names = (text, text, text, text, text, text)
    return LedgerEntry(
        "", "step", task, 1, "c", *names, 1, 0, 1, 0, 5, 5, 1, "seen", WINDOWS
    )


COMMANDS = (
    ["tasks"],
    ["dead", "list"],
    ["ledger", "show"],
    ["models"],
    ["spend", "--from", "2026-11-24", "--to", "2026-11-24"],
    ["audit"],
    ["agents"],
    ["pools"],
    ["limits", "show"],
    ["budget", "show"],
    ["budget", "alerts"],
    ["route", "show"],
    ["emergency", "show"],
    ["status"],
)


def run(*command: str) -> str:
    done = CliRunner().invoke(app, list(command))
    raised = done.exception
    if raised is not None and not isinstance(raised, SystemExit):
        raise raised
    assert done.exit_code in (0, 1), (command, done.output)
    return done.output


def test_every_command_shows_hostile_rows_and_none_acts(
    ids: list[str], connection: Connection
) -> None:
    for command in COMMANDS:
        assert not ACTS.search(run(*command)), command
    for number, task_id in enumerate(ids):
        command = ("task", "explain")[number % 2]
        assert not ACTS.search(run(command, task_id)), (command, task_id)
    assert not ACTS.search(run("dead", "show", ids[7]))
    for message in connection.tasks.set_aside.newest()[::5]:
        assert not ACTS.search(run("dead", "show", message.id))
    assert "[red]" in run("tasks")


def test_json_is_exact(ids: list[str]) -> None:
    shown = json.loads(run("tasks", "--json"))
    assert {each["tenant"] for each in shown} == set(HOSTILE)
    told = json.loads(run("dead", "list", "--json"))
    reasons = {each["error"]["message"] for each in told if each["dead"] == "malformed"}
    assert reasons == set(HOSTILE)


def test_a_malformed_message_is_shown_dropped_and_not_retried(
    connection: Connection, client: redis.Redis
) -> None:
    message = json.dumps(good_message("shop.add", [], "shop"))
    connection.tasks.set_aside.keep("shop", message.encode(), "it has no body")
    (kept,) = connection.tasks.set_aside.newest()
    assert "it has no body" in run("dead", "list")
    assert "shop.add" in run("dead", "show", kept.id)
    assert json.loads(run("dead", "show", kept.id, "--json"))["message"] == message
    refused = CliRunner().invoke(app, ["dead", "retry", kept.id])
    assert refused.exit_code == 1
    assert "cannot be retried: the message is malformed (it has no body)" in refused.output
    assert "1 message" in run("status")
    parts = json.loads(run("status", "--json"))["parts"]
    assert "malformed" in {part["name"] for part in parts}
    assert run("dead", "list", "--tenant", "acme").count("malformed-") == 0
    assert "is dropped" in run("dead", "drop", "--all", "--error", "MalformedMessage")
    assert connection.tasks.set_aside.count() == 0
    with pytest.raises(Exception, match="not a dead letter"):
        Fleet.from_env().retry_dead(kept.id)
