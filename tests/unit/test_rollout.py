"""When a new version does worse than the old one."""

from __future__ import annotations

import pytest

from fleet.agent import installed_agents
from fleet.cli.deploy import duration
from fleet.errors import InvalidRequest
from fleet.operations.canaries import canaries
from fleet.operations.rules.rollout import TaskRun, Tolerance, Verdict, compare, figures_of, p95
from fleet.settings import FleetConfig

CENT = 10_000_000


def runs(
    count: int, failed: int = 0, seconds: float = 1.0, cost: int = CENT, name: str = "chat"
) -> list[TaskRun]:
    """Runs whose times spread from 0.5 to 1.5 of `seconds`."""
    spread = [seconds * (0.5 + i / max(1, count - 1)) for i in range(count)]
    return [TaskRun(name, i >= failed, each, cost) for i, each in enumerate(spread)]


def judge(old: list[TaskRun], new: list[TaskRun]) -> Verdict:
    return compare(old, new, Tolerance())


def test_an_equal_version_passes() -> None:
    assert judge(runs(200, failed=10), runs(200, failed=10)).passed


@pytest.mark.parametrize(("failed", "passed"), [(0, True), (4, True), (9, True), (12, False)])
def test_errors_that_may_be_an_accident_pass(failed: int, passed: bool) -> None:
    assert judge(runs(1000, failed=20), runs(100, failed=failed)).passed == passed


def test_more_errors_are_named_with_their_share() -> None:
    found = judge(runs(500, failed=5), runs(100, failed=30))
    assert not found.passed
    assert found.reasons == (
        "chat: 30.0% of the new version's 100 tasks did not succeed, at most 3.0% are allowed",
    )


def test_a_slower_p95_is_named_and_a_little_slower_is_tolerated() -> None:
    assert judge(runs(200), runs(200, seconds=1.2)).passed
    (reason,) = judge(runs(200), runs(200, seconds=2.0)).reasons
    assert "p95 of the run time is 2.90 s in the new version and 1.45 s in the old" in reason


def test_a_dearer_task_is_named() -> None:
    (reason,) = judge(runs(100), runs(100, cost=2 * CENT)).reasons
    assert "a task costs $0.020000 in the new version and $0.010000 in the old one" in reason


def test_a_task_that_cost_nothing_may_not_begin_to_cost() -> None:
    assert not judge(runs(100, cost=0), runs(100, cost=1)).passed


def test_one_dear_task_among_many_is_an_accident() -> None:
    new = [*runs(99), TaskRun("chat", True, 1.0, 90 * CENT)]
    assert judge(runs(100), new).passed


def test_each_request_type_is_judged_by_itself() -> None:
    old = runs(100, seconds=10, name="slow") + runs(100, name="fast")
    new = runs(25, seconds=10, name="slow") + runs(100, seconds=3, name="fast")
    found = judge(old, new)
    assert [each.request_type for each in found.types if each.reasons] == ["fast"]


def test_too_few_tasks_fail() -> None:
    found = judge(runs(100), runs(19))
    assert not found.passed
    assert "at most 19 of a request type ended in the new version, and 20 are needed" in (
        found.reasons[0]
    )
    assert not judge([], []).passed
    assert not judge(runs(19), runs(100)).passed


def test_a_first_version_is_judged_by_its_errors_alone() -> None:
    assert judge([], runs(100, failed=10)).passed
    assert not judge([], runs(100, failed=30)).passed


def test_percentiles_are_values_of_the_sample() -> None:
    assert p95([1.0]) == 1.0
    assert p95([float(i) for i in range(1, 101)]) == 95.0
    assert figures_of([]).tasks == 0


@pytest.mark.parametrize(("text", "found"), [("0s", 0), ("90s", 90), ("10m", 600), ("2d", 172800)])
def test_a_time_is_a_number_and_a_unit(text: str, found: float) -> None:
    assert duration(text, "--for") == found


@pytest.mark.parametrize("text", ["", "m", "10", "-1m", "1.5h", "1y", "١m"])
def test_another_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--for"):
        duration(text, "--for")


def test_each_of_fleets_own_agents_has_a_canary_that_its_payload_accepts() -> None:
    agents = installed_agents()
    found, notes = canaries(FleetConfig(), agents, (), {})
    assert {each.agent_type for each in found} == set(FleetConfig().agent_types)
    assert notes == []
    for each in found:
        agents[each.agent_type].payload.model_validate(each.payload)


def test_a_pool_that_is_named_gets_the_canary_of_its_agent_type() -> None:
    (found,), _ = canaries(FleetConfig(), installed_agents(), ["scanner"], {})
    assert (found.agent_type, found.pool) == ("security_scanner", "scanner")
    with pytest.raises(InvalidRequest, match="no pool is called 'scaner'"):
        canaries(FleetConfig(), installed_agents(), ["scaner"], {})


def test_an_agent_without_a_canary_needs_a_payload() -> None:
    found, notes = canaries(FleetConfig(), {}, ["perf"], {})
    assert (found, notes) == (
        [],
        ["performance_tester: not tried, its agent has no canary; give a payload by --payloads"],
    )
    given = {"performance_test": {"note": "hi"}}
    (canary,), _ = canaries(FleetConfig(), {}, ["perf"], given)
    assert canary.payload == {"note": "hi"}
    with pytest.raises(InvalidRequest, match="no request type is called 'chess'"):
        canaries(FleetConfig(), {}, (), {"chess": {}})
