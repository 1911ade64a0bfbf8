"""A task's life through real worker processes: every end that it can come to."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Crew, eventually

from fleet import Submission, Task
from fleet.errors import (
    InvalidRequest,
    NotAllowed,
    ResultTimeout,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TaskUnverified,
)


def nap(crew: Crew, pool: str = "naps", **payload: Any) -> Task:
    return crew.fleet.submit("nap", payload, pool=pool)


def running(task: Task) -> bool:
    return task.record().progress == "asleep"


def free(crew: Crew, pool: str = "naps") -> bool:
    return all(each.in_flight == 0 for each in crew.fleet.pools() if each.name == pool)


POOLS = pytest.mark.parametrize("pool", ["naps", "forked"], ids=["threads", "prefork"])


@POOLS
def test_a_task_gives_its_typed_result(crew: Crew, pool: str) -> None:
    task = nap(crew, pool, note="hello")
    result: Any = task.result(timeout=30)
    assert type(result).__name__ == "Rested"
    assert result.note == "hello"
    assert task.state() == "succeeded"


def test_a_result_is_read_from_another_process(crew: Crew) -> None:
    task = nap(crew, note="over there")
    script = f"from fleet import Fleet; print(Fleet.from_env().task({task.id!r}).result(30).note)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=crew.processes.environment,
        cwd=crew.processes.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "over there"


@POOLS
def test_an_answer_that_fails_its_checks_is_unverified_and_can_be_read(
    crew: Crew, pool: str
) -> None:
    task = nap(crew, pool, end="unverified", note="doubtful")
    with pytest.raises(TaskUnverified) as refused:
        task.result(timeout=30)
    assert refused.value.result is not None
    assert task.state() == "unverified"


def test_an_agents_own_refusal_arrives_as_the_same_error(crew: Crew) -> None:
    task = nap(crew, end="refused")
    with pytest.raises(NotAllowed, match="sleep at home"):
        task.result(timeout=30)
    assert task.state() == "failed"


@POOLS
def test_a_crash_in_an_agent_is_a_failed_task(crew: Crew, pool: str) -> None:
    task = nap(crew, pool, end="broken")
    with pytest.raises(TaskFailed, match="fell out of bed"):
        task.result(timeout=30)
    eventually(lambda: free(crew, pool), what="the slot to be given back")


def test_waiting_too_short_is_an_error_and_the_task_goes_on(crew: Crew) -> None:
    task = nap(crew, seconds=1.0, note="late")
    with pytest.raises(ResultTimeout):
        task.result(timeout=0.1)
    assert task.result(timeout=30)


def test_a_queued_task_is_cancelled_at_once_and_never_runs(crew: Crew, tmp_path: Path) -> None:
    sleepers = [nap(crew, seconds=3) for _ in range(2)]
    eventually(lambda: all(running(task) for task in sleepers), what="a full pool")
    diary = tmp_path / "diary"
    waiting = nap(crew, diary=str(diary), note="never")
    assert waiting.cancel() == "queued"
    with pytest.raises(TaskCancelled):
        waiting.result(timeout=5)
    for task in sleepers:
        task.result(timeout=30)
    assert nap(crew, note="after").result(timeout=30)
    assert not diary.exists()
    eventually(lambda: free(crew), what="no slot left taken")


@POOLS
def test_a_running_task_is_cancelled_long_before_its_end(crew: Crew, pool: str) -> None:
    task = nap(crew, pool, seconds=50)
    eventually(lambda: running(task), what="the nap to begin")
    assert task.cancel() == "running"
    with pytest.raises(TaskCancelled):
        task.result(timeout=30)
    eventually(lambda: free(crew, pool), what="the slot to be given back")


def test_an_ended_task_stays_as_it_is_when_cancelled(crew: Crew) -> None:
    task = nap(crew)
    task.result(timeout=30)
    assert task.cancel() == "succeeded"
    assert task.state() == "succeeded"


def test_two_submits_with_one_idempotency_key_give_one_task(crew: Crew, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    payload = {"note": "once", "diary": str(diary)}
    key = f"key-{tmp_path.name}-{time.time_ns()}"
    first = crew.fleet.submit("nap", payload, idempotency_key=key)
    second = crew.fleet.submit("nap", payload, idempotency_key=key)
    assert first.id == second.id
    second.result(timeout=30)
    assert crew.fleet.submit("nap", payload, idempotency_key=key).id == first.id
    assert diary.read_text() == "once\n"


def test_what_finds_no_free_slot_waits_and_is_taken_by_the_next_one(crew: Crew) -> None:
    tasks = crew.fleet.submit_many([Submission("nap", {"seconds": 0.3}) for _ in range(9)])
    assert {task.decision.pool for task in tasks} == {"naps", "forked", None}
    for task in tasks:
        task.result(timeout=30)
    waited = [task for task in tasks if task.decision.pool is None]
    assert {task.record().pool for task in waited} <= {"naps", "forked"}
    eventually(lambda: free(crew) and free(crew, "forked"), what="all slots given back")


def test_a_tasks_decision_is_explained_from_any_process(crew: Crew) -> None:
    task = crew.fleet.submit("nap", {}, tenant="acme", complexity=0.9)
    task.result(timeout=30)
    found = crew.fleet.task(task.id)
    assert found.decision == task.decision
    assert found.model_decision == task.model_decision
    best = found.decision.candidates[0]
    assert 0 < best.terms["success"] <= 1
    assert {r.pool for r in found.decision.rejected} == {"codegen", "scanner", "perf"}


def test_an_unknown_task_is_an_error(crew: Crew) -> None:
    with pytest.raises(TaskNotFound, match="no task nope"):
        crew.fleet.task("nope")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Submission("knit", {}), "no request type is called 'knit'"),
        (Submission("nap", {}, pool="couch"), "no pool is called 'couch'"),
        (Submission("nap", {}, model="gpt-0"), "no model of the catalogue is called 'gpt-0'"),
        (Submission("nap", {}, tenant="a b"), "no tenant name"),
        (Submission("nap", {}, max_cost_usd=-1), "max_cost_usd is -1; give an amount of dollars"),
        (Submission("nap", {}, complexity=1.5), "complexity is 1.5; give a number from 0 to 1"),
        (Submission("nap", {"hours": 8}), "hours: Extra inputs are not permitted"),
        (Submission("nap", {"note": "x" * 1048577}), "more than the 1,048,576 allowed"),
    ],
)
def test_bad_input_is_refused_with_a_sentence_and_nothing_is_written(
    crew: Crew, asked: Submission, says: str
) -> None:
    before = [record.id for record in crew.fleet.tasks(limit=5)]
    with pytest.raises(InvalidRequest, match=says):
        crew.fleet.submit_many([Submission("nap", {}), asked])
    assert [record.id for record in crew.fleet.tasks(limit=5)] == before


def test_a_request_that_no_pool_could_answer_does_not_count_against_the_pool(crew: Crew) -> None:
    def success() -> float:
        return next(pool.success_rate for pool in crew.fleet.pools() if pool.name == "naps")

    nap(crew).result(timeout=30)
    before = success()
    with pytest.raises(NotAllowed):
        nap(crew, end="refused").result(timeout=30)
    # what is old fades all the while, by a millionth or so
    assert success() == pytest.approx(before, abs=1e-3)
    with pytest.raises(TaskFailed):
        nap(crew, end="broken").result(timeout=30)
    assert success() < before - 1e-3
