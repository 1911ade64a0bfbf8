"""Servers that write more than they are asked for: what that may cost, and who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from fake_provider import Behaviour, FakeProvider, answer, endless, held
from task_runs import Run, resume_run

from fleet.broker.messages import message_encoder
from fleet.budgets.rules.alerts import LimitAlert
from fleet.errors import OverBudget
from fleet.ledger.verification import verify
from fleet.models.listing import listing
from fleet.models.rules.learning import ChoicePolicy
from fleet.models.rules.output_limits import LimitRecord
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

CALLS = 20
LIMIT = 100
BUDGET = 200_000_000
"""$0.20, in nano-dollars: 20 calls that keep their limit take $0.02, that ignore it $0.82."""

CONFIG = """
[models]
escalate = false

[limits]
model_call_seconds = 20

[budgets]
daily_usd = 0.20
over = "refuse"

[providers.own]
base_url = "{url}"
key_variable = "FAKE_API_KEY"
{more}

[catalogue.heedless]
provider = "own"
quality = 0.9
speed = 0.9
input_price = 0.00001
output_price = 0.01
"""
WHOLE, STREAMED = "stream = false", "stream = true"

LONG = answer("word " * 3000, 20, 4096)
SHORT = answer("word " * 40, 20, 50)
AT_LIMIT = answer("word " * 80, 20, LIMIT)

Open = Callable[..., Connection]


@pytest.fixture
def opened(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
    fake: FakeProvider,
) -> Iterator[Open]:
    """Makes a fleet whose one model is the fake's; in the end its money has to add up."""
    clean_environment.setenv("FAKE_API_KEY", "sk-secret")
    made: list[Connection] = []

    def make(more: str = "") -> Connection:
        made.append(open_connection(settings_of(CONFIG.format(url=fake.base_url, more=more))))
        made[0].routing.agents.register("codegen-1", "codegen", 50, {"host": "here", "pid": "1"})
        return made[0]

    yield make
    assert verify(made[0].ledger).differences == ()


def claimed(fleet: Connection, fake: FakeProvider, loop: asyncio.Runner) -> Run:
    asked = Submission("code_generation", {"instruction": "add"}, complexity=0.0)
    task_id = fleet.submitter(message_encoder()).submit(asked).task_id
    return resume_run(fleet, task_id, fake, loop)


async def asked(run: Run) -> str:
    """The answer's text, '' where it does not fit the budget."""
    try:
        return (await run.context.ask("say hi", max_tokens=LIMIT)).text
    except OverBudget:
        return ""


def together(run: Run, count: int = CALLS) -> list[str]:
    async def all_at_once() -> list[str]:
        return await asyncio.gather(*(asked(run) for _ in range(count)))

    return run.loop.run(all_at_once())


def spent(fleet: Connection) -> int:
    return sum(entry.amount for entry in fleet.ledger.entries.page("0-0").entries)


def record(fleet: Connection) -> LimitRecord | None:
    found = fleet.models.state.read().limits.get("heedless")
    return found._replace(at=0) if found else None


@pytest.mark.parametrize("way", [WHOLE, STREAMED])
def test_calls_at_once_to_a_server_that_ignores_the_limit_keep_to_the_budget(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner, way: str
) -> None:
    fleet = opened(way)
    run = claimed(fleet, fake, loop)
    fake.script("heedless", *[LONG] * CALLS)
    answers = together(run)
    assert any(answers)
    assert spent(fleet) <= BUDGET
    # A stream is cut early enough for all to fit.
    assert fake.count() < CALLS or way == STREAMED
    (line,) = listing(fleet.models.catalogue, fleet.models.state.read(), ChoicePolicy(), 0.0)
    assert (line.state, "ignores its output limit" in line.reason) == ("ready", True)
    broken_record = record(fleet)
    assert broken_record is not None
    assert broken_record.is_broken
    (alert, *budgets) = [
        each for each in fleet.budgets.alerts.newest(9) if isinstance(each, LimitAlert)
    ]
    assert budgets == []
    assert (alert.scope, alert.asked) == ("model:heedless", LIMIT)
    assert alert.call.startswith(run.lease.task_id)
    assert "ignored its output limit" in alert.sentence


