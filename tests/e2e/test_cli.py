"""The commands that submit, show and steer, against a running fleet."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import Crew, eventually

from fleet import Task


def run(crew: Crew, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return crew.processes.fleet(*arguments, **options)


def answer(crew: Crew, *arguments: str, **options: Any) -> Any:
    done = run(crew, *arguments, "--json", **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(crew: Crew, status: int, *arguments: str, **options: Any) -> str:
    """What the error says: one sentence on the error stream, and no traceback."""
    done = run(crew, *arguments, **options)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_submitted_task_is_waited_for_and_shown(crew: Crew) -> None:
    done = run(crew, "submit", "nap", "--set", "note=hello", "--wait")
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout
    assert '"note": "hello"' in done.stdout


def test_submit_prints_the_id_which_opens_the_task(crew: Crew) -> None:
    done = run(crew, "submit", "nap", '{"note": "later"}', "--tenant", "acme")
    task = crew.fleet.task(done.stdout.strip())
    task.wait(30)
    shown = answer(crew, "task", task.id)
    assert (shown["state"], shown["tenant"]) == ("succeeded", "acme")
    assert shown["result"]["note"] == "later"


def test_a_payload_comes_from_standard_input_and_the_key_makes_it_once(crew: Crew) -> None:
    arguments = ("submit", "nap", "--payload", "-", "--idempotency-key", "only-once")
    first = answer(crew, *arguments, stdin='{"note": "piped"}')
    second = answer(crew, *arguments, stdin='{"note": "piped"}')
    assert first["id"] == second["id"]


def test_a_task_that_fails_is_exit_status_one_when_waited_for(crew: Crew) -> None:
    done = run(crew, "submit", "nap", "--set", "end=refused", "--wait")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "no naps here; sleep at home" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("submit", "sleep"), "use one of: code_generation"),
        (("submit", "nap", "{"), "not JSON"),
        (("submit", "nap", '{"nite": 1}'), "nite"),
        (("submit", "nap", "--complexity", "1.5"), "from 0 to 1"),
        (("submit", "nap", "--tenant", "a b"), "tenant"),
        (("submit", "nap", "--pool", "beds"), "no pool is called 'beds'"),
        (("submit", "nap", "--model", "gpt-0"), "gpt-0"),
        (("tasks", "--state", "asleep"), "use one of: queued, delayed, parked, running"),
        (("task", "nobody"), "no task nobody is known"),
        (("explain", "nobody"), "no task nobody is known"),
        (("cancel", "nobody"), "no task nobody is known"),
        (("agents", "drain", "nobody"), "nobody"),
    ],
)
def test_bad_input_is_exit_status_two_and_says_what_to_do(
    crew: Crew, arguments: tuple[str, ...], says: str
) -> None:
    assert says in refused(crew, 2, *arguments)


def test_a_broker_that_is_away_is_exit_status_one(crew: Crew) -> None:
    away = {"FLEET_BROKER_URL": "redis://:hush@127.0.0.1:1/0"}
    for arguments in (("submit", "nap"), ("tasks",), ("pools",), ("agents",)):
        said = refused(crew, 1, *arguments, variables=away)
        assert "Redis at 127.0.0.1:1 does not answer" in said
        assert "hush" not in said


def test_tasks_lists_the_newest_first_and_one_state_where_asked(crew: Crew) -> None:
    tasks = []
    for end in ("well", "well", "refused"):
        tasks.append(crew.fleet.submit("nap", {"end": end}))
        tasks[-1].wait(30)
    failed = tasks[-1]
    listed = [record["id"] for record in answer(crew, "tasks", "--limit", "3")]
    assert listed == [task.id for task in reversed(tasks)]
    found = answer(crew, "tasks", "--limit", "3", "--state", "failed")
    assert (found[0]["id"], {record["state"] for record in found}) == (failed.id, {"failed"})
    assert failed.id in run(crew, "tasks").stdout


def test_explain_shows_the_numbers_of_every_candidate(crew: Crew) -> None:
    task = crew.fleet.submit("nap", {})
    shown = answer(crew, "explain", task.id)
    assert {each["pool"] for each in shown["route"]["candidates"]} == {"naps", "forked"}
    totals = [candidate["total"] for candidate in shown["route"]["candidates"]]
    assert totals == sorted(totals, reverse=True)
    assert shown["route"]["pool"] == task.decision.pool
    assert shown["model"]["model"] == task.model_decision.model
    text = run(crew, "explain", task.id).stdout
    assert "not codegen: serves code_generator and does not help napper" in text
    assert "second place: " in text


def test_pools_and_agents_are_listed(crew: Crew) -> None:
    pools = {pool["name"]: pool for pool in answer(crew, "pools")}
    assert pools["naps"]["capacity"] == 2
    assert "forked" in run(crew, "pools").stdout
    agents = answer(crew, "agents", "list")
    assert crew.agent("naps") in {agent["id"] for agent in agents}
    assert crew.agent("naps") in run(crew, "agents").stdout


def test_an_agent_is_given_a_rest_and_taken_back(crew: Crew) -> None:
    agent = crew.agent("forked")
    assert run(crew, "agents", "drain", agent).returncode == 0
    statuses = {each["id"]: each["status"] for each in answer(crew, "agents")}
    assert statuses[agent] == "maintenance"
    assert run(crew, "agents", "resume", agent).returncode == 0
    statuses = {each["id"]: each["status"] for each in answer(crew, "agents")}
    assert statuses[agent] == "idle"


def test_a_running_task_is_cancelled(crew: Crew) -> None:
    task: Task = crew.fleet.submit("nap", {"seconds": 50})
    eventually(lambda: task.state() == "running")
    assert "was running and is cancelled" in run(crew, "cancel", task.id).stdout
    eventually(lambda: task.state() == "cancelled")
    assert "had already ended: cancelled" in run(crew, "cancel", task.id).stdout


def test_findings_are_written_as_sarif(crew: Crew, tmp_path: Path) -> None:
    source = {"source": "import pickle\npickle.loads(b'')\n", "triage": False}
    task = crew.fleet.submit("security_analysis", source)
    task.wait(60)
    target = tmp_path / "findings.sarif"
    shown = run(crew, "task", task.id, "--format", "sarif", "-o", str(target))
    assert shown.returncode == 0, shown.stderr
    assert "source.py:2" in shown.stdout
    log = json.loads(target.read_text())
    assert log["version"] == "2.1.0"
    assert any(each["ruleId"] == "B301" for run in log["runs"] for each in run["results"])


def test_a_plot_is_written_as_a_picture(crew: Crew, tmp_path: Path) -> None:
    variants = [{"name": "sum", "call": "sum(range(9))"}]
    task = crew.fleet.submit("performance_test", {"variants": variants, "seconds": 5})
    record = task.wait(60)
    assert record.state == "succeeded", record.error
    target = tmp_path / "plot.png"
    shown = run(crew, "task", task.id, "--format", "png", "-o", str(target))
    assert shown.returncode == 0, shown.stderr
    assert "95% interval" in shown.stdout
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_result_that_cannot_be_exported_is_said_to_be_so(crew: Crew, tmp_path: Path) -> None:
    task = crew.fleet.submit("nap", {})
    task.wait(30)
    said = refused(crew, 2, "task", task.id, "--format", "sarif", "-o", str(tmp_path / "x"))
    assert "results of napper have no format 'sarif'; their formats: none" in said
    assert list(tmp_path.iterdir()) == []


def test_a_broken_configuration_names_file_key_and_what_is_allowed(
    crew: Crew, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.toml"
    for text, key, allowed in (
        ('strategy = "best"\n', "strategy: no strategy is called 'best'", "least_loaded"),
        ('[pools.a]\nagent_type = "nobody"\n', "pools.a.agent_type: ", "code_generator"),
    ):
        broken.write_text(text)
        said = refused(crew, 2, "config", "check", variables={"FLEET_CONFIG": str(broken)})
        assert f"{broken}: {key}" in said
        assert allowed in said


def test_the_configuration_is_shown_without_secrets(crew: Crew) -> None:
    secret = {
        "FLEET_FLOWER_PASSWORD": "hush",
        "FLEET_BROKER_URL": "redis://fleet:hush@127.0.0.1:7/0",
        "FLEET_MODEL_URL": "http://fleet:hush@127.0.0.1:8/v1",
    }
    for arguments in (("config", "show"), ("config", "show", "--json")):
        done = run(crew, *arguments, variables=secret)
        assert done.returncode == 0
        assert "hush" not in done.stdout
        assert "redis://**********@127.0.0.1:7/0" in done.stdout


def test_status_is_exit_status_zero_when_all_is_well(crew: Crew) -> None:
    # Beat takes its lease some time after its process has started.
    eventually(lambda: run(crew, "status").returncode == 0, 60, "a healthy fleet")
    parts = {part["name"]: part for part in answer(crew, "status")["parts"]}
    assert parts["beat"]["ok"] and parts["pool naps"]["ok"]


def test_the_beginning_of_an_id_opens_a_recent_task(crew: Crew) -> None:
    task = crew.fleet.submit("nap", {"note": "short"})
    assert answer(crew, "task", task.id[:8])["id"] == task.id
    assert "no task zzzz is known" in refused(crew, 2, "task", "zzzz")
