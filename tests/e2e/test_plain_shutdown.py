"""Agents that also run a user's plain tasks, and are told to stop: real signals to real processes.

Agents' tasks are given back at the grace. Plain tasks nobody can give back: as by a stock worker
they are waited for, and cut only where a signal says so.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from harness import eventually
from yards import DEAD_SECONDS, GRACE_SECONDS, PATIENCE, Yard

from fleet.local import finishing

both = pytest.mark.parametrize(
    "pool", ["threads", pytest.param("prefork", marks=pytest.mark.slow)]
)


@both
def test_plain_tasks_are_waited_for_past_the_grace_and_agents_are_given_back_in_it(
    yard: Yard, pool: str
) -> None:
    worker = yard.start("only", pool)
    early, late = yard.begin("wait_for_early", "page"), yard.begin("wait_for_late", "page")
    nap = yard.nap()
    seconds, _ = yard.state.client.time()
    os.kill(worker.pid, signal.SIGTERM)
    eventually(lambda: nap.record().state == "queued", GRACE_SECONDS, "the nap to be given back")
    eventually(lambda: finishing.process_groups(yard.data_dir), GRACE_SECONDS, "a word of it")
    assert finishing.process_groups(yard.data_dir) == {worker.pid}
    # What nobody renews in so many seconds another worker takes.
    long_after = seconds + GRACE_SECONDS + DEAD_SECONDS
    eventually(lambda: yard.renewed(pool) > long_after, PATIENCE, "its message to be renewed")
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.poll() is None
    yard.let_go("page")
    assert [early.get(timeout=PATIENCE), late.get(timeout=PATIENCE)] == ["page"] * 2
    assert worker.wait(timeout=PATIENCE) == 0, yard.processes.log("only")
    assert yard.diary.llen("page:begun") == 2
    assert finishing.process_groups(yard.data_dir) == set()
    assert yard.state.client.hlen(yard.state.keys.pool(pool).unacked) == 0


@both
def test_a_soft_shutdown_lets_what_runs_end_in_its_time(yard: Yard, pool: str) -> None:
    worker = yard.start("only", pool, SHOP_SOFT_SECONDS="60")
    early, nap = yard.begin("wait_for_early", "page"), yard.nap()
    os.kill(worker.pid, signal.SIGQUIT)
    eventually(lambda: "soft shutdown" in yard.processes.log("only"), PATIENCE, "the word of it")
    assert nap.record().state == "running"
    yard.let_go("page")
    assert early.get(timeout=PATIENCE) == "page"
    # The second one ends the waiting, and gives back.
    os.kill(worker.pid, signal.SIGQUIT)
    eventually(lambda: nap.record().state == "queued", GRACE_SECONDS, "the nap to be given back")
    worker.wait(timeout=GRACE_SECONDS * 2)


@pytest.mark.slow
@both
def test_sigquit_cuts_a_plain_task_and_says_what_is_lost(yard: Yard, pool: str) -> None:
    worker = yard.start("only", pool)
    early, late = yard.begin("wait_for_early", "page"), yard.begin("wait_for_late", "page")
    os.kill(worker.pid, signal.SIGQUIT)
    assert worker.wait(timeout=GRACE_SECONDS * 2) == 1
    cut = [line for line in yard.processes.log("only").splitlines() if "cut, and lost" in line]
    assert len(cut) == 1
    assert early.id in cut[0] and late.id not in cut[0]
    (waiting,) = yard.state.client.lrange("{fleet}.jobs", 0, -1)
    assert late.id.encode() in waiting


@pytest.mark.slow
@pytest.mark.parametrize("signal_remapped", [False, True])
def test_a_soft_shutdown_may_be_kept_by_an_idle_worker(yard: Yard, signal_remapped: bool) -> None:
    more = {"SHOP_SOFT_SECONDS": "2", "SHOP_SOFT_ON_IDLE": "1"}
    if signal_remapped:
        more["REMAP_SIGTERM"] = "SIGQUIT"
    worker = yard.start("only", "threads", **more)
    told = time.monotonic()
    os.kill(worker.pid, signal.SIGTERM if signal_remapped else signal.SIGQUIT)
    worker.wait(timeout=PATIENCE)
    assert time.monotonic() - told >= 2
    assert "soft shutdown" in yard.processes.log("only")
