"""`fleet deploy smoke` on a real fleet: a canary for each agent, and one that fails."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import Crew


def smoke(crew: Crew, *arguments: str, payload: dict[str, Any] | None = None) -> tuple[int, Any]:
    if payload is not None:
        path = crew.processes.folder / "payloads.json"
        path.write_text(json.dumps({"nap": payload}))
        arguments = ("--pool", "naps", "--payloads", str(path), *arguments)
    ended = crew.processes.fleet("deploy", "smoke", "--json", *arguments)
    return ended.returncode, json.loads(ended.stdout)


def test_each_of_fleets_own_agents_does_its_canary(crew: Crew) -> None:
    status, found = smoke(crew, "--timeout", "90")
    states = {each["agent_type"]: each["state"] for each in found["canaries"]}
    assert status == 0, found
    assert states == dict.fromkeys(
        ("code_generator", "security_scanner", "performance_tester"), "succeeded"
    )
    assert [note.partition(":")[0] for note in found["notes"]] == ["napper"]


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({"end": "broken"}, "it ended as failed: "),
        ({"end": "unverified"}, "it ended as unverified"),
        ({"seconds": 60}, "it had not ended in time and was running; it is cancelled"),
        ({"sleep": 1}, "sleep"),
    ],
)
def test_a_canary_that_does_not_succeed_fails_the_deployment(
    crew: Crew, payload: dict[str, Any], problem: str
) -> None:
    status, found = smoke(crew, "--timeout", "5", payload=payload)
    (tried,) = found["canaries"]
    assert (status, found["passed"]) == (1, False)
    assert problem in tried["problem"]


def test_a_canary_is_submitted_until_the_version_has_run_it(crew: Crew) -> None:
    versions = {agent.version for agent in crew.fleet.agents()}
    (version,) = versions - {""}
    status, found = smoke(crew, "--version", version, payload={})
    assert (status, found["canaries"][0]["problem"]) == (0, "")
    status, found = smoke(crew, "--version", "9.9", "--timeout", "1", payload={})
    assert status == 1
    assert found["canaries"][0]["problem"] == "no agent of version 9.9 took it in time"


def test_without_any_canary_nothing_is_shown_to_work(crew: Crew) -> None:
    assert smoke(crew, "--pool", "naps")[0] == 1
    assert smoke(crew, payload={"note": "rested"})[0] == 0
