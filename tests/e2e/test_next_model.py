"""A real worker whose first model accepts no more: the task goes on with the second."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from fake_provider import FakeProvider, answer, rate_limited
from harness import Crew, Processes, eventually

from fleet import Fleet
from fleet.errors import InvalidRequest

CONFIG = """
[agent_types.code_generator]

[pools.codegen]
agent_type = "code_generator"
slots = 2

[request_types.code_generation]
agent_type = "code_generator"

[providers.fake]
base_url = "{url}"
key_variable = "FAKE_API_KEY"

[catalogue.best]
provider = "fake"
quality = 0.9
speed = 0.9
input_price = 0.001
output_price = 0.002

[catalogue.second]
provider = "fake"
quality = 0.5
speed = 0.5
input_price = 0.001
output_price = 0.002

[retries]
most = 0
"""
CODE = "def add(a, b):\n    return a + b\n"
PAYLOAD = {"instruction": "Write add(a, b).", "tests": "assert add(1, 2) == 3"}


@dataclass(frozen=True)
class FakeCrew:
    """A fleet of one worker whose models are fakes."""

    crew: Crew
    fake: FakeProvider

    def command(self, *arguments: str) -> Any:
        """What a command of `fleet` answers as JSON."""
        done = self.crew.processes.fleet(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def fakes(
    tmp_path: Path,
    clean_environment: pytest.MonkeyPatch,
    valkey_url: str,
    client: redis.Redis,
) -> Iterator[FakeCrew]:
    """Fakes that nobody knows yet: `client` has emptied the Valkey."""
    with FakeProvider() as fake:
        (tmp_path / "fleet.toml").write_text(CONFIG.format(url=fake.base_url))
        added = {
            "FLEET_CONFIG": str(tmp_path / "fleet.toml"),
            "FLEET_BROKER_URL": valkey_url,
            "FLEET_NAMESPACE": "fakes",
            "FAKE_API_KEY": "sk-secret",
        }
        for name, value in added.items():
            clean_environment.setenv(name, value)
        processes = Processes(tmp_path, dict(os.environ))
        crew = Crew(Fleet.from_env(), processes)
        try:
            crew.start_worker("codegen")
            yield FakeCrew(crew, fake)
        finally:
            processes.stop_all()


def test_a_task_whose_model_takes_no_more_succeeds_with_the_next_and_shows_both_steps(
    fakes: FakeCrew,
) -> None:
    fakes.fake.script("best", rate_limited(retry_after=120))
    fakes.fake.script("second", answer(CODE, 40, 12, cached_tokens=30))
    fleet = fakes.crew.fleet
    task = fleet.submit("code_generation", PAYLOAD)
    assert task.wait(60).state == "succeeded"

    shown = fakes.command("task", task.id)
    first, second = shown["steps"]
    assert (first["model"], first["why"], first["ended"]) == ("best", "first", "rate limited")
    assert second["why"] == "failover: best rate limited"
    tokens = [second[f"{kind}_tokens"] for kind in ("input", "cached_input", "output")]
    assert (second["model"], second["ended"], tokens) == ("second", "ok", [40, 30, 12])
    assert second["cost_nanodollars"] == shown["cost_nanodollars"] > 0
    assert (shown["model"], shown["model_calls"]) == ("second", 2)
    assert fakes.command("explain", task.id)["steps"] == shown["steps"]

    # This process, which asked nothing, knows what the worker has learned.
    eventually(lambda: _rewards(fakes, "second") == 1, 10, "the reward of the second model")
    models = {each["model"]: each for each in fakes.command("models")["models"]}
    assert models["best"]["state"] == "cooling down"
    assert fakes.command("rate", task.id, "0.5")["model"] == "second"
    assert _rewards(fakes, "second") == pytest.approx(3, abs=0.05)
    assert fakes.command("task", task.id)["rating"] == 0.5
    assert "sk-secret" not in fakes.crew.processes.log("codegen")


def test_a_task_that_no_model_answered_teaches_nothing_and_cannot_be_rated(
    fakes: FakeCrew,
) -> None:
    for model in ("best", "second"):
        fakes.fake.script(model, rate_limited(retry_after=120))
    task = fakes.crew.fleet.submit("code_generation", PAYLOAD)
    record = task.wait(60)
    assert record.state == "failed"
    assert record.error is not None
    assert record.error["type"] == "RateLimited"
    assert [step.ended for step in record.model_calls] == ["rate limited", "rate limited"]
    with pytest.raises(InvalidRequest, match="no model has answered"):
        task.rate(1.0)
    assert _rewards(fakes, "best") == _rewards(fakes, "second") == 0


def _rewards(fakes: FakeCrew, model: str) -> float:
    facts = fakes.crew.fleet._connection.models.state.read()
    found = facts.evidence.get((model, "code_generation"))
    return found.rewards if found else 0.0
