"""Routes from the command line, and the health of pools, with real workers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from harness import Crew, eventually

from fleet.routing.rules.pools import PoolFacts


def fleet(crew: Crew, *arguments: str) -> subprocess.CompletedProcess[str]:
    return crew.processes.fleet(*arguments)


def printed(crew: Crew, *arguments: str) -> str:
    done = fleet(crew, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def routes(crew: Crew) -> Iterator[Crew]:
    """The crew, with its routes as they were."""
    yield crew
    for request_type, tenant in (("", ""), ("nap", ""), ("", "acme")):
        crew.fleet.clear_route(request_type=request_type, tenant=tenant)


def pool(crew: Crew, name: str) -> PoolFacts:
    return next(each for each in crew.fleet.pools() if each.name == name)


def test_a_route_set_from_the_shell_holds_for_the_next_task_and_is_shown(routes: Crew) -> None:
    printed(routes, "route", "set", "least_connections", "--tenant", "acme")
    said = printed(routes, "route", "set", "ai_optimized", "--weight", "load=0.5")
    assert said == "all tasks are now routed by ai_optimized\n"
    acme, other = (routes.fleet.submit("nap", {}, tenant=tenant) for tenant in ("acme", "other"))
    assert acme.decision.strategy == "least_connections"
    assert other.decision.strategy == "ai_optimized"
    assert other.decision.weights["load"] == 0.5
    for task in (acme, other):
        task.result(timeout=30)
    shown = json.loads(printed(routes, "route", "show", "--json"))
    assert {(each["tenant"], each["strategy"]) for each in shown} == {
        (None, "ai_optimized"),
        ("acme", "least_connections"),
    }
    assert "fleet route set" in printed(routes, "route")
    assert printed(routes, "route", "clear") == "all tasks are routed by the configuration again\n"
    assert printed(routes, "route", "clear") == "no route was set at run time for all tasks\n"


def test_a_strategy_that_a_package_brings_can_be_used(routes: Crew) -> None:
    assert "The last pool by name that has room." in printed(routes, "route", "strategies")
    eventually(lambda: pool(routes, "naps").has_room, what="a free slot")
    routes.fleet.set_route("last_by_name", request_type="nap")
    task = routes.fleet.submit("nap", {})
    assert (task.decision.strategy, task.decision.pool) == ("last_by_name", "naps")
    task.result(timeout=30)


def test_a_dry_run_decides_and_sends_nothing(crew: Crew) -> None:
    before = [record.id for record in crew.fleet.tasks(limit=3)]
    text = printed(crew, "route", "--dry-run", "nap", "--set", "note=none", "--complexity", "0.9")
    assert "by strategy" in text
    assert "naps" in text
    shown = json.loads(printed(crew, "route", "--dry-run", "nap", "--json"))
    assert {each["pool"] for each in shown["route"]["candidates"]} <= {"naps", "forked"}
    assert shown["model"]["model"]
    assert [record.id for record in crew.fleet.tasks(limit=3)] == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("route", "set", "best"), "no strategy is called 'best'; use one of: ai_optimized"),
        (("route", "set", "soonest", "--request-type", "knit"), "no request type is called 'knit'"),
        (("route", "set", "soonest", "--weight", "load"), "give TERM=NUMBER"),
        (("route", "set", "soonest", "--weight", "taste=1"), "no weight is called 'taste'"),
        (("route", "--dry-run", "knit"), "no request type is called 'knit'"),
        (("route", "--dry-run", "nap", "--set", "hours=8"), "hours: Extra inputs"),
        (("pools", "drain", "couch"), "no pool is called 'couch'"),
    ],
)
def test_bad_routes_are_exit_status_two(crew: Crew, arguments: tuple[str, ...], says: str) -> None:
    done = fleet(crew, *arguments)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_pool_in_maintenance_gets_nothing_until_it_is_resumed(crew: Crew) -> None:
    printed(crew, "pools", "drain", "naps")
    try:
        tasks = [crew.fleet.submit("nap", {"seconds": 0.1}) for _ in range(4)]
        for task in tasks:
            task.result(timeout=30)
        assert {task.record().pool for task in tasks} == {"forked"}
        rejected = {each.pool: each.reason for each in tasks[0].decision.rejected}
        assert rejected["naps"] == "in maintenance"
        assert "in maintenance" in printed(crew, "pools")
        assert "fleet pools resume naps" in fleet(crew, "status").stdout
    finally:
        printed(crew, "pools", "resume", "naps")
    eventually(lambda: pool(crew, "naps").health_state == "in")
    task = crew.fleet.submit("nap", {}, pool="naps")
    assert task.result(timeout=30)
    assert task.record().pool == "naps"


def test_a_failing_pool_is_taken_out_probed_and_brought_back(crew: Crew) -> None:
    for _ in range(8):
        crew.fleet.submit("nap", {"end": "broken"}, pool="naps").wait(30)
    eventually(lambda: pool(crew, "naps").health_state != "in", what="the pool is taken out")
    task = crew.fleet.submit("nap", {})
    assert task.wait(30).pool == "forked"
    eventually(lambda: pool(crew, "naps").health_state == "probation", what="its time is up")
    for _ in range(3):
        assert crew.fleet.submit("nap", {}, pool="naps").result(timeout=30)
    assert pool(crew, "naps").health_state == "returning"
    eventually(lambda: pool(crew, "naps").health_state == "in", what="all its slots are open")
