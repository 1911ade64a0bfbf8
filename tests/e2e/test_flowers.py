"""Fleet's own Flower, and one that a user starts of an application that `make_app` has made: both
know the fleet's tasks and queues."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from harness import Crew, eventually

from fleet.local.ports import pick_ports

PASSWORD = "open sesame"
VIEWERS_PASSWORD = "look only"
USERS_APP = "from fleet.broker.app import make_app\n\napp = make_app()\n"
NAP = "agents.napper"


class Api:
    """Flower's API at a port."""

    def __init__(self, port: int, login: str = f"fleet:{PASSWORD}") -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}/api/"
        self.login = "Basic " + b64encode(login.encode()).decode()

    def ask(self, path: str, body: Any = None, **query: str) -> tuple[int, Any]:
        """The status and the answer; a POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}?{urlencode(query)}", data)
        request.add_header("Authorization", self.login)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def page(self, path: str) -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        request.add_header("Authorization", self.login)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())

    def workers(self) -> list[str]:
        try:
            status, found = self.ask("workers")
        except (urllib.error.URLError, ConnectionError):
            return []
        return sorted(found) if status == 200 else []


@pytest.fixture(scope="module")
def flowers(crew: Crew) -> Iterator[dict[str, Api]]:
    ports = pick_ports({"FLEET_FLOWER_PORT": 0, "USERS": 0})
    environment = crew.processes.environment
    added = {
        "FLEET_FLOWER_PORT": str(ports["FLEET_FLOWER_PORT"]),
        "FLEET_FLOWER_PASSWORD": PASSWORD,
        "FLEET_FLOWER_VIEWER_PASSWORD": VIEWERS_PASSWORD,
    }
    environment |= added
    crew.processes.start("flower", "flower")
    users = {"FLOWER_BASIC_AUTH": f"fleet:{PASSWORD}", "FLOWER_ADDRESS": "127.0.0.1"}
    (crew.processes.folder / "users_app.py").write_text(USERS_APP)
    command = [sys.executable, "-m", "celery", "-A", "users_app", "flower"]
    with (crew.processes.folder / "users-flower.log").open("ab") as log:
        crew.processes.running["users-flower"] = subprocess.Popen(
            [*command, f"--port={ports['USERS']}"],
            cwd=crew.processes.folder,
            env={**environment, **users},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = {"fleets": Api(ports["FLEET_FLOWER_PORT"]), "users": Api(ports["USERS"])}
    try:
        for name, api in found.items():
            eventually(api.workers, 40, f"workers in the Flower of {name}")
        yield found
    finally:
        for name in ("flower", "users-flower"):
            crew.processes.stop(name)
        for name in added:
            del environment[name]


@pytest.mark.parametrize("whose", ["fleets", "users"])
def test_a_flower_counts_the_fleets_queues(flowers: dict[str, Api], whose: str) -> None:
    status, found = flowers[whose].ask("queues/length")
    assert status == 200
    assert {"{fleet}.naps", "{fleet}.overflow.napper"} <= {
        each["name"] for each in found["active_queues"]
    }


@pytest.mark.parametrize("whose", ["fleets", "users"])
def test_a_flower_applies_and_limits_agents_tasks(
    crew: Crew, flowers: dict[str, Api], whose: str
) -> None:
    api = flowers[whose]
    status, done = api.ask(f"task/apply/{NAP}", {"args": [{"note": "from Flower"}]})
    assert (status, done["state"], done["result"]) == (200, "SUCCESS", {"note": "from Flower"})
    assert crew.fleet.task(done["task-id"]).state() == "succeeded"
    status, sent = api.ask(f"task/async-apply/{NAP}", {"args": [{"note": "later"}]})
    assert status == 200
    assert crew.fleet.task(sent["task-id"]).result(30).model_dump()["note"] == "later"
    assert api.ask("task/async-apply/fleet.rollup", {})[0] == 200
    assert api.ask("task/async-apply/agents.nobody", {})[0] == 404
    (worker,) = [each for each in api.workers() if each.startswith("naps-")]
    for path, asked in (("rate-limit", {"ratelimit": "1000/s"}), ("timeout", {"hard": "60"})):
        status, answer = api.ask(f"task/{path}/{NAP}", {}, workername=worker, **asked)
        assert status == 200, answer


def test_a_viewer_sees_a_worker_without_buttons_and_cannot_end_it(
    flowers: dict[str, Api],
) -> None:
    operator, viewer = flowers["fleets"], Api(flowers["fleets"].port, f"viewer:{VIEWERS_PASSWORD}")
    (worker,) = [each for each in viewer.workers() if each.startswith("naps-")]
    shown = {name: api.page(f"/worker/{worker}") for name, api in (("v", viewer), ("o", operator))}
    assert ("worker-shutdown" in shown["o"], "worker-shutdown" in shown["v"]) == (True, False)
    assert ("Grow" in shown["o"], "Grow" in shown["v"]) == (True, False)
    assert viewer.ask(f"worker/shutdown/{worker}", {})[0] == 403
    assert worker in viewer.page("/metrics")
    assert worker in viewer.workers()
    assert Api(viewer.port, "viewer:wrong").ask("workers")[0] == 401
