"""Model calls and money: each is admitted by its worst case, and charged for what it took."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from math import ceil

import pytest
import redis
from fake_provider import (
    Behaviour,
    answer,
    broken,
    broken_off,
    cut,
    endless,
    filtered,
    hang,
    held,
    rate_limited,
    stall,
    stubborn,
)
from task_runs import PRICED, Run, eventually, resume_run, until_all_is_read

from fleet.agent import ModelReply
from fleet.errors import (
    LeaseLost,
    OverBudget,
    OverLimit,
    RateLimited,
    RetryLater,
    TaskOnHold,
    Unavailable,
)
from fleet.ledger.verification import verify
from fleet.models.rules.cut_calls import SILENCE_SECONDS
from fleet.policy.rules import LimitKey, Quantity, Window
from fleet.policy.store import AuditActor
from fleet.settings import Settings
from fleet.tasks.connection import open_connection
from fleet.tasks.model_call import ModelCall
from workers.code_generator import SPEC
from workers.code_generator.models import CodeGenerationResult

WORST = 547_000
"""What "say hi" may cost of `PRICED` small: 6 bytes, 64 tokens around them, 1,024 of output."""

DEAR = {"free": "input_price = 0.004\noutput_price = 0.004 #"}
"""small at four times the price of middle, and still the best: "say hi" may cost $0.004376."""

WRONG = answer("def add(a, b):\n    return a - b\n", 400, 1000)


@pytest.fixture(autouse=True)
def it_adds_up(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Iterator[None]:
    """After each test the ledger, the counters and the reservations agree."""
    yield
    assert verify(open_connection(settings_of("")).ledger).differences == ()


def limit(
    run: Run, most: int, scope: str, window: Window = "month", quantity: Quantity = "dollars"
) -> None:
    """Lay a limit over the configuration, while the run goes on."""
    run.fleet.policy.store.set_limits(
        {LimitKey(scope, window, quantity): most}, AuditActor("ann", "test")
    )


def bound(run: Run) -> list[int]:
    """Nano-dollars that each open step has bound."""
    return [each.held.amount for each in run.fleet.budgets.usage.reserved().steps.values()]


def max_output(step: ModelCall, shown_bytes: int, worst: int = 1024) -> int:
    """What a call that was cut may be charged: its bytes, a second's worth on the way, and as long
    as it was silent, which is no longer than it took."""
    silent = step.seconds
    return worst if silent > SILENCE_SECONDS else shown_bytes + ceil(250 * (1 + silent))


# What is charged


@pytest.mark.parametrize("behaviour", [hang(), stubborn(cut())], ids=["hangs", "cut"])
def test_a_call_that_may_have_been_served_is_charged_at_its_worst(
    start: Callable[..., Run], behaviour: Behaviour
) -> None:
    run = start(**PRICED)
    run.fake.script("small", behaviour)
    assert run.ask().model == "middle"
    burned, seen = run.record.model_calls
    assert (burned.ended, burned.usage) == ("unavailable", "missing")
    assert burned.cost_nanodollars == WORST
    assert (burned.input_tokens, burned.output_tokens) == (70, 1024)
    assert run.record.cost_nanodollars == WORST + seen.cost_nanodollars
    assert run.record.uncertain_calls == 1


@pytest.mark.parametrize(
    ("behaviour", "ended"),
    [
        (cut("one two three four"), "unavailable"),
        (broken_off("rate_limit_error", "rate_limit_exceeded"), "rate limited"),
    ],
)
def test_an_answer_that_breaks_off_is_charged_for_what_had_come_at_most(
    start: Callable[..., Run], behaviour: Behaviour, ended: str
) -> None:
    run = start(**PRICED)
    run.fake.script("small", behaviour)
    assert run.ask().model == "middle"
    burned, _ = run.record.model_calls
    assert (burned.ended, burned.usage, burned.input_tokens) == (ended, "missing", 70)
    assert 8 + 250 < burned.output_tokens <= max_output(burned, 15)
    assert burned.cost_nanodollars == (70 + burned.output_tokens) * 500
    assert run.record.uncertain_calls == 1


def test_a_stream_that_has_stopped_for_long_is_charged_at_its_worst(
    start: Callable[..., Run],
) -> None:
    run = start(**PRICED, **{"model_call_seconds = 1": "model_call_seconds = 3"})
    run.fake.script("small", stall())
    assert run.ask().model == "middle"
    assert run.record.model_calls[0].cost_nanodollars == WORST


def test_a_providers_plain_error_is_charged_nothing(start: Callable[..., Run]) -> None:
    run = start(**PRICED)
    run.fake.script("small", broken(500))
    assert run.ask().model == "middle"
    failed, _ = run.record.model_calls
    assert (failed.usage, failed.cost_nanodollars, failed.input_tokens) == ("seen", 0, 0)
    assert run.record.uncertain_calls == 0


def test_a_connection_that_is_refused_is_charged_nothing(start: Callable[..., Run]) -> None:
    run = start(**PRICED, **{"127.0.0.1:": "127.0.0.1:1/"})
    run.fails(Unavailable, "small: model small cannot be had now .*ConnectError")
    assert (run.record.cost_nanodollars, run.record.uncertain_calls) == (0, 0)
    assert bound(run) == []


@pytest.mark.parametrize("behaviour", [answer("hi", usage=False), filtered()])
def test_an_answer_without_usage_is_charged_at_its_worst(
    start: Callable[..., Run], behaviour: Behaviour
) -> None:
    run = start(**PRICED)
    run.fake.script("small", behaviour)
    run.ask()
    first = run.record.model_calls[0]
    assert (first.usage, first.cost_nanodollars) == ("missing", WORST)
    assert run.record.uncertain_calls == 1


def test_each_call_is_an_entry_of_the_ledger_with_what_it_took(start: Callable[..., Run]) -> None:
    run = start(**PRICED)
    run.fake.script("small", answer("hi", usage=False), rate_limited(retry_after=60))
    run.fake.script("middle", answer("hi", 70, 20, cached_tokens=40, reasoning_tokens=12))
    run.ask(times=2)
    missing, limited, seen = run.fleet.ledger.entries.page("0-0").entries
    assert {entry.task for entry in (missing, limited, seen)} == {run.lease.task_id}
    assert {entry.names[:4] for entry in (missing, limited, seen)} == {
        ("default", "code_generation", "code_generator", "codegen")
    }
    assert [(entry.usage, entry.certain, entry.amount) for entry in (missing, limited, seen)] == [
        *(("missing", 0, WORST), ("seen", 1, 0), ("seen", 1, 90_000))
    ]
    assert (seen.model, seen.provider) == ("middle", "fake")
    assert seen[11:15] == (70, 40, 20, 12)
    assert seen.estimate == run.lease.estimate("middle") > 0
    assert run.record.cost_nanodollars == missing.amount + seen.amount


def test_what_a_call_did_not_take_is_free_for_the_next(start: Callable[..., Run]) -> None:
    run = start(**PRICED)
    estimate = run.lease.estimate("small")
    run.fake.script("small", answer("hi", 70, 30))
    run.ask()
    (reserved,) = run.fleet.budgets.usage.reserved().tasks.values()
    assert reserved.held.amount == estimate - 50_000
    assert run.fleet.budgets.usage.scope_usage(["all"])["all"].held.amount == estimate - 50_000


def test_a_later_run_of_the_task_knows_what_earlier_ones_spent(start: Callable[..., Run]) -> None:
    run = start(**PRICED)
    run.ask()
    assert run.fleet.tasks.records.renew(run.lease, 0)
    again = resume_run(run.fleet, run.lease.task_id, run.fake, run.loop)
    assert again.lease.spent_nanodollars == run.record.cost_nanodollars > 0


# What is cancelled


def test_a_call_that_is_cancelled_before_its_answer_is_charged_at_its_worst(
    start: Callable[..., Run],
) -> None:
    run = start(**PRICED)
    run.fake.script("small", hang())

    async def cancel() -> None:
        asked = asyncio.create_task(run.context.ask("say hi"))
        await asyncio.to_thread(run.fake.wait_for, "small")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    run.loop.run(cancel())
    assert run.told() == [("small", "first", "cancelled")]
    assert run.cooling == {}
    assert (run.record.uncertain_calls, run.record.cost_nanodollars) == (1, WORST)


def test_a_call_that_is_cancelled_in_its_answer_is_charged_for_what_had_come_at_most(
    start: Callable[..., Run],
) -> None:
    run = start(**PRICED)
    run.fake.script("small", endless("so on "))

    async def cancel() -> None:
        asked = asyncio.create_task(run.context.ask("say hi", max_tokens=20_000))
        await asyncio.to_thread(run.fake.wait_until_said, 10)
        await until_all_is_read()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    run.loop.run(cancel())
    sent = run.fake.wait_for_hang_up().sent
    (step,) = run.record.model_calls
    assert (step.ended, step.usage, step.input_tokens) == ("cancelled", "missing", 70)
    # Two words each time, which are two tokens at least.
    assert 2 * sent <= step.output_tokens <= max_output(step, 6 * (sent + 1), 20_000)
    assert step.cost_nanodollars == (70 + step.output_tokens) * 500
    (entry,) = run.fleet.ledger.entries.page("0-0").entries
    assert (entry.amount, entry.certain, entry.usage) == (step.cost_nanodollars, 0, "missing")
    assert bound(run) == []


def test_a_call_that_is_cancelled_while_it_is_admitted_is_not_made_and_costs_nothing(
    start: Callable[..., Run], client: redis.Redis
) -> None:
    run = start(**PRICED)

    async def cancel() -> None:
        # Scripts wait, and what only reads does not.
        client.client_pause(20_000, all=False)
        asked = asyncio.create_task(run.context.ask("say hi"))
        await asyncio.to_thread(eventually, lambda: client.info("clients")["blocked_clients"])
        asked.cancel()
        await asyncio.sleep(0)
        client.client_unpause()
        with pytest.raises(asyncio.CancelledError):
            await asked

    run.loop.run(cancel())
    assert run.told() == [("small", "first", "not made")]
    assert (run.record.cost_nanodollars, run.record.uncertain_calls) == (0, 0)
    assert (run.fake.count(), bound(run)) == (0, [])


def test_an_agent_that_can_do_without_a_model_cannot_do_without_the_charge(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start()
    away = open_connection(run.fleet.settings).tasks.model_calls
    away.client.connection_pool.connection_kwargs["port"] = 1
    run.fake.script("small", held(answer("hi")))

    async def ask() -> None:
        asked = asyncio.create_task(run.context.ask("say hi"))
        await asyncio.to_thread(run.fake.wait_for, "small")
        monkeypatch.setattr(run.fleet.tasks.model_calls, "settle", away.settle)
        run.fake.let_go()
        with pytest.raises(RetryLater, match="could not be charged to the task") as caught:
            await asked
        assert not isinstance(caught.value, Unavailable)

    run.loop.run(ask())


# The task's own limit


def test_a_call_whose_worst_does_not_fit_the_tasks_limit_is_not_made(
    start: Callable[..., Run],
) -> None:
    run = start(limit=0.002, **PRICED)
    run.fake.script("small", answer("hi", 70, 1000))
    run.ask()
    error = run.fails(
        OverBudget,
        r"Budget exceeded for this task: limit \$0.002 in total, \$0.000535 spent, \$0 reserved, "
        r"\$0.001485 requested",
        max_tokens=2900,
    )
    assert isinstance(error, OverBudget)
    assert error.retry_after is None
    assert run.fake.count() == 1
    assert run.ask(max_tokens=2800).model == "small"


def test_where_the_current_model_is_too_dear_by_now_one_that_fits_is_asked(
    start: Callable[..., Run],
) -> None:
    run = start(limit=0.004)
    run.fake.script("small", rate_limited(retry_after=60))
    run.fake.script("middle", answer("hi", 70, 3000))
    assert run.ask(max_tokens=3000).model == "middle"
    ((key_id,),) = {model.key_ids for model in run.fleet.models.catalogue}
    until = run.fleet.models.state.read().cooldowns[key_id, "small"].until
    run.fleet.models.state.warm(key_id, "small", until)
    assert run.ask().model == "small"
    model, why, ended = run.told()[-1]
    assert (model, ended) == ("small", "ok")
    assert why.startswith(
        "downgrade: middle does not fit: Budget exceeded for this task: limit $0.004 in total"
    )


def test_what_does_not_fit_the_rest_of_the_limit_is_no_failover(start: Callable[..., Run]) -> None:
    run = start(limit=0.04, free="input_price = 0.001\noutput_price = 0.001 #")
    run.fake.script("small", answer("hi", 70, 19_000), rate_limited(retry_after=60))
    run.fake.script("middle", broken(500, retry_after=60))
    run.ask(max_tokens=20_000)
    assert run.record.cost_nanodollars == 19_070_000
    told = r"large: may cost \$0.0407 of the \$0.02093 that are left"
    run.fails(RateLimited, told, max_tokens=4000)
    assert run.fake.count("large") == 0


def test_code_that_reached_the_limit_is_the_best_so_far(start: Callable[..., Run]) -> None:
    run = start(limit=0.0016, **PRICED)
    run.fake.script("small", WRONG, *[answer("no code", 400, 1000)] * 3)
    tests = "assert add(1, 0) == 1\nassert add(1, 2) == 3"
    payload = SPEC.payload(instruction="Write add(a, b).", tests=tests, max_attempts=3)
    outcome = run.loop.run(SPEC.make().run(payload, run.context))
    assert isinstance(outcome.result, CodeGenerationResult)
    assert outcome.state == "unverified"
    assert "return a - b" in outcome.result.code
    assert (
        "No further attempt: Budget exceeded for this task: limit $0.0016 in total"
        in outcome.summary
    )
    assert run.record.cost_nanodollars == 1_400_000


# Budgets that others spend from too


@pytest.mark.parametrize(
    ("scope", "phrase"),
    [
        ("all", "the whole fleet"),
        ("tenant:default", "tenant default"),
        ("agent_type:code_generator", "agent type code_generator"),
        ("model:small", "model small"),
    ],
)
def test_what_does_not_fit_a_budget_goes_down_to_the_next_model_that_does(
    start: Callable[..., Run], scope: str, phrase: str
) -> None:
    run = start(**DEAR)
    assert run.lease.model == "small"
    run.fake.script("small", answer("hi", 70, 1000))
    run.ask()
    limit(run, 6_000_000, scope)
    assert run.ask().model == "middle"
    assert run.told()[1] == (
        "middle",
        f"downgrade: small does not fit: Budget exceeded for {phrase}: limit $0.006 per UTC month, "
        "$0.00428 spent, $0 reserved, $0.004376 requested",
        "ok",
    )


def test_the_way_down_that_is_mapped_comes_first(start: Callable[..., Run]) -> None:
    cheap = {"price = 0.01\n": "price = 0.0005\n"}
    run = start(more='[budgets.downgrade.models]\nsmall = "large"\n', **DEAR, **cheap)
    assert [each.model for each in run.lease.candidates][:2] == ["small", "middle"]
    run.ask()
    limit(run, 4_376_000, "tenant:default")
    assert run.ask().model == "large"
    assert run.told()[1][1].startswith(
        "downgrade: small does not fit: Budget exceeded for tenant default"
    )


def test_where_no_model_fits_the_error_says_of_each_and_when_to_come_back(
    start: Callable[..., Run],
) -> None:
    run = start(limit=0.02, **DEAR)
    run.fake.script("small", answer("hi", 70, 1000))
    run.ask()
    limit(run, 4_500_000, "all")
    told = r"small: Budget exceeded .* \$0.004376 requested; middle: Budget .* \$0.001094 requested"
    error = run.fails(OverBudget, told)
    assert isinstance(error, OverBudget)
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 31 * 86_400
    assert run.fake.count() == 1


def test_where_time_helps_one_model_only_the_error_says_when(start: Callable[..., Run]) -> None:
    run = start(limit=0.02, **DEAR)
    run.fake.script("small", filtered())
    assert run.ask().model == "middle"
    assert run.fleet.tasks.records.renew(run.lease, 0)
    again = resume_run(run.fleet, run.lease.task_id, run.fake, run.loop)
    limit(run, 1, "model:small")
    limit(run, 1_094_000, "model:middle")
    error = again.fails(OverBudget, "small: Budget .* model small.*; middle: .* model middle")
    assert isinstance(error, OverBudget)
    assert error.retry_after is not None
    assert again.fake.count("middle") == 1


@pytest.mark.parametrize("scope", ["all", "tenant:default", "model:small"])
def test_what_is_to_be_refused_is(start: Callable[..., Run], scope: str) -> None:
    run = start(more='[budgets]\nover = "refuse"\n', **DEAR)
    run.fake.script("small", answer("hi", 70, 1000))
    run.ask()
    limit(run, 6_000_000, scope)
    error = run.fails(OverBudget, "Budget exceeded for .*; raise it with .* or try again in ")
    assert isinstance(error, OverBudget)
    assert error.retry_after is not None
    assert run.fake.count() == 1


@pytest.mark.parametrize("over", ["refuse", "downgrade"])
def test_a_rate_says_when_it_has_room_again(start: Callable[..., Run], over: str) -> None:
    run = start(more=f'[budgets]\nover = "{over}"\n')
    run.ask()
    limit(run, 1, "tenant:default", "rolling", "requests")
    error = run.fails(
        OverLimit,
        "Limit exceeded for tenant default: limit 1 requests in any 60 minutes, 1 .* spent",
    )
    assert isinstance(error, OverLimit)
    assert error.retry_after == pytest.approx(3630, abs=35)


def test_what_is_to_wait_ends_the_run_and_nothing_is_asked_any_more(
    start: Callable[..., Run],
) -> None:
    run = start(more='[budgets]\nover = "wait"\n', **DEAR)
    run.ask()
    limit(run, 4_376_000, "tenant:default")
    first = run.fails(TaskOnHold, "the task waits: Budget exceeded for tenant default")
    limit(run, 10**12, "tenant:default")
    assert run.fails(TaskOnHold, "the task waits") is first
    assert (run.fake.count(), run.session.on_hold) == (1, first)


def test_what_no_time_will_help_is_refused_though_it_was_to_wait(start: Callable[..., Run]) -> None:
    run = start(more='[budgets]\nover = "wait"\n', **DEAR)
    limit(run, 1_000_000, "tenant:default")
    error = run.fails(OverBudget, "waiting does not help: ask for less, or raise the limit")
    assert isinstance(error, OverBudget)
    assert error.retry_after is None


def test_a_limit_that_changes_holds_for_the_very_next_call(start: Callable[..., Run]) -> None:
    run = start(more='[budgets]\nover = "refuse"\n', **DEAR)
    run.ask()
    limit(run, 4_376_000, "tenant:default")
    run.fails(OverBudget, "Budget exceeded for tenant default")
    limit(run, 10**9, "tenant:default")
    run.ask()
    assert run.fake.count() == 2


# Two at once


def ask_twice(run: Run) -> list[ModelReply]:
    async def both() -> list[ModelReply]:
        return await asyncio.gather(run.context.ask("say hi"), run.context.ask("say hi"))

    return run.loop.run(both())


def test_two_calls_at_once_are_both_bound_and_both_settled(start: Callable[..., Run]) -> None:
    run = start(**PRICED, **{"model_call_seconds = 1": "model_call_seconds = 20"})
    run.fake.script("small", held(answer("hi", 70, 30)), held(answer("hi", 70, 130)))

    async def both() -> None:
        asked = asyncio.gather(run.context.ask("say hi"), run.context.ask("say hi"))
        await asyncio.to_thread(run.fake.wait_for, "small", 2)
        assert bound(run) == [WORST, WORST]
        assert run.fleet.budgets.usage.scope_usage(["all"])[
            "all"
        ].held.amount == run.lease.estimate("small")
        run.fake.let_go()
        await asked

    run.loop.run(both())
    assert bound(run) == []
    assert run.record.cost_nanodollars == 50_000 + 100_000
    assert sorted(why for _, why, _ in run.told()) == ["again", "first"]


def test_two_calls_at_once_never_pass_the_tasks_limit_together(start: Callable[..., Run]) -> None:
    run = start(limit=0.0016, **PRICED, **{"model_call_seconds = 1": "model_call_seconds = 20"})
    run.fake.script("small", *[held(answer("hi", 70, 30))] * 2)

    async def both() -> None:
        ask = run.context.ask
        first = asyncio.create_task(ask("say hi", max_tokens=2000))
        await asyncio.to_thread(run.fake.wait_for, "small")
        with pytest.raises(
            OverBudget, match=r"\$0 spent, \$0.001035 reserved, \$0.001035 requested"
        ):
            await ask("say hi", max_tokens=2000)
        run.fake.let_go()
        await first
        await ask("say hi", max_tokens=2000)

    run.loop.run(both())
    assert run.record.cost_nanodollars == 100_000


def test_what_is_to_wait_waits_first_for_the_other_calls_of_its_run(
    start: Callable[..., Run],
) -> None:
    run = start(more='[budgets]\nover = "wait"\n', **DEAR)
    run.fake.script("small", *[answer("hi", 70, 30)] * 2)
    limit(run, 5_000_000, "tenant:default")
    assert [reply.model for reply in ask_twice(run)] == ["small", "small"]
    assert run.record.cost_nanodollars == 800_000


# What comes late


async def asked_and_lost(run: Run) -> asyncio.Task[ModelReply]:
    """A question that the model is asked when the lease of its run ends."""
    asked = asyncio.create_task(run.context.ask("say hi"))
    await asyncio.to_thread(run.fake.wait_for, "small")
    assert run.fleet.tasks.records.renew(run.lease, 0)
    queue = run.fleet.settings.overflow_queue("code_generator")
    assert run.fleet.tasks.records.requeue(run.record, queue, 3) == "requeued"
    return asked


def test_the_usage_of_a_call_that_was_charged_as_lost_puts_the_charge_right(
    start: Callable[..., Run],
) -> None:
    run = start(**PRICED, **{"model_call_seconds = 1": "model_call_seconds = 20"})
    run.fake.script("small", held(answer("hi", 70, 30)))
    fleet = run.fleet

    async def lose() -> None:
        asked = await asked_and_lost(run)
        (lost,) = run.record.model_calls
        assert (lost.ended, lost.usage, lost.cost_nanodollars) == ("lost", "missing", WORST)
        assert (run.record.cost_nanodollars, run.record.uncertain_calls) == (WORST, 1)
        run.fake.let_go()
        await asked
        with pytest.raises(LeaseLost):
            await run.context.ask("say hi")

    run.loop.run(lose())
    assert (run.record.cost_nanodollars, run.record.uncertain_calls) == (50_000, 0)
    lost, right = fleet.ledger.entries.page("0-0").entries
    assert (lost.kind, lost.amount, right.kind, right.amount) == (
        *("lost", WORST, "correction", 50_000 - WORST),
    )
    assert fleet.budgets.usage.scope_usage(["all"])["all"].settled["month"].amount == 50_000


def test_a_call_that_was_charged_as_lost_and_then_cut_is_put_right_and_stays_uncertain(
    start: Callable[..., Run],
) -> None:
    run = start(**PRICED, **{"model_call_seconds = 1": "model_call_seconds = 20"})
    run.fake.script("small", endless("so on "))
    fleet = run.fleet

    async def lose() -> None:
        asked = await asked_and_lost(run)
        assert run.record.cost_nanodollars == WORST
        await asyncio.sleep(0.3)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    run.loop.run(lose())
    lost, right = fleet.ledger.entries.page("0-0").entries
    assert (lost.kind, right.kind, right.of) == ("lost", "correction", lost.id)
    assert right.why == "what it can have used was seen after all"
    assert -WORST < right.amount < 0
    assert run.record.cost_nanodollars == WORST + right.amount
    assert run.record.uncertain_calls == 1


def test_a_call_that_was_cut_can_be_put_right_by_its_bill(start: Callable[..., Run]) -> None:
    run = start(**PRICED)
    run.fake.script("small", cut("one two three four"))
    run.ask()
    charged = run.fleet.ledger.entries.page("0-0").entries[0]
    billed = (70 + 3) * 500
    run.fleet.ledger.entries.correct(charged, billed - charged.amount, "ann", "the bill", "b")
    spent = run.fleet.budgets.usage.scope_usage(["model:small"])["model:small"].settled["month"]
    assert spent.amount == billed
