"""An agent whose application has Celery settings of its user's, none of which is Fleet's: the
user's tasks go where the settings say, and the agents' where Fleet says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain
from celery.result import AsyncResult
from harness import Crew, eventually

from fleet import Fleet
from fleet.broker.app import make_app
from fleet.errors import NotAllowed
from fleet.settings import load_settings

NAP = "agents.napper"
SETTINGS = """
from kombu import Queue


def set_up(app):
    app.conf.update(
        task_queues=[Queue("shop", routing_key="shop")],
        task_create_missing_queues=False,
        task_routes={"*": {"queue": "shop"}},
        task_default_exchange_type="topic",
        task_acks_late=False,
        task_acks_on_failure_or_timeout=False,
        task_serializer="yaml",
        accept_content=["json", "yaml"],
        task_annotations={"*": {"rate_limit": "1000/s"}},
        broker_transport_options={"visibility_timeout": 3600},
        result_backend_transport_options={"global_keyprefix": "shop_"},
        worker_prefetch_multiplier=16,
        timezone="Asia/Tokyo",
    )
"""
WORKER = """
from users_settings import set_up
from workers.app import app

set_up(app)


@app.task(name="agents.report", shared=False)
def report(result):
    return ["reported", result]
"""


@pytest.fixture(scope="module")
def app(crew: Crew) -> Iterator[Celery]:
    """The application as a publisher has it, beside a worker of a fleet of its own."""
    folder, name = crew.processes.folder, "users-agent"
    (folder / "users_settings.py").write_text(SETTINGS)
    (folder / "users_agent.py").write_text(WORKER)
    own = {"FLEET_BROKER_URL": f"{crew.processes.environment['FLEET_BROKER_URL'][:-1]}3"}
    command = [sys.executable, "-m", "celery", "-A", "users_agent", "worker", "-l", "INFO"]
    with (folder / f"{name}.log").open("ab") as log:
        crew.processes.running[name] = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"],
            cwd=folder,
            env={**crew.processes.environment, **own, "FLEET_POOL": "naps"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in (crew.processes.environment | own).items():
                if variable.startswith("FLEET_"):
                    patch.setenv(variable, value)
            found = make_app(load_settings(), set_as_current=False)
        set_up: dict[str, Any] = {}
        exec(SETTINGS, set_up)
        set_up["set_up"](found)
        eventually(lambda: " ready." in crew.processes.log(name), 40, "the user's agent")
        yield found
        found.backend.result_consumer.cancel_for = lambda task_id: None
    finally:
        crew.processes.stop(name)


def test_both_kinds_of_tasks_run_and_hand_on_their_results(app: Celery) -> None:
    steps = (app.signature(NAP, args=[{"note": "a nap"}]), app.signature("agents.report"))
    done = chain(*steps, app=app).apply_async()
    assert done.get(timeout=30) == ["reported", {"note": "a nap"}]
    assert Fleet(app.fleet.settings).task(done.parent.id).record().pool == "naps"


def test_a_submissions_result_is_found_by_its_id(app: Celery) -> None:
    fleet = Fleet(app.fleet.settings)
    results: list[AsyncResult[object]] = [
        app.AsyncResult(fleet.submit("nap", {"note": "submitted", "seconds": 0.5}).id),
        app.AsyncResult(fleet.submit("nap", {"end": "refused"}).id),
    ]
    assert results[0].get(timeout=30) == {"note": "submitted"}
    with pytest.raises(NotAllowed, match="sleep at home"):
        results[1].get(timeout=30)
    assert [each.state for each in results] == ["SUCCESS", "FAILURE"]
