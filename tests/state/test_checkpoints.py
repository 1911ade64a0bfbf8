"""What runs of a task save: by the newest lease alone, within bounds, while it is of use."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from fleet import Fleet
from fleet.agent import ModelReply
from fleet.budgets.cached_policy import CachedPolicy
from fleet.budgets.rules.refusals import Refusal
from fleet.cli.main import app
from fleet.errors import CheckpointTooLarge, LeaseLost, OverBudget, Unavailable
from fleet.models.store import Lesson
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.redis.scripts import Scripts
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.tasks.dead_letters import bound_dead, retry_id
from fleet.tasks.model_call import ModelCall
from fleet.tasks.reaper import reap, retain
from fleet.tasks.run.checkpoints import Checkpoints
from fleet.tasks.run.context import RunContext
from fleet.tasks.run.model_session import ModelSession
from fleet.tasks.run.services import ModelServices
from fleet.tasks.store import Lease

CONFIG = "[limits]\ncheckpoint_bytes = 2048\ndead_letters = 2\n"
FULL = Refusal("all", "d", 1, 9, 5, 3, 2, 1000)
CALL = ModelCall("gpt", "openai", "first", "ok", 10, 4, 20, 7, seconds=1.5)
DRAFT = '{"text":"draft"}'


@pytest.fixture
def app_of(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Fleet:
    found = Fleet(settings_of(CONFIG))
    found._connection.routing.agents.register(
        "codegen-1", "codegen", 10, {"host": "here", "pid": "1"}
    )
    return found


@pytest.fixture
def fleet(app_of: Fleet) -> Connection:
    return app_of._connection


@pytest.fixture
def lease(app_of: Fleet, fleet: Connection) -> Lease:
    return claim(fleet, submit(app_of))


def submit(app_of: Fleet) -> str:
    return app_of.submit("code_generation", {"instruction": "add"}, complexity=0.5).id


def claim(fleet: Connection, task_id: str, seconds: float = 30) -> Lease:
    name = f"{task_id}-{fleet.tasks.records.read(task_id).fence}"
    found = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", seconds, name, "default", "")
    assert isinstance(found, Lease), found
    return found


def names(found: Any) -> list[str]:
    return [each.name for each in found]


def end_the_lease(fleet: Connection, lease: Lease) -> None:
    assert fleet.tasks.records.renew(lease, 0)
    assert reap(fleet)["requeued"] == [lease.task_id]


def context_of(fleet: Connection, lease: Lease) -> RunContext:
    policy = CachedPolicy(fleet.settings.config, fleet.policy.store)
    services = ModelServices(
        {}, {}, fleet.tasks.model_calls, fleet.models.state, fleet.models.examples, policy
    )
    return RunContext(
        lease, fleet.tasks.records, ModelSession(lease, services, {}), (), "auto"
    )


def test_the_next_run_gets_what_was_saved_with_its_lease(fleet: Connection, lease: Lease) -> None:
    assert lease.saved == ()
    fleet.tasks.model_calls.save(lease, "plan", "[1,2]")
    fleet.tasks.model_calls.save(lease, "draft", '"old"')
    fleet.tasks.model_calls.save(lease, "draft", '"née"')
    end_the_lease(fleet, lease)
    (plan, draft) = claim(fleet, lease.task_id).saved
    assert (plan.name, plan.value, plan.fence) == ("plan", "[1,2]", lease.fence)
    assert (draft.name, draft.value, draft.size) == ("draft", '"née"', 6)
    seconds, _ = fleet.client.time()
    assert seconds - 60 < plan.at <= draft.at <= seconds + 1


def test_a_run_that_lost_its_lease_saves_nothing(fleet: Connection, lease: Lease) -> None:
    end_the_lease(fleet, lease)
    newer = claim(fleet, lease.task_id)
    with pytest.raises(LeaseLost):
        fleet.tasks.model_calls.save(lease, "draft", DRAFT)
    with pytest.raises(LeaseLost):
        fleet.tasks.model_calls.settle(lease, 1, CALL, "draft", DRAFT)
    assert fleet.tasks.model_calls.saved(lease.task_id) == ()
    # The tokens are burned all the same.
    assert fleet.tasks.records.read(lease.task_id).cost_nanodollars == 7
    fleet.tasks.model_calls.save(newer, "draft", DRAFT)
    assert names(fleet.tasks.model_calls.saved(lease.task_id)) == ["draft"]


def test_nothing_is_saved_once_the_task_has_ended(fleet: Connection, lease: Lease) -> None:
    assert fleet.tasks.records.finish(lease, "codegen", "succeeded", 60, {}).kept
    with pytest.raises(LeaseLost):
        fleet.tasks.model_calls.save(lease, "draft", DRAFT)
    assert not fleet.client.exists(fleet.keys.saved(lease.task_id))


def test_a_charge_and_its_answer_are_one_step_however_often_it_is_sent(
    fleet: Connection, lease: Lease
) -> None:
    for _ in range(3):
        assert fleet.tasks.model_calls.settle(lease, 1, CALL, "draft", DRAFT)[:2] == (7, True)
    (saved,) = fleet.tasks.model_calls.saved(lease.task_id)
    assert (saved.name, saved.value) == ("draft", DRAFT)
    record = fleet.tasks.records.read(lease.task_id)
    assert (record.cost_nanodollars, record.model_call_count) == (7, 1)
    assert len(fleet.ledger.entries.page("0-0").entries) == 1


def test_an_answer_that_was_charged_as_lost_is_not_saved_for_a_run_that_has_gone_on(
    fleet: Connection, lease: Lease
) -> None:
    from fleet.budgets.reservation import CallLimits, ScopeLimits

    assert fleet.tasks.model_calls.admit(lease, 1, CALL, CallLimits("0", ScopeLimits())) is None
    end_the_lease(fleet, lease)
    claim(fleet, lease.task_id)
    with pytest.raises(LeaseLost):
        fleet.tasks.model_calls.settle(lease, 1, CALL, "draft", DRAFT)
    assert fleet.tasks.model_calls.saved(lease.task_id) == ()
    assert fleet.tasks.records.read(lease.task_id).uncertain_calls == 0


def test_a_task_saves_no_more_than_it_may(fleet: Connection, lease: Lease) -> None:
    large = json.dumps("x" * 1500)
    fleet.tasks.model_calls.save(lease, "draft", large)
    # The same name takes the place of the old value.
    fleet.tasks.model_calls.save(lease, "draft", large)
    with pytest.raises(CheckpointTooLarge, match=r"2,048 bytes .* raise limits.checkpoint_bytes"):
        fleet.tasks.model_calls.save(lease, "other", large)
    assert names(fleet.tasks.model_calls.saved(lease.task_id)) == ["draft"]
    # An answer that does not fit is paid for, and given to the agent.
    assert fleet.tasks.model_calls.settle(lease, 1, CALL, "other", large)[:2] == (7, False)
    assert names(fleet.tasks.model_calls.saved(lease.task_id)) == ["draft"]


def test_a_task_saves_under_a_hundred_names_at_most(fleet: Connection, lease: Lease) -> None:
    hundred = {str(number): "1 1 0" for number in range(100)}
    fleet.client.hset(fleet.keys.saved(lease.task_id), mapping=hundred)
    with pytest.raises(CheckpointTooLarge):
        fleet.tasks.model_calls.save(lease, "one-more", "1")
    fleet.tasks.model_calls.save(lease, "7", "1")


@pytest.mark.parametrize("state", ["succeeded", "unverified", "cancelled"])
def test_what_is_saved_goes_with_the_end_of_the_task(
    fleet: Connection, lease: Lease, state: str
) -> None:
    fleet.tasks.model_calls.save(lease, "draft", DRAFT)
    assert fleet.tasks.records.finish(lease, "codegen", state, 60, {}).kept
    assert not fleet.client.exists(fleet.keys.saved(lease.task_id))


def test_what_is_saved_outlives_each_way_to_come_back(fleet: Connection, lease: Lease) -> None:
    task_id = lease.task_id
    fleet.tasks.model_calls.save(lease, "draft", DRAFT)

    def unparked() -> None:
        fleet.client.hset(fleet.keys.task(task_id), mapping={"state": "queued"})

    assert fleet.tasks.on_hold.add(lease, FULL, 1000) == "parked"
    unparked()
    lease = claim(fleet, task_id)
    assert names(lease.saved) == ["draft"]
    assert fleet.tasks.retries.put_back(lease, "{}", "Unavailable", 0).status == "parked"
    unparked()
    lease = claim(fleet, task_id)
    assert names(lease.saved) == ["draft"]
    assert fleet.tasks.records.requeue_on_shutdown(lease, "{fleet}.codegen") == "given_back"
    lease = claim(fleet, task_id)
    end_the_lease(fleet, lease)
    assert names(claim(fleet, task_id).saved) == ["draft"]
    assert fleet.client.ttl(fleet.keys.saved(task_id)) == -1


def test_a_parked_task_that_is_cancelled_keeps_nothing(fleet: Connection, lease: Lease) -> None:
    fleet.tasks.model_calls.save(lease, "draft", DRAFT)
    assert fleet.tasks.on_hold.add(lease, FULL, 1000) == "parked"
    assert fleet.tasks.records.cancel(lease.task_id, 60) == "parked"
    assert not fleet.client.exists(fleet.keys.saved(lease.task_id))


def fail(fleet: Connection, lease: Lease) -> None:
    error = json.dumps({"type": "TaskFailed", "message": "it is broken"})
    assert fleet.tasks.records.finish(lease, "codegen", "failed", 60, {"error": error}).kept


def test_the_retry_of_a_dead_letter_goes_on_from_what_it_has_saved(
    app_of: Fleet, fleet: Connection, lease: Lease
) -> None:
    fleet.tasks.model_calls.save(lease, "draft", DRAFT)
    fail(fleet, lease)
    old, new = fleet.keys.saved(lease.task_id), fleet.keys.saved(retry_id(lease.task_id))
    assert 0 < fleet.client.ttl(old) <= fleet.client.ttl(fleet.keys.task(lease.task_id))
    assert app_of.retry_dead(lease.task_id).id == retry_id(lease.task_id)
    assert not fleet.client.exists(old)
    assert fleet.client.ttl(new) == -1
    again = claim(fleet, retry_id(lease.task_id))
    assert [(each.name, each.value) for each in again.saved] == [("draft", DRAFT)]


def test_a_retry_that_is_sent_again_does_not_undo_what_its_runs_have_saved(
    app_of: Fleet, fleet: Connection, lease: Lease
) -> None:
    fleet.tasks.model_calls.save(lease, "draft", DRAFT)
    fail(fleet, lease)
    new_id = retry_id(lease.task_id)
    assert fleet.tasks.model_calls.carry(lease.task_id, new_id)
    # It died here; a second one does it all.
    app_of.retry_dead(lease.task_id)
    again = claim(fleet, new_id)
    fleet.tasks.model_calls.save(again, "draft", '"newer"')
    assert not fleet.tasks.model_calls.carry(lease.task_id, new_id)
    assert [each.value for each in fleet.tasks.model_calls.saved(new_id)] == ['"newer"']


def test_a_retry_that_is_refused_leaves_the_letter_and_no_lasting_copy(
    app_of: Fleet, fleet: Connection, lease: Lease
) -> None:
    fleet.tasks.model_calls.save(lease, "draft", DRAFT)
    fail(fleet, lease)
    fleet.policy.store.set_limits({LimitKey("all", "hour", "tokens"): 1}, AuditActor("ann", "why"))
    with pytest.raises(OverBudget):
        app_of.retry_dead(lease.task_id)
    assert names(fleet.tasks.model_calls.saved(lease.task_id)) == ["draft"]
    assert fleet.client.ttl(fleet.keys.saved(retry_id(lease.task_id))) > 0


def test_a_dead_letter_that_is_dropped_takes_what_it_has_saved_along(
    app_of: Fleet, fleet: Connection
) -> None:
    for _ in range(4):
        lease = claim(fleet, submit(app_of))
        fleet.tasks.model_calls.save(lease, "draft", DRAFT)
        fail(fleet, lease)
    dropped = bound_dead(fleet)
    assert len(dropped) == 2
    kept = list(fleet.client.scan_iter(fleet.keys.saved("*")))
    assert len(kept) == 2
    assert not {fleet.keys.saved(each).encode() for each in dropped} & set(kept)


def test_what_is_saved_goes_with_a_record_that_somebody_has_deleted(
    fleet: Connection, lease: Lease
) -> None:
    fleet.tasks.model_calls.save(lease, "draft", DRAFT)
    fleet.client.delete(fleet.keys.task(lease.task_id))
    assert retain(fleet)["expired"] == 1
    assert not fleet.client.exists(fleet.keys.saved(lease.task_id))


def test_an_agent_saves_what_it_will_be_given_again(fleet: Connection, lease: Lease) -> None:
    made = []

    async def make() -> Any:
        made.append(1)
        return {"pair": (1, 2)}

    first = context_of(fleet, lease)
    assert asyncio.run(first.once("pair", make)) == {"pair": [1, 2]}
    assert asyncio.run(first.once("pair", make)) == {"pair": [1, 2]}
    asyncio.run(first.save("nothing", None))
    end_the_lease(fleet, lease)
    second = context_of(fleet, claim(fleet, lease.task_id))
    assert asyncio.run(second.once("pair", make)) == {"pair": [1, 2]}
    assert made == [1]
    assert asyncio.run(second.once("nothing", make)) is None
    assert second.saved("else", 3) == 3
    # Each run has a value of its own: what one agent changes, none finds changed.
    second.saved("pair")["pair"].append(3)
    assert second.saved("pair") == {"pair": [1, 2]}


@pytest.mark.parametrize("name", ["", "-draft", "a b", "x" * 65, "näme", "a\nb"])
def test_a_bad_name_is_refused(fleet: Connection, lease: Lease, name: str) -> None:
    context = context_of(fleet, lease)
    with pytest.raises(ValueError, match="is no name for a checkpoint"):
        asyncio.run(context.save(name, 1))
    with pytest.raises(ValueError, match="is no name for a checkpoint"):
        context.saved(name)


@pytest.mark.parametrize(("value", "error"), [({1, 2}, TypeError), (float("nan"), ValueError)])
def test_what_is_no_json_is_refused(
    fleet: Connection, lease: Lease, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        asyncio.run(context_of(fleet, lease).save("draft", value))
    assert fleet.tasks.model_calls.saved(lease.task_id) == ()


def test_what_is_no_answer_of_a_model_is_not_taken_for_one(
    fleet: Connection, lease: Lease
) -> None:
    found = Checkpoints(lease, fleet.tasks.model_calls)
    found.save("draft", {"text": "hi"})
    with pytest.raises(ValueError, match="ModelReply"):
        found.reply("draft")
    reply = ModelReply(
        text="hi", model="gpt", input_tokens=1, output_tokens=2, cost_nanodollars=3
    )
    found.save("draft", reply.model_dump())
    assert found.reply("draft") == reply


def test_without_redis_saving_is_an_error_within_its_bound(
    fleet: Connection, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis.Redis(port=1, retry=None) as nobody:
        monkeypatch.setattr(fleet.tasks.model_calls, "client", nobody)
        monkeypatch.setattr(fleet.tasks.model_calls, "scripts", Scripts(nobody))
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            asyncio.run(context_of(fleet, lease).save("draft", 1))
        assert time.monotonic() - began < 30


def test_a_task_shows_what_is_saved_and_explain_where_each_attempt_ran(
    app_of: Fleet, fleet: Connection, lease: Lease
) -> None:
    fleet.tasks.model_calls.save(lease, "draft", DRAFT)
    end_the_lease(fleet, lease)
    shown = CliRunner().invoke(app, ["task", lease.task_id]).stdout
    assert "draft" in shown
    told = json.loads(CliRunner().invoke(app, ["task", lease.task_id, "--json"]).stdout)
    (saved,) = told["saved"]
    assert (saved["name"], saved["bytes"]) == ("draft", len(DRAFT))
    assert saved["at"] == pytest.approx(fleet.client.time()[0], abs=60)
    text = CliRunner().invoke(app, ["explain", lease.task_id]).stdout
    assert "codegen-1" in text
    assert "crash 1: its lease ended" in " ".join(text.split())
    told = json.loads(CliRunner().invoke(app, ["explain", lease.task_id, "--json"]).stdout)
    assert [(each["state"], each["attempt"], each["by"]) for each in told["history"]] == [
        *(("queued", 0, "submit"), ("running", 1, "codegen-1"), ("queued", 1, "reaper")),
    ]


def test_a_lesson_counts_once_however_often_it_is_sent(fleet: Connection, lease: Lease) -> None:
    state, asked = fleet.models.state, ("gpt", "code_generation", 1.0, 1.0)
    first = Lesson(lease.task_id, "answer 1 gpt")
    assert [state.learn(*asked, first) for _ in range(3)] == [True, False, False]
    timed = ("gpt", "code_generation", 100, 2.0, Lesson(lease.task_id, "call 1.1"))
    assert [state.timed(*timed) for _ in range(3)] == [True, False, False]
    found = state.read().evidence["gpt", "code_generation"]
    assert (found.rewards, found.calls) == pytest.approx((1, 1), rel=1e-6)
    assert state.learn(*asked, Lesson(lease.task_id, "answer 2 gpt"))
    assert not state.learn(*asked, Lesson("gone", "answer 1 gpt"))
    assert not fleet.client.exists(fleet.keys.task("gone"))


def test_a_task_remembers_its_newest_lessons(fleet: Connection, lease: Lease) -> None:
    for number in range(60):
        timed = ("gpt", "nap", 1, 1.0, Lesson(lease.task_id, f"call 1.{number}"))
        assert fleet.models.state.timed(*timed)
    assert not fleet.models.state.timed(*timed)
    kept = fleet.client.hget(fleet.keys.task(lease.task_id), "lessons") or b""
    assert len(kept.splitlines()) == 50
