"""Workers as agents: they register, are drained, die, and leave."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from harness import Crew, eventually

from fleet import Task


def nap(crew: Crew, pool: str = "naps", **payload: Any) -> Task:
    return crew.fleet.submit("nap", payload, pool=pool)


def status(crew: Crew, agent: str) -> str:
    return {each.id: each.status for each in crew.fleet.agents()}.get(agent, "gone")


def test_an_agent_is_busy_while_it_works_and_idle_after(crew: Crew) -> None:
    agent = crew.agent("naps")
    task = nap(crew, seconds=2)
    eventually(lambda: status(crew, agent) == "busy", what="busy")
    task.result(timeout=30)
    eventually(lambda: status(crew, agent) == "idle", what="idle")


def test_a_drained_agent_finishes_what_it_has_and_takes_nothing_new(crew: Crew) -> None:
    agent = crew.agent("naps")
    task = nap(crew, seconds=2, note="kept")
    eventually(lambda: task.record().progress == "asleep", what="the nap to begin")
    crew.fleet.drain(agent)
    try:
        assert status(crew, agent) == "maintenance"
        other = crew.fleet.submit("nap", {"note": "elsewhere"})
        assert other.decision.pool == "forked"
        other.result(timeout=30)
        assert other.record().pool == "forked"
        assert task.result(timeout=30)
        assert status(crew, agent) == "maintenance"
    finally:
        crew.fleet.resume(agent)
    assert nap(crew, note="back").result(timeout=30)


def test_beat_reaps_a_killed_worker_and_its_task_runs_again(crew: Crew, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    agent = crew.agent("naps")
    task = nap(crew, seconds=3, note="run", diary=str(diary))
    eventually(lambda: task.record().progress == "asleep", what="the nap to begin")
    crew.processes.signal("naps", signal.SIGKILL)
    crew.processes.running.pop("naps").wait()
    eventually(lambda: status(crew, agent) == "failed", 30, "the reaper")
    assert task.result(timeout=60)
    assert task.record().attempts == 2
    assert diary.read_text() == "run\nrun\n"
    crew.start_worker("naps")


def test_a_worker_told_to_stop_finishes_its_task_and_leaves(crew: Crew) -> None:
    agent = crew.agent("naps")
    task = nap(crew, seconds=2, note="done")
    eventually(lambda: task.record().progress == "asleep", what="the nap to begin")
    assert crew.processes.stop("naps") == 0
    assert task.record().state == "succeeded"
    assert status(crew, agent) == "gone"
    crew.start_worker("naps")


def test_beat_sums_up_the_health(crew: Crew) -> None:
    def healthy() -> bool:
        return crew.fleet.health().get("verdict") == "healthy"

    eventually(healthy, 40, "a health summary that finds every pool alive")
    assert crew.fleet.health()["pools"]["naps"]["capacity"] == 2


def test_of_two_beats_one_sends_the_jobs_and_the_other_takes_over(crew: Crew) -> None:
    crew.processes.start("second-beat", "beat")

    def says(words: str) -> bool:
        return words in crew.processes.log("second-beat")

    try:
        eventually(lambda: says("another beat runs the jobs"), 30, "the second to stand by")
        assert not says("this beat runs the jobs")
        crew.processes.stop("beat")
        eventually(lambda: says("this beat runs the jobs"), 30, "the second to take over")
    finally:
        crew.processes.stop("second-beat")
        if "beat" not in crew.processes.running:
            crew.processes.start("beat", "beat")
