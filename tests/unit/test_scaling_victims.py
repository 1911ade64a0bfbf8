"""Who is drained, who is taken back, and how many workers start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet.scaling.rules.victims import Change, Worker, change, victims

OLD_IDLE = Worker("old-idle", started=10.0)
NEW_IDLE = Worker("new-idle", started=90.0)
NEARLY = Worker("nearly", started=50.0, running=1, left=2.0)
BUSY = Worker("busy", started=5.0, running=1, left=60.0)
POOL = (BUSY, NEW_IDLE, NEARLY, OLD_IDLE)


def test_idle_workers_leave_first_and_the_oldest_of_them_before_the_others() -> None:
    assert victims(POOL) == ("old-idle", "new-idle", "nearly", "busy")


def test_among_equally_long_tasks_the_oldest_worker_leaves_first() -> None:
    pair = (Worker("young", 9.0, 1, 5.0), Worker("old", 1.0, 1, 5.0))
    assert victims(pair) == ("old", "young")


def test_a_smaller_pool_ends_those_that_are_not_ready_before_it_drains() -> None:
    assert change(POOL, starting=1, size=2) == Change(0, 1, ("old-idle", "new-idle"), ())


def test_a_larger_pool_takes_back_before_it_starts() -> None:
    leaving = tuple(worker._replace(draining=True) for worker in POOL)
    assert change(leaving, starting=0, size=6) == Change(
        2, 0, (), ("busy", "nearly", "new-idle", "old-idle")
    )


def test_the_worker_that_would_leave_last_comes_back_first() -> None:
    leaving = tuple(worker._replace(draining=True) for worker in POOL)
    assert change(leaving, starting=0, size=1).take_back == ("busy",)


workers = st.lists(
    st.builds(
        Worker,
        st.uuids().map(str),
        st.floats(0, 1e9),
        st.integers(0, 3),
        st.floats(0, 1e4),
        st.booleans(),
    ),
    max_size=20,
)


@given(workers, st.integers(0, 10), st.integers(0, 30))
def test_a_change_leads_to_the_size_that_was_asked_for(
    found: list[Worker], starting: int, size: int
) -> None:
    plan = change(found, starting, size)
    taking = {worker.id for worker in found if not worker.draining}
    assert set(plan.drain) <= taking
    assert not set(plan.take_back) & taking
    after = len(taking) - len(plan.drain) + len(plan.take_back)
    assert after + starting - plan.cancel + plan.start == size
    assert min(plan.start, plan.cancel + len(plan.drain)) == 0
