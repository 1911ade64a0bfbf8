"""Tasks that run in the test's process: four models of a fake provider, and a real Valkey."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from fake_provider import FakeProvider

from fleet.agent import AgentSpec, ModelReply
from fleet.broker.messages import message_encoder
from fleet.budgets.cached_policy import CachedPolicy
from fleet.errors import FleetError
from fleet.models.callers import ModelCallers
from fleet.models.priced import ModelsByName
from fleet.secrets.known import KnownSecrets
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.tasks.leases.slots import TaskSlots
from fleet.tasks.record import TaskRecord
from fleet.tasks.run.context import RunContext
from fleet.tasks.run.model_session import ModelSession
from fleet.tasks.run.runner import AgentRunner
from fleet.tasks.run.services import ModelServices, PoolAgent, RunProcess
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission
from fleet.worker.event_loop import LoopThread

# By score: small, middle, large, huge; by quality the other way round. small's window is the
# smallest, and that of huge is not known. They cost $0, $0.003125, $0.03125 and $0.0625 by their
# estimates, and $0, $0.001, $0.01 and $0.02 for a thousand tokens of either kind.
CONFIG = """
[models]
quality_priority = 0.3
speed_priority = 0.7

[limits]
model_call_seconds = 1

[providers.fake]
base_url = "{url}"
key_variable = "FAKE_API_KEY"

[catalogue.small]
provider = "fake"
quality = 0.5
speed = 1.0
free = true
context_tokens = 10_000

[catalogue.middle]
provider = "fake"
quality = 0.7
speed = 0.6
input_price = 0.001
output_price = 0.001
context_tokens = 10_000

[catalogue.large]
provider = "fake"
quality = 0.9
speed = 0.2
input_price = 0.01
output_price = 0.01
context_tokens = 100_000

[catalogue.huge]
provider = "fake"
quality = 0.95
speed = 0.0
input_price = 0.02
output_price = 0.02
"""


PRICED = {"free": "input_price = 0.0005\noutput_price = 0.0005 #"}
"""small costs $0.0015625 by its estimate, half of middle."""


@dataclass
class Run:
    """One task that runs in this process."""

    fleet: Connection
    fake: FakeProvider
    lease: Lease
    session: ModelSession
    context: RunContext
    loop: asyncio.Runner

    def ask(self, times: int = 1, max_tokens: int = 1024) -> ModelReply:
        async def asked() -> ModelReply:
            for _ in range(times):
                reply = await self.context.ask("say hi", max_tokens=max_tokens)
            return reply

        return self.loop.run(asked())

    def fails(self, error: type[FleetError], match: str, max_tokens: int = 1024) -> FleetError:
        with pytest.raises(error, match=match) as caught:
            self.ask(max_tokens=max_tokens)
        assert type(caught.value) is error
        return caught.value

    @property
    def record(self) -> TaskRecord:
        return self.fleet.tasks.records.read(self.lease.task_id)

    def told(self) -> list[tuple[str, str, str]]:
        return [(call.model, call.why, call.ended) for call in self.record.model_calls]

    @property
    def cooling(self) -> dict[str, float]:
        """Seconds that each model cools down for, as any other process sees it."""
        now, facts = self.fleet.models.state.look()
        return {model: found.until - now for (_, model), found in facts.cooldowns.items()}

    def with_services(self, **changed: Any) -> Run:
        """The same run, with other services for its models."""
        services = replace(self.session.services, **changed)
        return run_of(self.fleet, self.lease, services, self.fake, self.loop)


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds, and fail if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.01)


async def until_all_is_read() -> None:
    """Wait until this loop has read what was sent to it: over loopback it has come by then."""
    for _ in range(200):
        await asyncio.sleep(0)


def start_run(
    settings: Settings, fake: FakeProvider, loop: asyncio.Runner, limit: float | None = None
) -> Run:
    """Submit a task and claim it. `limit` is what it may cost, in dollars."""
    fleet = open_connection(settings)
    fleet.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    asked = Submission("code_generation", {"instruction": "add"}, max_cost_usd=limit)
    task_id = fleet.submitter(message_encoder()).submit(asked).task_id
    return resume_run(fleet, task_id, fake, loop)


def resume_run(fleet: Connection, task_id: str, fake: FakeProvider, loop: asyncio.Runner) -> Run:
    """Claim a task that was submitted, as a worker of its own does."""
    lease = fleet.tasks.records.claim(
        task_id, "codegen-1", "codegen", 30, os.urandom(4).hex(), "acme", ""
    )
    assert isinstance(lease, Lease), lease
    return run_of(fleet, lease, services_of(fleet), fake, loop)


def run_of(
    fleet: Connection,
    lease: Lease,
    services: ModelServices,
    fake: FakeProvider,
    loop: asyncio.Runner,
) -> Run:
    session = ModelSession(lease, services, {})
    context = RunContext(lease, fleet.tasks.records, session, (), "auto")
    return Run(fleet, fake, lease, session, context, loop)


def services_of(fleet: Connection) -> ModelServices:
    """What sessions with models need, as a worker process makes it."""
    return ModelServices(
        models=ModelsByName(fleet.models.catalogue),
        callers=ModelCallers(
            fleet.settings, fleet.models.catalogue, fleet.models.keys, random.Random(1)
        ),
        calls=fleet.tasks.model_calls,
        state=fleet.models.state,
        examples=fleet.models.examples,
        policy=CachedPolicy(fleet.settings.config, fleet.policy.store),
    )


def runner_of(fleet: Connection, spec: AgentSpec) -> AgentRunner:
    """What runs tasks in a worker process, with one agent."""
    settings = fleet.settings
    slots = TaskSlots(settings.config.pools["codegen"].slots)
    hidden = KnownSecrets(settings, os.environ).hidden
    keeper = LeaseKeeper(fleet.tasks.records, 30, 10)
    return AgentRunner(
        settings,
        PoolAgent("codegen", "codegen-1"),
        {"code_generator": spec},
        fleet.tasks,
        fleet.routing.pools,
        services_of(fleet),
        RunProcess(keeper, LoopThread().submit, slots, random.Random(1), hidden),
    )
