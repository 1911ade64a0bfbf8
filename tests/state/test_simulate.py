"""`fleet simulate`, as it is typed, on recorded tasks, on a file and on a random load."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet

from fleet.broker.messages import message_encoder
from fleet.policy.store import Scope
from fleet.settings import Settings
from fleet.tasks.connection import open_connection
from fleet.tasks.submission.checks import Submission

Run = Callable[..., subprocess.CompletedProcess[str]]

TWO_POOLS = """
strategy = "least_loaded"

[pools.big]
agent_type = "code_generator"
slots = 3

[pools.small]
agent_type = "code_generator"
slots = 1

[request_types.code_generation]
agent_type = "code_generator"

[models]
catalogue = "reference"
"""
ONE_POOL = TWO_POOLS.replace("[pools.small]", "[pools.tiny]").replace("slots = 3", "slots = 1")
HEAD = (
    "submitted,request_type,run_seconds,wait_seconds,pool,model,input_tokens,output_tokens,"
    "cost_usd\n"
)
LINES = (
    "0,code_generation,4,0,big,gpt-5,1000,1000,0.008\n"
    "1,code_generation,2,0.5,small,gpt-4o,1000,1000,0.0035\n"
    "2,code_generation,6,0,big,gpt-5,2000,500,0.007\n"
)


@pytest.fixture
def fleet(settings_of: Callable[[str], Settings], client: redis.Redis, tmp_path: Path) -> Run:
    settings_of(TWO_POOLS)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_fleet("simulate", *arguments, folder=tmp_path)

    return run


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    return done.stderr


def test_a_synthetic_load_is_simulated_by_each_strategy(fleet: Run, tmp_path: Path) -> None:
    asked = ("--synthetic", "--tasks", "300", "--strategy", "round_robin", "--strategy", "soonest")
    done = fleet(*asked, "--json", "--plot", "waits.png")
    found = answer(done)
    names = [row["name"] for row in found["simulated"]]
    assert names == ["as configured", "round_robin", "soonest"]
    assert (found["tasks"], found["happened"], found["measured"]) == (300, None, [])
    for row in found["simulated"]:
        assert 0 <= row["wait"]["p50"] <= row["wait"]["p99"] < row["answer"]["p99"]
        assert row["good"] == 1.0
        assert sum(row["by_pool"].values()) == pytest.approx(1.0)
        assert row["cost_nanodollars"] > 0
    assert (tmp_path / "waits.png").read_bytes().startswith(b"\x89PNG")
    assert done.stderr == ""
    assert answer(fleet(*asked, "--json")) == found


def test_more_slots_wait_less(fleet: Run, tmp_path: Path) -> None:
    (tmp_path / "larger.toml").write_text(TWO_POOLS.replace("slots = 1", "slots = 5"))
    found = answer(fleet("--synthetic", "--tasks", "2000", "--pools", "larger.toml", "--json"))
    now, then = found["simulated"]
    assert then["name"] == "what if"
    assert then["wait"]["mean"] < now["wait"]["mean"] / 2


def test_a_file_is_replayed_beside_what_happened(fleet: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text(HEAD + LINES)
    found = answer(fleet("--csv", "tasks.csv", "--json"))
    happened, now = found["happened"], found["simulated"][0]
    assert happened["cost_nanodollars"] == 18_500_000
    assert happened["wait"]["mean"] == pytest.approx(0.5 / 3)
    assert happened["wait"]["p99"] == pytest.approx(0.49)  # of 0, 0 and 0.5
    assert happened["answer"]["mean"] == pytest.approx((4 + 2.5 + 6) / 3)
    assert happened["by_pool"] == {"big": pytest.approx(2 / 3), "small": pytest.approx(1 / 3)}
    assert happened["models"] == {"gpt-4o": pytest.approx(1 / 3), "gpt-5": pytest.approx(2 / 3)}
    assert happened["quality"] == pytest.approx((0.95 + 0.90 + 0.95) / 3)
    assert now["wait"]["mean"] == 0.0  # four slots for three tasks
    # All by gpt-5, at 0.002 and 0.006 dollars for a thousand tokens: what it did cost for the
    # tasks that it did answer, and the tokens of the other one at its price.
    assert now["models"] == {"gpt-5": 1.0}
    assert now["cost_nanodollars"] == 8_000_000 + 8_000_000 + 7_000_000
    assert found["measured"] and found["assumed"]


def test_other_models_are_priced_by_the_tokens_of_the_record(fleet: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks.csv").write_text(HEAD + LINES)
    (tmp_path / "models.toml").write_text(
        '[providers.acme]\nbase_url = "http://acme"\nkey_variable = "ACME_KEY"\n'
        '[catalogue.anvil]\nprovider = "acme"\nquality = 0.5\nspeed = 0.5\n'
        "input_price = 0.001\noutput_price = 0.01\n"
    )
    found = answer(fleet("--csv", "tasks.csv", "--models", "models.toml", "--json"))
    row = found["simulated"][1]
    assert row["models"] == {"anvil": 1.0}
    assert row["quality"] == 0.5
    assert row["cost_nanodollars"] == 11_000_000 + 11_000_000 + 7_000_000


def test_recorded_tasks_are_replayed_under_the_routes_in_force(
    fleet: Run, settings_of: Callable[[str], Settings], client: redis.Redis
) -> None:
    connection = open_connection(settings_of(TWO_POOLS))
    submitter = connection.submitter(message_encoder())
    for pool, slots in (("big", 3), ("small", 1)):
        connection.routing.agents.register(f"{pool}-1", pool, slots, {})
    for state in ("succeeded", "succeeded", "failed", None):
        submitted = submitter.submit(Submission("code_generation", {"instruction": "add"}))
        if state:
            pool = submitted.placed.detail
            lease = connection.tasks.records.claim(submitted.task_id, "a", pool, 30.0, "c", "t", "")
            assert not isinstance(lease, str)
            client.hset(connection.keys.task(submitted.task_id), "cost_nanodollars", 8_000_000)
            connection.tasks.records.finish(lease, pool, state, 600, {})
    connection.policy.store.set_route(
        Scope(), {"strategy": "round_robin", "weights": {"success": 0.5}}
    )
    found = answer(fleet("--recorded", "--strategy", "soonest", "--json"))
    assert (found["source"], found["tasks"], found["left_out"]) == ("recorded", 3, 1)
    assert found["happened"]["good"] == pytest.approx(2 / 3)
    assert found["happened"]["cost_nanodollars"] == 24_000_000
    assert [row["name"] for row in found["simulated"]] == ["as configured", "soonest"]
    shown = fleet("--recorded").stdout
    assert "what happened" in shown and "assumed:" in shown and "1 left out" in shown


def test_without_recorded_tasks_it_says_what_to_do(fleet: Run) -> None:
    assert "--synthetic" in refused(fleet("--recorded"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--recorded, --csv FILE or --synthetic"),
        (("--synthetic", "--recorded"), "--recorded, --csv FILE or --synthetic"),
        (("--synthetic", "--strategy", "luck"), "no strategy is called 'luck'"),
        (("--synthetic", "--weights", "success=2"), "from 0 to 1"),
        (("--synthetic", "--weights", "charm=1"), "no weight is called 'charm'"),
        (("--synthetic", "--weights", "success"), "NAME=NUMBER"),
        (("--synthetic", "--mix", "nap=1"), "no request type is called 'nap'"),
        (("--synthetic", "--rate", "0"), "more than 0"),
        (("--synthetic", "--mean-seconds", "0"), "more than 0"),
        (("--recorded", "--cv", "1"), "--cv needs --synthetic"),
        (("--synthetic", "--mix", "code_generation=0"), "no rate follows"),
        (("--synthetic", "--producers", "0"), "at least 1"),
        (("--synthetic", "--snapshot-age", "-1"), "0 or more"),
        (("--synthetic", "--pools", "none.toml"), "none.toml: No such file"),
        (("--synthetic", "--plot", "no/such/folder.png"), "its folder does not exist"),
        (("--csv", "none.csv"), "none.csv: No such file"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    fleet: Run, arguments: tuple[str, ...], says: str
) -> None:
    assert says in refused(fleet(*arguments))
