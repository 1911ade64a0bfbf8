"""A price that changes while tasks wait and run: each call is admitted and charged at the price of
its own time, in every process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet
from fake_provider import FakeProvider, answer, held
from task_runs import Run, resume_run

from fleet.broker.messages import message_encoder
from fleet.models.known import KnownModels
from fleet.models.price_files import document_text, packed, store
from fleet.models.priced import PricedModels
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.submission.checks import Submission

CONFIG = """
[models]
escalate = false

[providers.openai]
base_url = "{url}"
key_variable = "FAKE_API_KEY"

[catalogue.hourly]
provider = "openai"
quality = 0.9
speed = 0.9
"""
BEFORE = datetime(2026, 11, 30, 1, 59, 0, tzinfo=UTC)
AFTER = datetime(2026, 11, 30, 2, 0, 0, tzinfo=UTC)
READ, WRITTEN = 70, 1024
"""The most that "say hi" may take."""


def document(*prices: tuple[float, str]) -> list[dict[str, Any]]:
    """Price data: dollars for a million tokens of either kind, and until when in the day."""
    told = [
        {
            "prices": {"input_mtok": dollars, "output_mtok": dollars},
            **({"constraint": {"start_time": "00:00:00Z", "end_time": until}} if until else {}),
        }
        for dollars, until in prices
    ]
    model = {"id": "hourly", "match": {"equals": "hourly"}, "prices": told}
    return [{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": [model]}]


class Clock:
    """The time of day, by hand."""

    now = BEFORE

    def __call__(self) -> datetime:
        return self.now


Fleet = tuple[Connection, Clock]


@pytest.fixture
def fleet(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
    tmp_path: Path,
    fake: FakeProvider,
) -> Fleet:
    clean_environment.setenv("FAKE_API_KEY", "sk-secret")
    clean_environment.setenv("FLEET_DATA_DIR", str(tmp_path))
    store(tmp_path, document((2.0, ""), (1.0, "02:00:00Z")), "here")
    clock = Clock()
    clean_environment.setattr(
        "fleet.tasks.connection.PricedModels",
        lambda settings, keys, shared: PricedModels(settings, keys, clock, shared=shared),
    )
    found = open_connection(settings_of(CONFIG.format(url=fake.base_url)))
    found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    return found, clock


ASKED = Submission("code_generation", {"instruction": "add"})


def claimed(fleet: Fleet, fake: FakeProvider, loop: asyncio.Runner) -> Run:
    task_id = fleet[0].submitter(message_encoder()).submit(ASKED).task_id
    return resume_run(fleet[0], task_id, fake, loop)


def bound(run: Run) -> int:
    """Nano-dollars that the call under way has bound."""
    (step,) = run.fleet.budgets.usage.reserved().steps.values()
    return step.held.amount


def admitted(run: Run, fake: FakeProvider, loop: asyncio.Runner) -> int:
    """Nano-dollars that a call binds while it is under way; it is answered then."""
    fake.script("hourly", held(answer("hi", 10, 5)))

    async def look() -> int:
        asked = asyncio.create_task(run.context.ask("say hi"))
        await asyncio.to_thread(fake.wait_for, "hourly")
        found = bound(run)
        fake.let_go()
        await asked
        return found

    return loop.run(look())


def test_a_call_after_a_price_step_is_admitted_and_charged_at_the_new_price(
    fleet: Fleet, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    run = claimed(fleet, fake, loop)
    estimate = run.lease.candidates[0].cost_nanodollars
    fleet[1].now = AFTER
    assert admitted(run, fake, loop) == (READ + WRITTEN) * 2000
    assert run.record.cost_nanodollars == 15 * 2000
    (entry,) = fleet[0].ledger.entries.newest(1)
    assert (entry.amount, entry.estimate) == (15 * 2000, estimate)


def test_a_call_is_charged_at_the_price_that_it_was_admitted_at(
    fleet: Fleet, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    """However long its answer takes: what is bound for it is what it may cost."""
    run = claimed(fleet, fake, loop)
    fake.script("hourly", held(answer("hi", 10, 5)))

    async def step_while_it_answers() -> None:
        asked = asyncio.create_task(run.context.ask("say hi"))
        await asyncio.to_thread(fake.wait_for, "hourly")
        fleet[1].now = AFTER
        fake.let_go()
        await asked

    loop.run(step_while_it_answers())
    assert run.record.cost_nanodollars == 15 * 1000
    run.ask()
    assert run.record.cost_nanodollars == 15 * 1000 + 15 * 2000


def test_a_task_is_planned_and_its_money_held_at_the_price_of_its_submission(
    fleet: Fleet,
) -> None:
    connection, clock = fleet
    submitter = connection.submitter(message_encoder())
    cheap = submitter.submit(ASKED).plan.models.best.cost_nanodollars
    held_before = connection.budgets.usage.read().held["all"].amount
    clock.now = AFTER
    expensive = submitter.submit(ASKED).plan.models.best.cost_nanodollars
    assert expensive == 2 * cheap
    assert connection.budgets.usage.read().held["all"].amount - held_before == expensive
    clock.now = AFTER + timedelta(hours=22)
    assert submitter.submit(ASKED).plan.models.best.cost_nanodollars == cheap


def test_a_price_step_costs_a_submission_no_round_trip(fleet: Fleet) -> None:
    connection, clock = fleet
    submitter = connection.submitter(message_encoder())
    sent: list[int] = []
    for now in (BEFORE, BEFORE, AFTER):
        clock.now = now
        before = connection.client.info("stats")["total_commands_processed"]
        submitter.submit(ASKED)
        sent.append(connection.client.info("stats")["total_commands_processed"] - before)
    # The first loads the script, and reads what the others know already.
    assert sent[2] <= sent[1] < sent[0]


def test_a_refresh_elsewhere_costs_one_submission_one_read(fleet: Fleet) -> None:
    connection, _ = fleet
    submitter = connection.submitter(message_encoder())
    newer = document_text(document((7.0, "")), "elsewhere", connection.models.prices.now())

    def submit() -> tuple[int, int]:
        before = connection.client.info("stats")["total_commands_processed"]
        cost = submitter.submit(ASKED).plan.models.best.cost_nanodollars
        sent = connection.client.info("stats")["total_commands_processed"] - before
        return sent, cost

    submit()
    usual, old = submit()
    connection.models.prices.put(packed(newer, "elsewhere"))
    submitter.planner.known_models = KnownModels()
    """As after the second in which nothing is brought along."""
    told, _ = submit()
    after, new = submit()
    # A read of what the models are known by comes within the script, and is counted.
    assert told == usual + 2
    assert after == usual
    assert new == 7 * old


def test_a_call_is_admitted_and_charged_at_what_another_machine_has_refreshed(
    fleet: Fleet, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    run = claimed(fleet, fake, loop)
    shared = fleet[0].models.prices
    newer = document_text(document((7.0, "")), "elsewhere", shared.now())
    shared.put(packed(newer, "elsewhere"))
    assert admitted(run, fake, loop) == (READ + WRITTEN) * 7000
    assert run.record.cost_nanodollars == 15 * 7000


WATCHER = """
import sys
from fleet.broker.messages import message_encoder
from fleet.models import priced as priced_models
priced_models.CHECK_SECONDS = 0.1
from fleet.tasks.connection import open_connection
from fleet.tasks.submission.checks import Submission
from fleet.settings import load_settings
connection = open_connection(load_settings())
submitter = connection.submitter(message_encoder())
for line in sys.stdin:
    submitter.dry_run(Submission("code_generation", {"instruction": "add"}))
    print(connection.models.catalogue[0].price.input.dollars, flush=True)
"""


@pytest.mark.parametrize("its_folder", ["", "elsewhere"])
def test_a_refresh_reaches_another_process_that_runs(
    fleet: Fleet, tmp_path: Path, its_folder: str
) -> None:
    folder = tmp_path / its_folder
    store(folder, document((1.0, "")), "here")
    newer = tmp_path / "newer.json"
    newer.write_text(json.dumps(document((7.0, ""))))
    command = [sys.executable, "-c", WATCHER]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "FLEET_DATA_DIR": str(folder)},
        text=True,
        cwd=tmp_path,
    ) as watcher:
        assert watcher.stdin is not None
        assert watcher.stdout is not None

        def look() -> str:
            print(file=watcher.stdin, flush=True)
            return str(watcher.stdout.readline()).strip()  # type: ignore[union-attr]

        assert look() == "1.0"
        done = run_fleet("models", "refresh", "--from", str(newer), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        for _ in range(200):
            if look() == "7.0":
                break
        else:
            pytest.fail("the process that runs kept its old price")
        watcher.stdin.close()
