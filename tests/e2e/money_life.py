"""The lives that a task may have, in processes of their own that die at a call of a script.

    python money_life.py

Reads one order a line, forks a process that lives it, and answers in one line: whether it was
killed, and the scripts that it called. Every call of a script goes through `Script.__call__`: so a
script that is added some day is a place to die at without a word here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

from kombu import Consumer, Exchange, Queue

from fleet.broker.app import Role, fleet_of, make_app, worker_queues
from fleet.broker.application import FleetCelery
from fleet.broker.messages import message_encoder
from fleet.budgets.reservation import CallLimits, ScopeLimits
from fleet.errors import FleetError
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.redis.scripts import NAMES, Script, source
from fleet.settings import load_settings
from fleet.tasks.dead_letters import retry_dead
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.tasks.leases.slots import TaskSlots
from fleet.tasks.model_call import ModelCall
from fleet.tasks.reaper import reap
from fleet.tasks.rules import MAX_CRASHES
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission
from fleet.tasks.waiting.release import release_due
from fleet.worker.agent_tasks import _make_runner

POOL, AGENT = "asking", "asking-1"
QUESTION = "question"
PARKS = {"max_tokens": 1400}
"""The second question of such a task does not fit the hour: see `test_money_crashes`."""
BUDGET = LimitKey("all", "hour", "dollars")
LATE_IMPORTS = (
    *("anyio._backends._asyncio", "fleet.broker.amqp", "fleet.models.calls.call"),
    *("genai_prices.data", "numpy.random", "openai.lib.streaming.chat"),
    *("openai.resources.chat.completions", "pydantic_ai.models.openai"),
    *("workers.code_generator.models", "workers.performance_tester", "workers.security_scanner"),
)
"""What each life would import for itself, which takes most of its time."""


class Place(NamedTuple):
    """Before or after the call of a script, the first one, the second and so on."""

    script: str
    number: int
    when: str


def record_calls(file: Path, deadly: Place | None) -> None:
    """Write down every call of a script, and die at one."""
    names = {source(name): name for name in NAMES}
    call, numbers = Script.__call__, Counter[str]()

    def recorded(self: Script, *arguments: Any, **options: Any) -> Any:
        name = names[self._stock.script]
        numbers[name] += 1
        with file.open("a") as calls:
            calls.write(f"{name}\n")
        here = partial(Place, name, numbers[name])
        if here("before") == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call(self, *arguments, **options)
        if here("after") == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Script.__call__ = recorded  # type: ignore[method-assign]


class World:
    """What happens to the tasks of a fleet: its worker, producer and beat in one process."""

    def __init__(self, app: FleetCelery) -> None:
        # Nobody renews by the clock: each run does so once, when it begins.
        LeaseKeeper.start = lambda self: None  # type: ignore[method-assign]
        self.app = app
        self.fleet = fleet_of(self.app)
        self.submitter = self.fleet.submitter(message_encoder())
        self.fleet.routing.agents.register(AGENT, POOL, 8, {})

    def submit(self, **payload: int) -> str:
        once = f"asks-{len(payload)}"
        asked = Submission(QUESTION, payload, complexity=0.5, idempotency_key=once)
        return self.submitter.submit(asked).task_id

    def work(self) -> None:
        """Take what is queued, and run it, until there is nothing more."""
        self.fleet.routing.agents.heartbeat(AGENT, POOL, 0, 8)
        runner = _make_runner(self.app, Role(POOL, AGENT), TaskSlots(1))
        keeper = runner.process.keeper
        keeper.renew_seconds = 0
        hold = keeper.hold

        def hold_and_look(*arguments: Any) -> None:
            hold(*arguments)
            keeper.look()

        keeper.hold = hold_and_look  # type: ignore[method-assign]

        def take(body: Any, message: Any) -> None:
            (payload,), asked, _ = body
            delivery = Delivery(message.headers["id"], payload, asked["tenant"], lambda: "")
            try:
                runner.run("asker", delivery)
            except FleetError as error:
                print("a task ended with", repr(error), file=sys.stderr)
            message.ack()

        with self.app.connection_for_read() as broker:
            channel = broker.default_channel
            channel.qos.restore_visible()
            names = worker_queues(self.fleet.settings, POOL)
            queues = [Queue(name, Exchange(""), routing_key=name) for name in names]
            consumer = Consumer(channel, queues, callbacks=[take], accept=["json"])
            consumer.qos(prefetch_count=1)
            consumer.consume()
            while any(self.fleet.client.llen(name) for name in names):
                broker.drain_events(timeout=2)
        self.fleet.routing.agents.leave(AGENT, POOL)
        self.fleet.routing.agents.register(AGENT, POOL, 8, {})

    def raise_the_budget(self) -> None:
        self.fleet.policy.store.set_limits({BUDGET: 10**9}, AuditActor("ann", "more work"))

    def time_passes(self) -> None:
        """Leases end, and so does the patience with messages that nobody renews, and with whoever
        took something due and has not queued it."""
        client, keys = self.fleet.client, self.fleet.keys
        for schedule in (keys.delayed, keys.parked):
            client.zunionstore(schedule, {schedule: 0})
        for task_id in client.zrange(keys.leases, 0, -1):
            client.hset(keys.task(task_id.decode()), "lease_until", 1)
            client.zadd(keys.leases, {task_id: 1})
        for tag in client.zrange(keys.pool(POOL).unacked_index, 0, -1):
            client.zadd(keys.pool(POOL).unacked_index, {tag: 1})

    def die_in_a_step(self, task_id: str) -> None:
        """Another worker has begun a step, and is not heard of again."""
        found = self.fleet.tasks.records.claim(task_id, AGENT, POOL, 60, "other", "default", "")
        assert isinstance(found, Lease)
        if found.must_run_alone:
            self.fleet.tasks.records.begin(found)
        version = self.fleet.policy.store.read().version
        worst = ModelCall("dear", "fake", "first", "", 10, 0, 10, 1000)
        assert (
            self.fleet.tasks.model_calls.admit(found, 1, worst, CallLimits(version, ScopeLimits()))
            is None
        )
        self.time_passes()


def usual(world: World) -> None:
    world.submit()
    world.work()


def parked(world: World) -> None:
    first, _ = world.submit(), world.submit(**PARKS)
    world.fleet.tasks.records.cancel(first, 60)
    world.raise_the_budget()
    world.fleet.policy.store.clear_limits([BUDGET], AuditActor("ann", "enough"))
    release_due(world.fleet)
    world.work()
    world.raise_the_budget()
    release_due(world.fleet)
    world.work()


def lost(world: World) -> None:
    world.die_in_a_step(world.submit())
    reap(world.fleet)
    world.work()


def retried(world: World) -> None:
    found = world.fleet.tasks.records.claim(world.submit(), AGENT, POOL, 60, "other", "default", "")
    assert isinstance(found, Lease)
    assert world.fleet.tasks.retries.put_back(found, "{}", "Unavailable", 0).status == "parked"
    release_due(world.fleet)
    world.work()


def buried(world: World) -> None:
    first = world.submit()
    for _ in range(MAX_CRASHES):
        world.die_in_a_step(first)
        reap(world.fleet)
    retry_dead(world.fleet, world.submitter, first)
    world.work()


def recovery(world: World) -> None:
    """What others do some time after a death."""
    world.raise_the_budget()
    world.time_passes()
    reap(world.fleet)
    release_due(world.fleet)
    world.work()


LIVES = {each.__name__: each for each in (usual, parked, lost, retried, buried, recovery)}


def live(app: FleetCelery, order: dict[str, Any], file: Path) -> None:
    deadly = Place(*order["place"]) if order.get("place") else None
    record_calls(file, deadly)
    LIVES[order["life"]](World(app))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder = Path(mkdtemp())
    for name in LATE_IMPORTS:
        import_module(name)
    # Made once: it connects to nothing before a life uses it.
    app = make_app(load_settings(), Role(POOL, AGENT))
    for number, line in enumerate(sys.stdin):
        file = folder / str(number)
        file.touch()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                live(app, json.loads(line), file)
                status = 0
            except BaseException as error:
                import traceback

                traceback.print_exception(error)
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        answer = {"ended": os.waitstatus_to_exitcode(ended), "calls": file.read_text().split()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
