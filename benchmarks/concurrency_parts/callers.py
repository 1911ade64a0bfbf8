"""Some of the workers, in one process: each runs one task, which asks the model without end.

With `fixed` the callers share nothing: each calls the provider, and after a refusal waits as long
as the provider asks. Otherwise they call as agents do: admitted, placed, billed. The last line has
how many answers each worker got.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from fleet.broker.messages import message_encoder
from fleet.budgets.cached_policy import CachedPolicy
from fleet.errors import RateLimited, RetryLater
from fleet.models.callers import ModelCallers
from fleet.models.priced import ModelsByName
from fleet.settings import load_settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.run.billing import Question
from fleet.tasks.run.model_session import ModelSession
from fleet.tasks.run.services import ModelServices
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

QUESTION = Question("say done", "", 16, 0.0)


def main(count: int, seconds: float, *, is_fixed: bool) -> None:
    """Run so many workers for so long, from the first line of the input on."""
    fleet = open_connection(load_settings())
    stores, rng = fleet.models, random.Random()
    callers = ModelCallers(fleet.settings, stores.catalogue, stores.keys, rng)
    services = ModelServices(
        ModelsByName(fleet.models.catalogue),
        callers,
        fleet.tasks.model_calls,
        fleet.models.state,
        fleet.models.examples,
        CachedPolicy(fleet.settings.config, fleet.policy.store),
    )
    leases = [] if is_fixed else [begun(fleet) for _ in range(count)]
    callers.caller("m", callers.keys_of("m")[0])
    print("ready", flush=True)
    sys.stdin.readline()
    deadline = time.monotonic() + seconds
    if is_fixed:
        works = [alone(callers, deadline) for _ in range(count)]
    else:
        works = [learned(lease, services, deadline) for lease in leases]
    print(json.dumps(asyncio.run(gathered(works))))


async def gathered(works: Sequence[Coroutine[Any, Any, int]]) -> list[int]:
    """The results of all."""
    return list(await asyncio.gather(*works))


def begun(fleet: Connection) -> Lease:
    """Submit a task and claim it."""
    fleet.routing.agents.register("codegen-1", "codegen", 100, {})
    task = fleet.submitter(message_encoder()).submit(
        Submission("code_generation", {"instruction": "add"})
    )
    lease = fleet.tasks.records.claim(
        task.task_id, "codegen-1", "codegen", 3600, os.urandom(4).hex(), "default", ""
    )
    assert isinstance(lease, Lease)
    return lease


async def learned(lease: Lease, services: ModelServices, deadline: float) -> int:
    """Ask until the deadline, as an agent does."""
    session, answers = ModelSession(lease, services, {}), 0
    while time.monotonic() < deadline:
        try:
            await session.ask(QUESTION)
            answers += 1
        except RetryLater as error:
            await asyncio.sleep(min(error.retry_after, 1.0))
    return answers


async def alone(callers: ModelCallers, deadline: float) -> int:
    """Call until the deadline, and wait after each refusal as the provider asks."""
    caller, answers = callers.caller("m", callers.keys_of("m")[0]), 0
    while time.monotonic() < deadline:
        try:
            await caller.ask(*QUESTION)
            answers += 1
        except RateLimited as error:
            await asyncio.sleep(error.retry_after)
    return answers


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), is_fixed=sys.argv[3] == "fixed")
