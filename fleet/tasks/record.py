"""The record of a task, parsed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.models.rules.priorities import Priorities
from fleet.redis.scripts import text
from fleet.tasks.model_call import ModelCall
from fleet.tasks.rules import ENDED, Move, parse_history
from fleet.untrusted import NO_GRANTS, Grants


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as Redis knows it. Times are seconds since 1970 by Redis's clock.

    `model` and `answered_by` are the model whose answer the result holds: the last one that
    answered, unless the agent kept an earlier answer. Before the first answer, `model` is the
    chosen model and `answered_by` is empty. `model_calls` are the first 50 of `model_call_count`
    calls. `rating` is a user's rating of the result, 0 to 1.

    `chosen` is the model that the task's money was reserved for. `because` is the packed reason why
    it is not the planned best one (see `fleet.models.rules.downgrade_reasons`), empty if it is.
    `parked_for` is the packed refusal (`fleet.budgets.rules.refusals`) of the limit that a task on
    hold waits for, and `parked_until` when it may fit. A delayed task is not queued before
    `not_before`. The cost of `uncertain_calls` is unknown: their upper bound was charged.

    `history` has the first move and the newest ones, oldest first. Workers died in `crashes` of the
    `attempts`. The task was retried `retries` times; `retry_error` is the last error. A task that
    waits for a retry has the state `parked` and no `parked_for`. `dead` is the reason why it is a
    dead letter, see `fleet.tasks.rules`. A retried dead letter names its new task in `retried_as`;
    the new task names the old one in `retry_of`.

    `asked_model` is the one model that the submission allowed, if it named one. The task may cost
    `limit_nanodollars`. Its model was chosen by its `priorities`. `grants` are the tools that its
    agent may use.
    """

    id: str
    state: str
    request_type: str
    agent_type: str
    tenant: str
    complexity: float
    pool: str
    agent: str
    model: str
    submitted: float | None
    started: float | None
    ended: float | None
    attempts: int
    fence: int
    input_tokens: int
    output_tokens: int
    cost_nanodollars: int
    progress: str
    summary: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    ranking: dict[str, Any] | None
    model_decision: dict[str, Any] | None
    loads: str
    routed: str
    pinned: str
    answered_by: str = ""
    model_calls: tuple[ModelCall, ...] = ()
    model_call_count: int = 0
    rating: float | None = None
    chosen: str = ""
    because: str = ""
    parked_for: str = ""
    parked_until: float | None = None
    uncertain_calls: int = 0
    not_before: float | None = None
    history: tuple[Move, ...] = ()
    crashes: int = 0
    retries: int = 0
    retry_error: dict[str, Any] | None = None
    dead: str = ""
    retry_of: str = ""
    retried_as: str = ""
    asked_model: str = ""
    limit_nanodollars: int | None = None
    priorities: Priorities | None = None
    grants: Grants = NO_GRANTS

    @property
    def wait_seconds(self) -> float | None:
        """Seconds from submission to the start of the latest run."""
        return self.started - self.submitted if self.started and self.submitted else None

    @property
    def run_seconds(self) -> float | None:
        """Seconds from the start of the latest run to the end."""
        return self.ended - self.started if self.ended and self.started else None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


def parse_record(task_id: str, fields: Mapping[Any, Any]) -> TaskRecord:
    """Parse a record from the fields of its hash."""
    found = {text(name): text(value) for name, value in fields.items()}

    def seconds(name: str) -> float | None:
        return int(found[name]) / 1000 if name in found else None

    def value(name: str) -> Any:
        return json.loads(found[name]) if name in found else None

    plan = value("plan") or {}
    return TaskRecord(
        id=task_id,
        state=found["state"],
        request_type=plan.get("request_type", ""),
        agent_type=plan.get("agent_type", ""),
        tenant=found.get("tenant", ""),
        complexity=float(plan.get("complexity", 0.5)),
        pool=found.get("pool", ""),
        agent=found.get("agent", ""),
        model=found.get("model") or found.get("chosen") or plan.get("model", ""),
        submitted=seconds("submitted"),
        started=seconds("started"),
        ended=seconds("ended"),
        attempts=int(found.get("attempts", 0)),
        fence=int(found.get("fence", 0)),
        input_tokens=int(found.get("input_tokens", 0)),
        output_tokens=int(found.get("output_tokens", 0)),
        cost_nanodollars=int(found.get("cost_nanodollars", 0)),
        progress=found.get("progress", ""),
        summary=found.get("summary", ""),
        result=value("result"),
        error=value("error"),
        ranking=plan.get("ranking"),
        model_decision=plan.get("model_decision"),
        loads=found.get("loads", ""),
        routed=found.get("routed", ""),
        pinned=plan.get("pinned") or "",
        answered_by=found.get("model", ""),
        model_calls=tuple(_model_calls(found)),
        model_call_count=int(found.get("steps", 0)),
        rating=float(found["rating"]) if "rating" in found else None,
        chosen=found.get("chosen", ""),
        because=found.get("because", ""),
        parked_for=found.get("parked_for", ""),
        parked_until=seconds("parked_until"),
        uncertain_calls=int(found.get("uncertain_calls", 0)),
        not_before=seconds("not_before"),
        history=parse_history(found.get("history", "")),
        crashes=int(found.get("crashes", 0)),
        retries=int(found.get("retries", 0)),
        retry_error=value("retry_error"),
        dead=found.get("dead", ""),
        retry_of=found.get("retry_of", ""),
        retried_as=found.get("retried_as", ""),
        asked_model=plan.get("asked_model") or "",
        limit_nanodollars=plan.get("limit_nanodollars"),
        priorities=_priorities(plan.get("model_decision")),
        grants=Grants.from_json(plan.get("grants")),
    )


def _priorities(decision: Mapping[str, Any] | None) -> Priorities | None:
    stored = (decision or {}).get("priorities")
    return Priorities(*stored) if stored else None


def _model_calls(found: Mapping[str, str]) -> Iterator[ModelCall]:
    for number in range(1, int(found.get("steps", 0)) + 1):
        stored = found.get(f"step:{number}")
        if stored is None:
            return
        yield ModelCall.parse(stored)
