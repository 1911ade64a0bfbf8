"""The recorded tasks that a simulation replays, from Redis or from a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet.errors import InvalidRequest
from fleet.models.rules.choice import NANODOLLARS
from fleet.simulation.rules.replay import PastTask
from fleet.tasks.store import TaskRecord, Tasks
from fleet.tasks.submission.checks import DEFAULT_TENANT
from fleet.text import brief

REPLAYED_STATES = frozenset({"succeeded", "unverified", "failed"})
"""Cancelled tasks have no complete run."""
UNKNOWN_COMPLEXITY = 0.5


class CsvTask(BaseModel):
    """A line of the file: its columns and their values."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    submitted: float = Field(description="seconds, from any start")
    request_type: str = Field(min_length=1, description="such as code_generation")
    run_seconds: float = Field(ge=0, description="duration of its run")
    wait_seconds: float | None = Field(None, ge=0, description="how long it waited for a slot")
    good: bool = Field(True, description="whether its answer was good: 1 or 0")
    pool: str = Field("", description="the pool that ran it")
    tenant: str = Field(DEFAULT_TENANT, description="its tenant")
    complexity: float = Field(UNKNOWN_COMPLEXITY, ge=0, le=1, description="0 to 1")
    model: str = Field("", description="the model that answered")
    input_tokens: int | None = Field(None, ge=0, description="tokens in")
    output_tokens: int | None = Field(None, ge=0, description="tokens out")
    cost_usd: float | None = Field(None, ge=0, description="what it cost, in US dollars")

    def recorded(self) -> PastTask:
        fields = self.model_dump(exclude={"cost_usd"})
        cost = None if self.cost_usd is None else round(self.cost_usd * NANODOLLARS)
        return PastTask(**fields, cost_nanodollars=cost)


def from_csv(path: Path) -> list[PastTask]:
    """The tasks of a file. Raises `InvalidRequest`, which names the line and the column."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            tasks = list(_lines(path, csv.DictReader(file, strict=True)))
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}; give a readable file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{path}: not a CSV file in UTF-8: {error}") from error
    if not tasks:
        raise InvalidRequest(f"{path}: has no tasks; write a header line, then one line per task")
    return tasks


def _lines(path: Path, rows: csv.DictReader[str]) -> Iterator[PastTask]:
    _check_columns(path, rows.fieldnames or ())
    for row in rows:
        where = f"{path}: line {rows.line_num}"
        if None in row or None in row.values():
            raise InvalidRequest(f"{where}: has another number of columns than the first line")
        try:
            # An empty cell stands for the default.
            yield CsvTask.model_validate({k: v for k, v in row.items() if v != ""}).recorded()
        except ValidationError as error:
            raise InvalidRequest(f"{where}: {_fault(error)}") from None


def _check_columns(path: Path, found: Sequence[str]) -> None:
    fields = CsvTask.model_fields
    unknown = [name for name in found if name not in fields]
    missing = [name for name, field in fields.items() if field.is_required() and name not in found]
    if unknown or missing:
        what = f"has no column {missing[0]}" if missing else f"column {unknown[0]!r} is unknown"
        raise InvalidRequest(f"{path}: line 1: {what}; the columns are {', '.join(fields)}")


def _fault(error: ValidationError) -> str:
    first = error.errors()[0]
    column, given = ".".join(map(str, first["loc"])), brief(first["input"])
    if first["type"] == "missing":
        return f"column {column} is empty; give a value"
    return f"column {column}: {given}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def from_records(tasks: Tasks, limit: int) -> tuple[list[PastTask], int]:
    """Those of the newest `limit` tasks that have ended, and the number of the others. Two calls.

    Raises `InvalidRequest` if none has ended.
    """
    found = tasks.newest(limit)
    ended = [recorded for record in found if (recorded := _recorded(record))]
    if not ended:
        raise InvalidRequest(
            f"none of the newest {limit} tasks has ended, so there is nothing to replay; submit "
            "some with `fleet submit`, or simulate a random load with --synthetic"
        )
    return ended, len(found) - len(ended)


def _recorded(record: TaskRecord) -> PastTask | None:
    submitted, run, wait = record.submitted, record.run_seconds, record.wait_seconds
    if record.state not in REPLAYED_STATES or not record.request_type:
        return None
    if submitted is None or run is None:
        return None
    return PastTask(
        submitted=submitted,
        request_type=record.request_type,
        run_seconds=max(run, 0.0),
        wait_seconds=wait,
        good=record.state == "succeeded",
        pool=record.pool,
        tenant=record.tenant,
        complexity=record.complexity,
        runs=max(record.attempts, 1),
        model=record.model,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cost_nanodollars=record.cost_nanodollars,
    )
