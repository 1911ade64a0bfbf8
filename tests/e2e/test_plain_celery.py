"""Applications that know Celery and no `Fleet`: their tasks are routed all the same."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from harness import Crew, eventually

from fleet.broker.app import make_app, task_routes
from fleet.errors import InvalidRequest
from fleet.models.rules.priorities import Priorities

NAP = "agents.napper"


@pytest.fixture(scope="module")
def app(crew: Crew) -> Celery:
    return make_app(crew.fleet.settings)


@pytest.fixture(scope="module")
def stranger(crew: Crew) -> Celery:
    """A stock application over the stock transport, with Fleet's routes."""
    found = Celery("stranger", set_as_current=False)
    found.conf.broker_url = found.conf.result_backend = crew.fleet.settings.broker_url
    found.conf.task_routes = task_routes(crew.fleet.settings)
    return found


def test_send_task_is_placed_by_the_atomic_step_and_explained(crew: Crew, app: Celery) -> None:
    sent = app.send_task(
        NAP,
        args=[{"note": "routed"}],
        kwargs={"tenant": "acme", "complexity": 0.9, "quality": 0.5, "speed": 0.1},
    )
    assert sent.get(timeout=30) == {"note": "routed"}
    record = crew.fleet.task(sent.id).record()
    assert (record.state, record.tenant, record.complexity) == ("succeeded", "acme", 0.9)
    assert record.priorities == Priorities(0.5, 0.1, "submission", "submission")
    decision = crew.fleet.task(sent.id).decision
    assert decision.pool == record.routed == max(decision.scores, key=decision.scores.__getitem__)
    assert set(decision.scores) == {"naps", "forked"}


def test_a_stock_transport_is_routed_by_expected_wait_and_recorded_by_the_worker(
    crew: Crew, stranger: Celery
) -> None:
    asked = {"tenant": "acme", "speed": 0.2}
    sent = stranger.send_task(NAP, args=[{"note": "from afar"}], kwargs=asked)
    assert sent.get(timeout=30) == {"note": "from afar"}
    record = crew.fleet.task(sent.id).record()
    assert (record.state, record.tenant) == ("succeeded", "acme")
    assert record.priorities == Priorities(0.7, 0.2, "configuration", "submission")
    assert record.pool in ("naps", "forked")


@pytest.mark.parametrize("publisher", ["app", "stranger"])
def test_a_bad_payload_is_refused_in_the_publishing_process(
    publisher: str, request: pytest.FixtureRequest
) -> None:
    celery: Celery = request.getfixturevalue(publisher)
    with pytest.raises(InvalidRequest, match="hours"):
        celery.send_task(NAP, args=[{"hours": 8}])
    with pytest.raises(InvalidRequest, match="takes its payload as its one argument"):
        celery.send_task(NAP, kwargs={"note": "x"})


def test_a_failed_task_is_a_failure_for_celery_too(crew: Crew, app: Celery) -> None:
    sent = app.send_task(NAP, args=[{"end": "refused"}])
    with pytest.raises(Exception, match="sleep at home"):
        sent.get(timeout=30)
    assert sent.state == "FAILURE"


def test_tasks_that_are_not_fleets_pass_the_router_untouched(crew: Crew) -> None:
    (router,) = task_routes(crew.fleet.settings)
    options: dict[str, Any] = {"headers": {"mine": 1}}
    assert router("shop.bill", (), {}, options) is None
    assert options == {"headers": {"mine": 1}}


def test_workers_answer_when_they_are_inspected(crew: Crew, app: Celery) -> None:
    workers = len(crew.fleet.settings.config.pools)
    # Nobody is waited for who is not there.
    stats = app.control.inspect(timeout=60, limit=workers).stats()
    assert stats is not None
    assert len(stats) == workers


def test_a_strangers_task_runs_again_when_its_worker_is_killed(
    crew: Crew, stranger: Celery, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    payload = {"seconds": 2, "note": "run", "diary": str(diary)}
    # Over the stock transport this worker alone knows of the message: none kept it but its record.
    sent = stranger.send_task(NAP, args=[payload], kwargs={"tenant": "acme"})
    eventually(diary.exists, what="the nap to begin")
    pool = crew.fleet.task(sent.id).record().pool
    crew.processes.signal(pool, signal.SIGKILL)
    crew.processes.running.pop(pool).wait()
    crew.start_worker(pool)
    assert sent.get(timeout=60) == {"note": "run"}
    record = crew.fleet.task(sent.id).record()
    assert (record.state, record.tenant, record.attempts) == ("succeeded", "acme", 2)
    assert diary.read_text() == "run\nrun\n"
