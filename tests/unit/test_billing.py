"""What is charged for a call, as far as that is told."""

from __future__ import annotations

import pytest

from fleet.agent import ModelReply
from fleet.models.rules.catalogue import Model
from fleet.models.rules.usage import MISSING
from fleet.tasks.model_call import ModelCall
from fleet.tasks.run.billing import bill_answer

WORST = ModelCall("m", "p", "first", "", input_tokens=100, output_tokens=64, cost_nanodollars=1000)


@pytest.mark.parametrize(
    ("told", "charged"),
    [
        ((0, 0, 0), (100, 64, 1000)),
        ((20, 0, 20), (100, 64, 1000)),
        ((5000, 0, 50_000), (5000, 64, 50_000)),
        ((0, 900, 9000), (100, 900, 9000)),
    ],
)
def test_an_answer_without_all_of_its_usage_is_charged_at_worst_and_no_less_than_was_told(
    told: tuple[int, int, int], charged: tuple[int, int, int]
) -> None:
    into, out, cost = told
    reply = ModelReply(
        text="good day",
        model="m",
        input_tokens=into,
        output_tokens=out,
        cost_nanodollars=cost,
        seconds=1.0,
        usage_missing=True,
    )
    call = bill_answer(WORST, Model("m", "p", None, 0.5, 0.5), reply, 64)
    assert (call.input_tokens, call.output_tokens, call.cost_nanodollars) == charged
    assert call.usage == MISSING
