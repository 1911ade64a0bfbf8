"""Beat's jobs of the money as a real Flower shows them: each run, with what it gave."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Crew, eventually

from fleet.broker.app import make_app
from fleet.broker.known_tasks import BUDGETS, REAP, ROLL_UP, SPEND
from fleet.local.ports import pick_ports

PASSWORD = "open sesame"


class FlowerApi:
    """The tasks that Flower has seen, by its API."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.login = "Basic " + b64encode(f"fleet:{PASSWORD}".encode()).decode()

    def tasks(self, name: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._get(f"tasks?taskname={name}")
        return found

    def knows_a_worker(self) -> bool:
        try:
            return bool(self._get("workers"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def names(self, worker: str) -> bool:
        """Whether a worker is on its dashboard, and online."""
        shown = self._get("workers?json=1", "")["data"]
        return any(each["hostname"].startswith(worker) and each["status"] for each in shown)

    def _get(self, path: str, below: str = "api/") -> Any:
        request = urllib.request.Request(f"{self.address}/{below}{path}")
        request.add_header("Authorization", self.login)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def flower(crew: Crew) -> Iterator[FlowerApi]:
    port = pick_ports({"FLEET_FLOWER_PORT": 0})["FLEET_FLOWER_PORT"]
    environment = crew.processes.environment
    environment |= {"FLEET_FLOWER_PORT": str(port), "FLEET_FLOWER_PASSWORD": PASSWORD}
    crew.processes.start("flower", "flower")
    api = FlowerApi(port)
    try:
        eventually(api.knows_a_worker, 30, "Flower's list of workers")
        yield api
    finally:
        crew.processes.stop("flower")
        del environment["FLEET_FLOWER_PORT"], environment["FLEET_FLOWER_PASSWORD"]


@pytest.mark.parametrize(
    ("job", "gives"), [(ROLL_UP, r"\d+$"), (BUDGETS, r"\[.*\]$"), (SPEND, r"\{'day': '\d{8}'")]
)
def test_a_run_of_a_job_is_shown_with_what_it_gave(
    crew: Crew, flower: FlowerApi, job: str, gives: str
) -> None:
    sent = make_app(crew.fleet.settings).send_task(job)

    def has_ended() -> bool:
        return flower.tasks(job).get(sent.id, {}).get("state") == "SUCCESS"

    eventually(has_ended, 30, f"{job} in Flower; its log:\n{crew.processes.log('flower')}")
    shown = flower.tasks(job)[sent.id]
    assert shown["name"] == job
    assert re.match(gives, shown["result"])
    assert shown["runtime"] > 0


def test_what_beat_runs_itself_is_shown_too_and_beat_among_the_workers(flower: FlowerApi) -> None:
    """The reaper, which runs once a second here."""

    def runs() -> list[dict[str, Any]]:
        found = flower.tasks(REAP).values()
        return [run for run in found if run["state"] == "SUCCESS"]

    eventually(lambda: len(runs()) > 2, 30, "runs of beat's in Flower")
    for run in runs():
        assert run["worker"].startswith("beat@")
        assert run["runtime"] > 0
        assert "requeued" in run["result"]
    eventually(lambda: flower.names("beat@"), 30, "beat on Flower's dashboard")
