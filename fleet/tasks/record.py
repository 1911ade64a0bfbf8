"""A task's record as a value: what is stored of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.models.rules.priorities import Priorities
from fleet.redis.scripts import text
from fleet.tasks.model_call import ModelCall
from fleet.tasks.rules.states import ENDED, Move, parse_history


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as Redis knows it. Times are seconds since 1970 by Redis's clock.

    `model` is the one that answered last, `answered_by` too, or the one whose answer the result
    holds, where the agent kept an earlier one. Until one has answered, `model` is the one that was
    chosen, and `answered_by` empty. `model_calls` are the first 50 of `model_call_count` calls.
    `rating` is what a user thought of the result, 0 to 1.

    `chosen` is the model that the task's money was held for, `because` why it is not the planned
    best one, packed: see `fleet.models.rules.downgrade_reasons`; empty where it is. `parked_for` is
    the packed refusal (`fleet.budgets.rules.refusals`) that a parked task waits for, `parked_until`
    when it may fit. A delayed task is not queued before `not_before`. Of `uncertain_calls` the cost
    is not known: the most it may be was charged.

    `history` has its moves, oldest first: the first one and the newest. Its workers died in
    `crashes` of the `attempts`, and it was tried again `retries` times, `retry_error` being the
    last error. A task that is to be tried again is parked, with no `parked_for`. `dead` says why it
    is a dead letter, see `fleet.tasks.rules.retries`; a retried one names the task that it was
    `retried_as`, and that one what it is a `retry_of`.

    Its submission asked for `asked_model` alone, where it named one; it may cost
    `limit_nanodollars`. Its model was chosen by its `priorities`.
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

    @property
    def wait_seconds(self) -> float | None:
        """From submission to the start of the latest run."""
        return self.started - self.submitted if self.started and self.submitted else None

    @property
    def run_seconds(self) -> float | None:
        """From the start of the latest run to the end."""
        return self.ended - self.started if self.ended and self.started else None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


def parse_record(task_id: str, fields: Mapping[Any, Any]) -> TaskRecord:
    """A record from a hash's fields."""
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
