"""Tasks whose run fails: a real worker and beat try them again, and a dead letter is retried."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
import redis
from fake_provider import broken, refused
from harness import eventually
from money_fleet import MoneyFleet, money_fleet

from fleet.errors import ModelRefused

RETRIES = "[retries]\nbase_seconds = 0.2\ncap_seconds = 0.2\n"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Iterator[MoneyFleet]:
    folder = tmp_path_factory.mktemp("retried")
    with redis.Redis.from_url(valkey_url) as client, pytest.MonkeyPatch.context() as patch:
        client.flushall()
        for name in list(os.environ):
            if name.startswith("FLEET_") or name.endswith("_API_KEY"):
                patch.delenv(name)
        with money_fleet(folder, patch, valkey_url, RETRIES) as found:
            found.crew.processes.start("beat", "beat")
            found.crew.start_worker("asking")
            yield found


@pytest.fixture
def asking(started: MoneyFleet) -> Iterator[MoneyFleet]:
    yield started
    eventually(started.nothing_is_held, what="nothing to be held")
    started.check_the_ledger()


def fleet(asking: MoneyFleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    return asking.crew.processes.fleet(*arguments)


def test_a_task_whose_provider_is_down_for_a_while_ends_well(asking: MoneyFleet) -> None:
    asking.fake.script("dear", *[broken(503)] * 2)
    task = asking.crew.fleet.submit("question", {}, complexity=0.5)
    record = task.wait(60)
    assert (record.state, record.error, record.crashes) == ("succeeded", None, 0)
    assert record.retries >= 1
    assert record.attempts == record.retries + 1
    assert [move.state for move in record.history][:4] == [
        *("queued", "running", "parked", "queued"),
    ]
    assert asking.crew.fleet.dead() == []


def test_a_dead_letter_that_is_retried_when_its_cause_is_gone_ends_well(
    asking: MoneyFleet,
) -> None:
    asking.fake.script("dear", refused())
    task = asking.crew.fleet.submit("question", {}, complexity=0.5)
    with pytest.raises(ModelRefused):
        task.result(60)
    (letter,) = json.loads(fleet(asking, "dead", "list", "--json").stdout)
    assert (letter["id"], letter["dead"]) == (task.id, "permanent")
    asked = fleet(asking, "dead", "retry", task.id, "--json")
    assert asked.returncode == 0
    (done,) = json.loads(asked.stdout)
    again = asking.crew.fleet.task(done["retried"])
    assert again.wait(60).state == "succeeded"
    assert again.record().retry_of == task.id
    assert fleet(asking, "dead", "list", "--json").stdout == "[]\n"
