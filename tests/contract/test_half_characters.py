"""Answers, results and requests with half a surrogate pair: what was paid for is kept, and what was
not yet written is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

import pytest
import redis
from fake_provider import answer
from task_runs import PRICED, Run, runner_of
from typer.testing import CliRunner

from fleet.agent import AgentContext, AgentSpec, Outcome, Payload, Result
from fleet.broker.messages import message_encoder
from fleet.cli.main import app
from fleet.errors import InvalidRequest, TaskFailed
from fleet.ledger.verification import verify
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.reaper import reap
from fleet.tasks.record import TaskRecord
from fleet.tasks.submission.checks import Submission
from workers.code_generator import SPEC as CODE

HALF = "\ud83d"
CODE_WITH_HALF = f'```python\ndef add(a, b):\n    """Add. {HALF}"""\n    return a + b\n```'


class Order(Payload):
    instruction: str = "add"
    fails: str = ""


class Anything(Payload):
    value: object = None


class Odd(Result):
    text: str
    more: dict[str, list[str]]
    ratio: float


class Careless:
    """Writes half characters wherever it can."""

    async def run(self, payload: Order, context: AgentContext) -> Outcome:
        reply = await context.ask(f"say hi {HALF}", instructions=HALF, save_as="hi")
        await context.report(f"half way {HALF}")
        await context.save("step", {HALF: [HALF, "ok"]})
        await context.escalate(f"odd {HALF}", 0.5)
        if payload.fails == "on purpose":
            raise TaskFailed(f"no {HALF}")
        if payload.fails:
            raise LookupError(f"no {HALF}")
        saved = context.saved("step")
        odd = Odd.model_construct(text=reply.text + HALF, more={HALF: [*saved]}, ratio=math.inf)
        return Outcome("succeeded", odd, f"done {HALF}")


ODD = AgentSpec("code_generator", Order, Odd, f"{__name__}:Careless")
LOOSE = AgentSpec("code_generator", Anything, Odd, f"{__name__}:Careless")


@pytest.fixture
def paid(start: Callable[..., Run]) -> Run:
    """A task whose first model says half a character and costs something."""
    run = start(**PRICED)
    run.fake.script("small", answer(CODE_WITH_HALF, 100, 50))
    return run


def work(run: Run, spec: AgentSpec, **order: object) -> TaskRecord:
    """Run the task as another worker does, whose first one is not heard of again."""
    assert run.fleet.tasks.records.renew(run.lease, 0)
    assert reap(run.fleet)["requeued"] == [run.lease.task_id]
    delivery = Delivery(run.lease.task_id, order, "default", lambda: "")
    runner_of(run.fleet, spec).run("code_generator", delivery)
    return run.record


def is_settled(run: Run) -> None:
    (entry,) = run.fleet.ledger.entries.page("0-0").entries
    assert (entry.amount, entry.usage) == (75_000, "seen")
    assert verify(run.fleet.ledger).differences == ()


def test_code_with_half_a_character_is_charged_checked_and_kept(paid: Run) -> None:
    tests = "assert add(1, 2) == 3"
    record = work(paid, CODE, instruction="Write add(a, b).", tests=tests)
    assert record.state == "succeeded"
    assert record.result is not None
    assert '"""Add. \ufffd"""' in record.result["code"]
    is_settled(paid)


def test_all_that_an_agent_writes_is_kept(paid: Run) -> None:
    record = work(paid, ODD)
    assert (record.state, record.summary) == ("succeeded", "done \ufffd")
    assert record.result is not None
    assert record.result["text"].endswith("```\ufffd")
    assert record.result["more"] == {"\ufffd": ["\ufffd"]}
    assert Odd.model_validate(record.result).ratio == math.inf
    json.dumps(record.result, ensure_ascii=False).encode()
    is_settled(paid)


@pytest.mark.parametrize(
    ("fails", "summary"),
    [
        ("on purpose", "no \ufffd"),
        ("by mistake", "the agent failed: LookupError: no \ufffd"),
    ],
)
def test_an_error_with_half_a_character_is_told(paid: Run, fails: str, summary: str) -> None:
    with pytest.raises(TaskFailed, match=summary):
        work(paid, ODD, fails=fails)
    assert (paid.record.state, paid.record.summary) == ("failed", summary)
    is_settled(paid)


@pytest.mark.parametrize(
    "given",
    [
        ['{"instruction": "\\ud83d"}'],
        ["--set", "instruction=\udcff"],
        ['{"instruction": "add"}', "--tenant", "\udcff"],
    ],
)
def test_the_command_line_refuses_it_in_a_sentence(
    start: Callable[..., Run], given: list[str]
) -> None:
    start()
    refused = CliRunner().invoke(app, ["submit", "code_generation", *given]).exception
    assert isinstance(refused, InvalidRequest)
    assert re.search("half a surrogate|tenant name", str(refused))
    str(refused).encode()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Submission("code_generation", {"instruction": HALF}), "instruction: holds half"),
        (Submission("code_generation", {HALF: "add"}), "holds half"),
        (Submission("code_generation", {"instruction": "add"}, tenant=HALF), "no tenant name"),
        (Submission("code_generation", {"instruction": "add"}, idempotency_key=HALF), "key must"),
        (Submission("code_generation", {"instruction": "add"}, pool=HALF), "no pool is called"),
        (Submission("code_generation", {"instruction": "add"}, model=HALF), "model"),
        (Submission(HALF, {"instruction": "add"}), "no request type is called"),
        (Submission("code_generation", Anything(value={HALF: [HALF]})), "holds half a surrogate"),
        (Submission("code_generation", Anything(value=[1.0, math.nan])), "that is not finite"),
    ],
)
def test_a_request_that_nobody_could_write_down_is_refused_before_anything_is_written(
    start: Callable[..., Run], client: redis.Redis, asked: Submission, words: str
) -> None:
    submitter = start().fleet.submitter(message_encoder())
    if isinstance(asked.payload, Anything):
        submitter.checks.agents = {"code_generator": LOOSE}
    before = sorted(client.keys("*"))
    with pytest.raises(InvalidRequest, match=words) as caught:
        submitter.submit(asked)
    str(caught.value).encode()
    assert sorted(client.keys("*")) == before
