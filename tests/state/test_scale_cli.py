"""`fleet scale`, and what other commands say about the size of pools."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet

from fleet import Fleet
from fleet.redis.scripts import Scripts
from fleet.scaling.orders_store import Orders
from fleet.scaling.service import Scaler
from fleet.settings import Settings

Command = Callable[..., subprocess.CompletedProcess[str]]
CONFIG = """
[pools.codegen]
agent_type = "code_generator"
slots = 2
min = 0
max = 4
"""
PAYLOAD = {"instruction": "add"}


@pytest.fixture
def state(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Fleet:
    return Fleet(settings_of(CONFIG))


@pytest.fixture
def fleet(state: Fleet, tmp_path: Path) -> Command:
    return lambda *arguments: run_fleet(*arguments, folder=tmp_path)


@pytest.fixture
def scaler(state: Fleet) -> Scaler:
    return Scaler(state._connection)


def printed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(printed(done))


def test_before_the_first_decision_the_size_is_unknown_and_no_zero(fleet: Command) -> None:
    (size,) = answer(fleet("scale", "--json"))
    assert (size["desired"], size["ready"]) == (None, 0)
    assert "no decision yet" in size["reasons"][0]
    assert "no pool has changed its size yet" in printed(fleet("scale", "history"))


def test_a_size_is_set_for_a_time_shown_kept_in_the_audit_and_given_up(
    fleet: Command, scaler: Scaler
) -> None:
    told = printed(fleet("scale", "codegen", "3", "--for", "1h", "--why", "a launch"))
    assert told == "codegen has 3 workers for 1h. Undo: `fleet scale auto codegen`\n"
    scaler.scale()
    (size,) = answer(fleet("scale", "--json"))
    assert (size["desired"], size["policy"]) == (3, "by hand")
    (entry,) = answer(fleet("scale", "history", "codegen", "--json"))
    assert (entry["before"], entry["workers"]) == (0, 3)
    (change,) = answer(fleet("audit", "--json"))
    assert (change["kind"], change["by"], change["why"]) == ("size", getuser(), "a launch")
    assert "3 workers until" in printed(fleet("audit"))
    assert "decides the size of codegen again" in printed(fleet("scale", "auto", "codegen"))
    assert "was not set by hand" in printed(fleet("scale", "auto", "codegen"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("codegen", "5"), "pool codegen may have 0 to 4 workers, not 5"),
        (("set", "codegen", "-1"), "No such option"),
        (("nobody", "1"), "no pool is called 'nobody'; use one of: codegen"),
        (("codegen", "1", "--for", "an hour"), "--for 'an hour': give a number and s, m, h or d"),
        (("policy", "clowns"), "no scaling policy is called 'clowns'; use one of: "),
        (("policy", "nobody", "threshold"), "no pool is called 'nobody'"),
    ],
)
def test_bad_input_changes_nothing_and_says_what_to_do(
    arguments: tuple[str, ...], sentence: str, fleet: Command, state: Fleet
) -> None:
    refused = fleet("scale", *arguments)
    assert refused.returncode == 2
    assert sentence in " ".join(refused.stderr.split())
    assert state.audit(10) == []


def test_policies_are_listed_and_changed(fleet: Command) -> None:
    found = answer(fleet("scale", "policy", "--json"))
    assert {"threshold", "square_root"} <= set(found["policies"])
    assert found["pools"] == {"codegen": "square_root"}
    assert "codegen is scaled by threshold" in printed(
        fleet("scale", "policy", "codegen", "threshold")
    )
    assert answer(fleet("scale", "policy", "--json"))["pools"] == {"codegen": "threshold"}
    printed(fleet("scale", "policy", "codegen", "configured"))
    assert answer(fleet("scale", "policy", "--json"))["pools"] == {"codegen": "square_root"}


def test_the_history_is_drawn(fleet: Command, state: Fleet, scaler: Scaler, tmp_path: Path) -> None:
    for workers in (2, 4):
        state.set_size("codegen", workers)
        scaler.scale()
    shown = printed(fleet("scale", "history", "--plot", "sizes.png"))
    assert "set to 4 by a person" in shown
    assert (tmp_path / "sizes.png").read_bytes().startswith(b"\x89PNG")


def test_what_waits_for_the_first_worker_is_told_how_long(
    fleet: Command, state: Fleet, scaler: Scaler
) -> None:
    found = state._connection
    Orders(found.client, found.keys, Scripts(found.client), "here:1").follow({"codegen": 0})
    scaler.scale()
    task = state.submit("code_generation", PAYLOAD)
    wait = answer(fleet("explain", task.id, "--json"))["waits_for_worker"]
    assert (wait["pool"], wait["starting"], wait["queued"]) == ("codegen", 0, 1)
    # Half the time between two decisions, and a start.
    assert wait["seconds"] == 2.5 + 5.0
    assert "Waits for a worker of codegen, which has none" in printed(fleet("explain", task.id))
    state._connection.routing.agents.register("codegen-1", "codegen", 2, {})
    assert answer(fleet("explain", task.id, "--json"))["waits_for_worker"] is None


def test_status_and_pools_show_how_many_workers_are_wanted(
    fleet: Command, state: Fleet, scaler: Scaler
) -> None:
    state.set_size("codegen", 2)
    scaler.scale()
    state._connection.routing.agents.register("codegen-1", "codegen", 2, {})
    (part,) = [each for each in answer_of_status(fleet) if each["name"] == "pool codegen"]
    assert part["where"] == "1 agent, 0 of 2 slots busy, 2 wanted"
    (pool,) = answer(fleet("pools", "--json"))
    assert (pool["desired_workers"], pool["live_agents"]) == (2, 1)


def answer_of_status(fleet: Command) -> list[dict[str, Any]]:
    """The status is 1, as neither beat nor a model is up."""
    found: list[dict[str, Any]] = json.loads(fleet("status", "--json").stdout)["parts"]
    return found


def test_a_size_that_nothing_decides_any_more_is_said_to_hold(
    fleet: Command, state: Fleet, scaler: Scaler
) -> None:
    scaler.scale()
    key = state._connection.keys.pool("codegen").scaling
    state._connection.client.hincrby(key, "at", -60_000)
    (size,) = answer(fleet("scale", "--json"))
    assert size["is_late"]
    assert size["reasons"][0].startswith("nothing was decided for 60 s: the last size holds")


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ('[scaling]\npolicy = "clowns"\n', "scaling.policy: no scaling policy is called 'clowns'"),
        ('[scaling]\nactuator = "clowns"\n', "scaling.actuator: no actuator is called 'clowns'"),
        (
            CONFIG + 'scaling_policy = "clowns"\n',
            "pools.codegen.scaling_policy: no scaling policy is called 'clowns'",
        ),
    ],
)
def test_a_policy_or_actuator_that_is_not_installed_is_found_before_the_start(
    toml: str, sentence: str, fleet: Command, tmp_path: Path
) -> None:
    (tmp_path / "fleet.toml").write_text(toml)
    for command in (("config", "check"), ("up",)):
        refused = fleet(*command)
        assert refused.returncode == 2
        assert sentence in " ".join(refused.stderr.split())
