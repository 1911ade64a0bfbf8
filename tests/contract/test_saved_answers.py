"""The code generator's answers outlive its runs: what was paid for is not asked for again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fake_provider import answer
from task_runs import PRICED, Run, eventually, resume_run, runner_of

from fleet.ledger.verification import verify
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.reaper import reap
from fleet.tasks.record import TaskRecord
from fleet.tasks.waiting.release import release_due
from workers.code_generator import SPEC

WRONG = answer("```python\ndef subtract(a, b):\n    return a - b\n```", 100, 50)
RIGHT = answer("```python\ndef add(a, b):\n    return a + b\n```", 100, 50)
ASK = {"instruction": "Write add(a, b).", "function": "add"}
PARKING = "[budgets]\nover = 'wait'\n"
BUDGET = LimitKey("all", "hour", "dollars")


@pytest.fixture
def begin(start: Callable[..., Run]) -> Iterator[Callable[..., Run]]:
    def begun(more: str = "", **replaced: str) -> Run:
        runs.append(start(more=more, **{**PRICED, **replaced}))
        return runs[-1]

    runs: list[Run] = []
    yield begun
    for run in runs:
        assert verify(run.fleet.ledger).differences == ()


def die(run: Run) -> None:
    """Its worker is not heard of again, and others get the task."""
    assert run.fleet.tasks.records.renew(run.lease, 0)
    assert reap(run.fleet)["requeued"] == [run.lease.task_id]


def run_again(run: Run, **more: int) -> TaskRecord:
    """Run the task as another worker does."""
    delivery = Delivery(run.lease.task_id, {**ASK, **more}, "default", lambda: "")
    runner_of(run.fleet, SPEC).run("code_generator", delivery)
    return run.record


def ask(run: Run, number: int) -> None:
    """What the code generator does before its worker dies."""
    run.loop.run(run.context.ask("Write add(a, b).", save_as=f"answer-{number}"))


def entries(run: Run) -> list[tuple[int, int]]:
    """In which attempt a call was made, and what it cost."""
    return [(each.attempt, each.amount) for each in run.fleet.ledger.entries.page("0-0").entries]


def test_a_run_goes_on_from_the_answers_of_the_one_that_died(begin: Callable[..., Run]) -> None:
    run = begin()
    run.fake.script("small", WRONG, RIGHT)
    ask(run, 1)
    die(run)
    record = run_again(run)
    # The first answer was asked for once, checked again, and followed by the second question.
    assert (record.state, record.attempts, run.fake.count()) == ("succeeded", 2, 2)
    assert record.result is not None
    assert [each["passed"] for each in record.result["attempts"]] == [False, True]
    assert record.result["attempts"][0]["message"] in str(run.fake.requests()[1].body)
    assert entries(run) == [(1, 75_000), (2, 75_000)]
    assert record.cost_nanodollars == 150_000
    assert run.fleet.tasks.model_calls.saved(record.id) == ()


def test_an_answer_that_was_enough_costs_the_next_run_nothing(begin: Callable[..., Run]) -> None:
    run = begin()
    run.fake.script("small", RIGHT)
    ask(run, 1)
    die(run)
    record = run_again(run)
    assert (record.state, run.fake.count(), entries(run)) == ("succeeded", 1, [(1, 75_000)])
    # The model is known by its answer, whichever run has asked for it.
    assert record.model == "small"
    assert evidence(run) == {"small": pytest.approx(1, rel=1e-4)}


def evidence(run: Run) -> dict[str, float]:
    """How many rewards were counted for each model."""
    found = run.fleet.models.state.read().evidence
    return {model: each.rewards for (model, _), each in found.items() if each.rewards}


def test_a_run_that_goes_on_escalates_as_the_first_one_did_and_teaches_nothing_twice(
    begin: Callable[..., Run],
) -> None:
    run = begin()
    run.fake.script("small", WRONG)
    run.fake.script("middle", WRONG)
    run.fake.script("large", RIGHT)
    ask(run, 1)
    assert run.loop.run(run.context.escalate("small failed at tests", 0.0))
    ask(run, 2)
    die(run)
    record = run_again(run, max_attempts=1)
    assert [each.model for each in run.fake.requests()] == ["small", "middle", "large"]
    assert (record.state, record.model) == ("succeeded", "large")
    ones = pytest.approx(1, rel=1e-4)
    assert evidence(run) == {"small": ones, "middle": ones, "large": ones}


def test_an_answer_that_was_paid_for_is_looked_at_though_nobody_stronger_may_be_asked(
    begin: Callable[..., Run],
) -> None:
    run = begin()
    run.fake.script("small", WRONG)
    run.fake.script("middle", RIGHT)
    ask(run, 1)
    assert run.loop.run(run.context.escalate("small failed at tests", 0.0))
    ask(run, 2)
    die(run)
    for model in ("middle", "large", "huge"):
        known = next(each for each in run.fleet.models.catalogue if each.name == model)
        run.fleet.models.state.cool(known.key_ids[0], model, "an outage", 600)
    record = run_again(run, max_attempts=1)
    assert (record.state, record.model, run.fake.count()) == ("succeeded", "middle", 2)


def test_a_run_that_was_parked_goes_on_where_it_waited(begin: Callable[..., Run]) -> None:
    run = begin(PARKING)
    run.fake.script("small", answer("no code at all", 100, 900), RIGHT)
    ask(run, 1)
    die(run)
    # One call takes some $0.0006 at worst, and the first one took $0.0005.
    run.fleet.policy.store.set_limits({BUDGET: 1_000_000}, AuditActor("ann", "no more for now"))
    assert run_again(run).state == "parked"
    assert run.fake.count() == 1
    run.fleet.policy.store.set_limits({BUDGET: 10**9}, AuditActor("ann", "more"))
    assert release_due(run.fleet) == [run.lease.task_id]
    record = run_again(run)
    assert (record.state, run.fake.count()) == ("succeeded", 2)


def test_a_run_that_is_tried_again_goes_on_from_its_answers(begin: Callable[..., Run]) -> None:
    run = begin()
    ask(run, 1)
    status, _ = run.fleet.tasks.retries.put_back(run.lease, "{}", "Unavailable", 0)
    assert status == "parked"
    eventually(lambda: release_due(run.fleet) == [run.lease.task_id])
    later = resume_run(run.fleet, run.lease.task_id, run.fake, run.loop)
    ask(later, 1)
    assert (run.fake.count(), len(entries(run))) == (1, 1)
