"""How the error of a run is kept and told again."""

from __future__ import annotations

import json

import pytest

from fleet import errors
from fleet.errors import FleetError, OverBudget, OverLimit, RateLimited, TaskFailed
from fleet.tasks.run.outcome import error_from, error_json

KINDS = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, FleetError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_can_be_stored_and_told_again(kind: type[FleetError]) -> None:
    told = error_from(json.loads(error_json(kind("it is so"))), None)
    assert (type(told), str(told)) == (kind, "it is so")


@pytest.mark.parametrize("kind", [OverBudget, OverLimit, RateLimited])
def test_an_error_says_after_it_was_stored_when_to_come_back(kind: type[FleetError]) -> None:
    told = error_from(json.loads(error_json(kind("it is full", 42.5))), None)  # type: ignore[call-arg]
    assert type(told) is kind
    assert (str(told), getattr(told, "retry_after", 0)) == ("it is full", 42.5)


def test_where_no_time_will_help_the_stored_error_says_so_too() -> None:
    told = error_from(json.loads(error_json(OverBudget("too dear"))), None)
    assert isinstance(told, OverBudget)
    assert told.retry_after is None


def test_an_error_that_is_not_known_here_is_a_failure() -> None:
    told = error_from({"type": "OfALaterVersion", "message": "odd"}, None)
    assert (type(told), str(told)) == (TaskFailed, "odd")
