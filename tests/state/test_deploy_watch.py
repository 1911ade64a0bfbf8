"""`fleet deploy watch`: the runs of two versions, told apart by the agents that ended them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet

from fleet import Fleet
from fleet.settings import Settings
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

ASK = Submission("code_generation", {"instruction": "add"}, complexity=0.5)
OLD, NEW = "codegen-1@old", "codegen-1@new"


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Fleet:
    found = Fleet(settings_of(""))
    for agent, version in ((OLD, "1.0"), (NEW, "2.0")):
        facts = {"version": version}
        found._connection.routing.agents.register(agent, "codegen", 10, facts)
    return found


def run_tasks(fleet: Fleet, agent: str, count: int, failed: int = 0) -> None:
    """Tasks that an agent claims and ends."""
    records = fleet._connection.tasks.records
    for number, task in enumerate(fleet.submit_many([ASK] * count)):
        lease = records.claim(task.id, agent, "codegen", 60.0, f"{agent} {number}", "", "")
        assert isinstance(lease, Lease)
        error = {"error": '{"type": "TaskFailed", "message": "no"}'}
        if number < failed:
            records.finish(lease, "codegen", "failed", 600, error)
        else:
            records.finish(lease, "codegen", "succeeded", 600, {"result": "{}"})


def watch(tmp_path: Path, *arguments: str) -> tuple[int, Any]:
    command = ("deploy", "watch", "--for", "0s", "--json", *arguments)
    ended = run_fleet(*command, folder=tmp_path)
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else ended.stderr


def test_a_version_that_fails_more_is_told_from_the_old_one(fleet: Fleet, tmp_path: Path) -> None:
    run_tasks(fleet, OLD, 40)
    run_tasks(fleet, NEW, 30, failed=15)
    status, found = watch(tmp_path)
    assert (status, found["version"], found["passed"]) == (1, "2.0", False)
    (row,) = found["types"]
    assert (row["old"]["tasks"], row["new"]["tasks"]) == (40, 30)
    assert "50.0% of the new version's 30 tasks did not succeed" in found["reasons"][0]


def test_a_version_that_does_no_worse_passes(fleet: Fleet, tmp_path: Path) -> None:
    run_tasks(fleet, OLD, 30)
    run_tasks(fleet, NEW, 30)
    # Both are done in milliseconds, which say nothing about them.
    status, found = watch(tmp_path, "--max-slower", "100")
    assert (status, found["passed"], found["reasons"]) == (0, True, [])


def test_tasks_from_before_the_baseline_do_not_count(fleet: Fleet, tmp_path: Path) -> None:
    run_tasks(fleet, OLD, 30)
    run_tasks(fleet, NEW, 30)
    status, found = watch(tmp_path, "--baseline", "0s")
    assert status == 1
    assert "too few tasks to judge: at most 0" in found["reasons"][0]


def test_a_version_that_no_agent_has_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    status, said = watch(tmp_path, "--version", "3.0")
    assert status == 2
    assert "no agent of version 3.0 has been seen" in said


def test_an_agent_is_listed_with_its_version(fleet: Fleet, tmp_path: Path) -> None:
    listed = json.loads(run_fleet("agents", "--json", folder=tmp_path).stdout)
    assert {each["id"]: each["version"] for each in listed} == {OLD: "1.0", NEW: "2.0"}