def test_a_stream_is_cut_at_its_limit_and_charged_for_what_had_come(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    fleet = opened(STREAMED)
    run = claimed(fleet, fake, loop)
    fake.script("heedless", endless("word " * 10))
    reply = run.ask(max_tokens=LIMIT)
    fake.wait_for_hang_up()
    words = len(reply.text.split())
    assert LIMIT < words <= LIMIT + 20
    assert (reply.finish_reason, reply.usage_missing) == ("length", True)
    (step,) = run.record.model_calls
    assert (step.ended, step.usage) == ("ok", "missing")
    # What was shown, and what may have been written until the server heard of the end.
    assert len(reply.text) + 250 <= step.output_tokens <= len(reply.text) + 260
    assert step.cost_nanodollars == spent(fleet)


def test_an_answer_that_tells_no_usage_is_not_charged_by_the_limit_that_it_ignored(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    fleet = opened(WHOLE)
    run = claimed(fleet, fake, loop)
    text = "word " * 3000
    fake.script("heedless", answer(text, usage=False))
    run.ask(max_tokens=LIMIT)
    (step,) = run.record.model_calls
    assert (step.usage, step.output_tokens >= len(text)) == ("missing", True)
    assert record(fleet) == LimitRecord(0, step.output_tokens)


@pytest.mark.parametrize("way", [WHOLE, STREAMED])
@pytest.mark.parametrize("behaviour", [SHORT, AT_LIMIT], ids=["short", "at its limit"])
def test_calls_at_once_to_a_server_that_keeps_the_limit_are_all_made(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner, behaviour: Behaviour, way: str
) -> None:
    fleet = opened(way)
    run = claimed(fleet, fake, loop)
    fake.script("heedless", *[behaviour] * CALLS)
    assert all(together(run))
    assert fake.count() == CALLS
    assert record(fleet) == LimitRecord(3, 0)
    assert fleet.budgets.alerts.newest(9) == []


def test_a_call_waits_for_the_first_to_show_what_it_takes_and_not_longer(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    fleet = opened(WHOLE)
    run = claimed(fleet, fake, loop)
    fake.script("heedless", held(AT_LIMIT), *[AT_LIMIT] * 4)

    async def let_go_when_the_others_wait() -> list[str]:
        asking = [asyncio.create_task(asked(run)) for _ in range(5)]
        await asyncio.to_thread(fake.wait_for, "heedless", 1)
        await asyncio.sleep(0.5)
        assert fake.count() == 1
        fake.let_go()
        return await asyncio.gather(*asking)

    assert all(loop.run(let_go_when_the_others_wait()))


def test_a_call_that_fails_or_is_cancelled_leaves_its_turn(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    fleet = opened(WHOLE)
    run = claimed(fleet, fake, loop)
    fake.script("heedless", held(AT_LIMIT), AT_LIMIT)

    async def cancel_the_first() -> str:
        first = asyncio.create_task(asked(run))
        await asyncio.to_thread(fake.wait_for, "heedless", 1)
        second = asyncio.create_task(asked(run))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert loop.run(cancel_the_first())
    assert not [name for name in fleet.client.hkeys(fleet.keys.models) if b"turn" in name]


def test_where_money_is_plenty_no_call_waits(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    fleet = opened(WHOLE)
    run = claimed(fleet, fake, loop)
    cause = AuditActor("ann", "test")
    fleet.policy.store.set_limits({LimitKey("all", "day", "dollars"): 100 * BUDGET}, cause)
    fake.script("heedless", *[held(AT_LIMIT)] * 5)

    async def all_arrive() -> list[str]:
        asking = [asyncio.create_task(asked(run)) for _ in range(5)]
        await asyncio.to_thread(fake.wait_for, "heedless", 5)
        fake.let_go()
        return await asyncio.gather(*asking)

    assert all(loop.run(all_arrive()))


def bound(run: Run, behaviour: Behaviour) -> int:
    """Tokens that a call binds which is answered so."""
    store, found = run.fleet.tasks.model_calls, list[int]()
    admit = store.admit

    def noted(lease: Lease, call: int, worst: ModelCall, *more: Any) -> Any:
        answer = admit(lease, call, worst, *more)
        if answer is None:
            found.append(worst.input_tokens + worst.output_tokens)
        return answer

    run.fake.script("heedless", behaviour)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "admit", noted)
        assert run.loop.run(asked(run))
    (tokens,) = found
    return tokens


READ = 70
"""The most that "say hi" may take of input."""


def test_a_model_that_broke_its_limit_is_admitted_at_what_it_writes_until_it_keeps_it(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    fleet = opened(WHOLE)
    run = claimed(fleet, fake, loop)
    fake.script("heedless", LONG)
    run.ask(max_tokens=LIMIT)
    assert bound(run, SHORT) == READ + 6144
    # Another process knows it too, and an answer that is short by itself shows little.
    other = claimed(fleet, fake, loop)
    assert bound(other, SHORT) == READ + 6144
    assert bound(run, AT_LIMIT) == READ + 6144
    assert bound(other, SHORT) == READ + LIMIT
    assert bound(run, SHORT) == READ + LIMIT
    fake.script("heedless", LONG)
    run.ask(max_tokens=LIMIT)
    assert [
        each.written for each in fleet.budgets.alerts.newest(9) if isinstance(each, LimitAlert)
    ] == [
        4096,
        4096,
    ]


def test_a_task_is_planned_at_what_a_heedless_model_writes(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    fleet = opened(WHOLE)
    run = claimed(fleet, fake, loop)
    before = run.lease.candidates[0].cost_nanodollars
    fake.script("heedless", LONG)
    run.ask(max_tokens=LIMIT)
    after = claimed(fleet, fake, loop).lease.candidates[0].cost_nanodollars
    assert after - before == (4096 - 1000) * 10_000


def test_a_call_that_is_sent_no_limit_is_admitted_at_the_models_window(
    opened: Open, fake: FakeProvider, loop: asyncio.Runner
) -> None:
    fleet = opened(WHOLE + '\nlimit_field = "none"')
    cause = AuditActor("ann", "test")
    fleet.policy.store.set_limits({LimitKey("all", "day", "dollars"): 10 * BUDGET}, cause)
    run = claimed(fleet, fake, loop)
    assert bound(run, SHORT) == READ + 32_768
