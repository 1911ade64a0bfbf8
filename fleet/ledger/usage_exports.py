"""Reads a provider's usage export: a CSV file with a line for each day and model.

    date            a UTC day as YYYY-MM-DD
    model           as the ledger names it
    input_tokens    cached ones included
    output_tokens
    cost_usd        US dollars, as a decimal
    cached_input_tokens   optional; without the column cached tokens are not compared
    requests              optional in the same way; the number of calls by the provider's count

Lines of the same day and model, such as those of several keys, are added up: the ledger has no
keys, and no provider's export has single calls. Other columns are ignored.

No provider exports exactly these columns. OpenAI's export has input_cached_tokens and
num_model_requests, and its costs in another file. Anthropic's has separate columns for input that
was not cached, written to the cache and read from it, which must be added up, and no requests.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from fleet.errors import InvalidRequest
from fleet.ledger.rules.reconciliation import Billed, BillKey
from fleet.money import NANODOLLARS

NEEDED = ("date", "model", "input_tokens", "output_tokens", "cost_usd")
CACHED = "cached_input_tokens"
REQUESTS = "requests"
MAX_DOLLARS = 10**12
OPTIONAL = (CACHED, REQUESTS)


def read_usage_export(path: Path) -> tuple[list[tuple[BillKey, Billed]], frozenset[str]]:
    """The lines of an export, and the optional columns that it has.

    Raises `InvalidRequest` with the line and the problem.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            missing = [name for name in NEEDED if name not in columns]
            if missing:
                raise InvalidRequest(
                    f"{path}: has no column {', '.join(missing)}; a usage export has the columns "
                    f"{', '.join(NEEDED)}, and may have {' and '.join(OPTIONAL)}"
                )
            return list(_lines(path, reader)), frozenset(columns) & frozenset(OPTIONAL)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{path}: cannot be read ({error}); give a CSV file") from error


def _lines(path: Path, reader: csv.DictReader[str]) -> Iterator[tuple[BillKey, Billed]]:
    for row in reader:
        try:
            if None in row or None in row.values():
                raise ValueError("it has another number of columns than the first line")
            yield _line(row)
        except ValueError as error:
            raise InvalidRequest(
                f"{path}: line {reader.line_num}: {error!s:.200}; write a day as YYYY-MM-DD, whole "
                "numbers of tokens and requests, and US dollars as a decimal"
            ) from error


def _line(row: dict[str, str]) -> tuple[BillKey, Billed]:
    day = date.fromisoformat(row["date"])
    model = row["model"].strip()
    if not model:
        raise ValueError("it names no model")
    billed = Billed(
        int(row["input_tokens"]),
        int(row.get(CACHED) or 0),
        int(row["output_tokens"]),
        nanodollars(row["cost_usd"]),
        int(row.get(REQUESTS) or 0),
    )
    if min(billed.input, billed.cached, billed.output) < 0:
        raise ValueError("tokens are under 0")
    if billed.requests < 0:
        raise ValueError("requests are under 0")
    return BillKey(day.isoformat().replace("-", ""), model), billed


def nanodollars(dollars: str) -> int:
    """US dollars in text as nano-dollars, rounded to the nearest.

    Raises `ValueError` if the text is no number.
    """
    try:
        amount = Decimal(dollars)
    except InvalidOperation:
        raise ValueError(f"{dollars[:40]!r} is no number of dollars") from None
    if not amount.is_finite() or abs(amount) > MAX_DOLLARS:
        raise ValueError(f"{dollars:.40} is no number of dollars up to {MAX_DOLLARS:,}")
    return int((amount * NANODOLLARS).to_integral_value())
